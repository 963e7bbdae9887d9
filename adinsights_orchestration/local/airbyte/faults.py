"""What can go wrong with the Airbyte server on request: the knobs of area `airbyte`, and those that hit every request.

Belongs here: the declarations, and the wrapper that delays, refuses or breaks replies before any handler runs. Does
not belong here: faults of one call (the handlers) or of one sync (the executors), which read their knobs themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adinsights_orchestration.local.airbyte.problems import rate_limited, unauthorized
from adinsights_orchestration.local.knobs import Knob, KnobArea, Knobs
from adinsights_orchestration.local.serving import drop_connection

AREA = "airbyte"
AIRBYTE_KNOBS = (
    Knob("down", False, "Every request is answered 503 in plain text, as a load balancer does without a server."),
    Knob("refuse_connections", False, "Every connection is closed without a reply."),
    Knob("html_error", False, "Every request is answered 502 with an HTML page, as a proxy does."),
    Knob("no_route", False, "Every request is answered 404 in the JSON of a gateway that has lost its way to Airbyte."),
    Knob("config_api_down", False, "Requests to /api/v1 are answered 503; the public API works."),
    Knob("slow_ms", 0, "Delay before every reply, in milliseconds."),
    Knob("unauthorized_next", 0, "That many requests are answered 401, whatever their credentials."),
    Knob("rate_limited_next", 0, "That many requests are answered 429, without Retry-After."),
    Knob("post_slow_ms", 0, "POST /jobs starts the job, then waits this long before it replies, in milliseconds."),
    Knob("post_lost_reply_next", 0, "That many POST /jobs start the job and then lose the connection."),
    Knob("post_threads", 0, "How many POST /jobs the server works on at once; 0 is as many as come."),
    Knob("post_ms", 0, "How long each POST /jobs occupies its server thread, in milliseconds."),
    Knob("conflict_running_next", 0, "That many POST /jobs are answered 409 try-again-later though nothing runs."),
    Knob(
        "conflict_state_next",
        0,
        "That many POST /jobs are answered 409 state-conflict though the connection is active.",
    ),
    Knob("repeat_page", False, "Listings ignore the offset: the same page comes again for ever."),
    Knob("vanish_job", [], "Ids of jobs that are answered 404 and not listed."),
    Knob("no_jobs", [], "Ids of workspaces that are listed, and whose jobs are answered 403 all the same."),
    Knob("forbidden", [], "Ids of connections and workspaces: listings of jobs that name one are answered 403."),
    Knob("clock_skew_seconds", 0.0, "Every moment that the server tells or compares is shifted by this much."),
    Knob("queued_state", False, "Pending jobs are shown as `queued`, as newer servers do."),
    Knob(
        "fail_connection",
        {},
        "Connection id -> failureType, failureOrigin, externalMessage: its attempts fail with it.",
    ),
    Knob("empty_connection", [], "Ids of connections whose syncs succeed without a single record."),
    Knob("schema_break", [], "Ids of connections whose next sync discovers a breaking schema change."),
    Knob("webhook_drop_next", 0, "That many finished jobs are not posted to the webhook."),
    Knob("webhook_delay_ms", 0, "Delay between the end of a job and its webhook post, in milliseconds."),
)


def declare(knobs: Knobs) -> KnobArea:
    """Declares the area and returns it."""
    return knobs.declare(AREA, AIRBYTE_KNOBS)


def skew(knobs: KnobArea) -> timedelta:
    """How far the server's clock is from the true one."""
    return timedelta(seconds=knobs.get("clock_skew_seconds"))


class FaultyServer:
    """The application behind the faults that do not depend on what is asked."""

    def __init__(self, app: ASGIApp, knobs: KnobArea) -> None:
        self._app = app
        self._knobs = knobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers for the server where a knob says so, else lets it answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._knobs.get("refuse_connections"):
            drop_connection(scope)
            return
        if delay := self._knobs.get("slow_ms"):
            await asyncio.sleep(delay / 1000)
        answer = self._fault(scope["path"])
        await (answer or self._app)(scope, receive, send)

    def _fault(self, path: str) -> Response | None:
        knobs = self._knobs
        for name, answer in _INSTEAD.items():
            if knobs.get(name):
                return answer()
        if knobs.get("config_api_down") and "/api/v1/" in path:
            return JSONResponse({"message": "Service Unavailable"}, status_code=503)
        if knobs.take("unauthorized_next"):
            return unauthorized(path)
        if knobs.take("rate_limited_next"):
            return rate_limited()
        return None


_PROXY_PAGE = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_INSTEAD: dict[str, Callable[[], Response]] = {
    "down": lambda: PlainTextResponse("no healthy upstream", status_code=503),
    "html_error": lambda: HTMLResponse(_PROXY_PAGE, status_code=502),
    "no_route": lambda: JSONResponse({"message": "no Route matched with those values"}, status_code=404),
}
