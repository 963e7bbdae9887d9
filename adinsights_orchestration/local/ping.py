"""Who expects the dead-man's ping: a page per check that says when it was last heard of.

Belongs here: the receiver with its fault knobs. Does not belong here: telling anybody; that is the real service's work.
`GET /ping/<check>` is a ping, `GET /ping/` lists what was heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.web_faults import WEB_KNOBS, FaultyWeb

AREA = "ping"


@dataclass
class _Heard:
    count: int
    last_at: datetime


def create_ping_app(knobs: Knobs, *, clock: Clock = utc_now) -> Starlette:
    """Builds the receiver."""
    area = knobs.declare(AREA, WEB_KNOBS)
    heard: dict[str, _Heard] = {}

    async def ping(request: Request) -> Response:
        name = request.path_params["check"]
        known = heard.setdefault(name, _Heard(0, clock()))
        known.count, known.last_at = known.count + 1, clock()
        return PlainTextResponse("OK")

    async def listing(_: Request) -> Response:
        said = {name: {"count": one.count, "last_at": one.last_at.isoformat()} for name, one in heard.items()}
        return JSONResponse(said)

    return Starlette(
        routes=[Route("/", listing), Route("/{check}", ping, methods=["GET", "POST", "HEAD"])],
        middleware=[Middleware(FaultyWeb, knobs=area)],
    )
