"""Slack over HTTP: the Web API with what can go wrong on the way, the page, and its button.

Belongs here: requests, tokens, cut connections. Does not belong here: what a method does (`world`). `GET /` is the
page; `/api/<method>` is the API.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.knobs import KnobArea
from adinsights_orchestration.local.serving import drop_connection
from adinsights_orchestration.local.slack.page import page_of
from adinsights_orchestration.local.slack.world import TOKEN, WRITES, SlackError, SlackWorld


class _LostError(Exception):
    """The connection is cut without an answer."""


def create_slack_app(world: SlackWorld) -> Starlette:
    """Builds the API and the page."""
    knobs, late = world.knobs, set[asyncio.Task[None]]()

    async def method(request: Request) -> Response:
        name = request.path_params["method"]
        if delay := knobs.get("slow_ms"):
            await asyncio.sleep(delay / 1000)
        world.calls.append(name)
        if knobs.get("down"):
            return Response("no healthy upstream", 503, media_type="text/plain")
        asked = await _asked(request)
        try:
            answer = await _carried_out(world, name, asked, late)
        except _LostError:
            drop_connection(request.scope)
            return Response()
        except SlackError as error:
            body = {"ok": False, "error": error.word}
            return JSONResponse(body, error.status, {**error.headers, "x-oauth-scopes": knobs.get("scopes")})
        return JSONResponse({"ok": True, **answer}, headers={"x-oauth-scopes": knobs.get("scopes")})

    async def react(request: Request) -> Response:
        world.react(request.path_params["channel"], request.path_params["ts"])
        return RedirectResponse("../../../", 303)

    async def page(_: Request) -> Response:
        return HTMLResponse(page_of(world))

    return Starlette(
        routes=[
            Route("/", page),
            Route("/react/{channel}/{ts}", react, methods=["POST"]),
            Route("/api/{method}", method, methods=["GET", "POST"]),
        ]
    )


async def _carried_out(
    world: SlackWorld, name: str, asked: Mapping[str, Any], late: set[asyncio.Task[None]]
) -> dict[str, Any]:
    knobs = world.knobs
    if asked.get("token") != TOKEN:
        raise SlackError("invalid_auth")
    if name not in world.methods:
        raise SlackError("unknown_method")
    if name not in WRITES:
        return world.methods[name](asked)
    if word := str(knobs.get("error") or _taken(knobs, "error_next")):
        wait = {"Retry-After": str(knobs.get("retry_after"))}
        raise SlackError(word, *((429, wait) if word == "ratelimited" else ()))
    if knobs.take("requests_lost"):
        raise _LostError
    if delay := knobs.get("applied_late_ms"):

        async def apply() -> None:
            await asyncio.sleep(delay / 1000)
            world.methods[name](asked)

        task = asyncio.create_task(apply())
        late.add(task)
        task.add_done_callback(late.discard)
        raise _LostError
    answer = world.methods[name](asked)
    if knobs.take("replies_lost"):
        raise _LostError
    return answer


def _taken(knobs: KnobArea, name: str) -> str:
    waiting = knobs.get(name)
    if not waiting:
        return ""
    knobs.set(name, waiting[1:])
    return str(waiting[0])


async def _asked(request: Request) -> dict[str, Any]:
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    body: Mapping[str, Any] = {}
    if request.method == "POST":
        is_json = request.headers.get("content-type", "").startswith("application/json")
        content = (await request.body()).decode()
        # A method without arguments comes as JSON without a body.
        body = json.loads(content or "{}") if is_json else dict(parse_qsl(content, keep_blank_values=True))
    return {"token": token, **dict(request.query_params), **body}
