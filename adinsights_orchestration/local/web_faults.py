"""What can go wrong with any web server on request, as its clients see it.

Belongs here: knobs that do not depend on what is asked, and the wrapper that answers for the server. Does not belong
here: faults of one endpoint, and those of Airbyte, whose clients meet others (`airbyte.faults`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adinsights_orchestration.local.knobs import Knob, KnobArea

WEB_KNOBS = (
    Knob("down", False, "Every request is answered 503 in plain text, as a load balancer does without a server."),
    Knob("html_error", False, "Every request is answered 502 with an HTML page, as a proxy does."),
    Knob("slow_ms", 0, "Delay before every reply, in milliseconds."),
    Knob("hang", False, "No request is ever answered; its connection stays open."),
    Knob("trickle", False, "Every reply comes one byte at a time, without an end."),
    Knob("truncated_json", False, "Every request is answered 200 with half a JSON document."),
    Knob("redirect_loop", False, "Every request is sent on to its own address."),
    Knob("oversize", False, "Every request is answered 200 with 16 MiB."),
    Knob("error_percent", 0, "So many of a hundred requests are answered 500."),
)
_PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_TRICKLE_SECONDS = 0.05
_PIECE = b" " * 65536
_PIECES = 256

_ANSWERS: dict[str, Callable[[], Response]] = {
    "down": lambda: PlainTextResponse("no healthy upstream", status_code=503),
    "html_error": lambda: HTMLResponse(_PROXY_PAGE, status_code=502),
    "truncated_json": lambda: Response('{"status": "ok", "detail": "The la', media_type="application/json"),
    "oversize": lambda: Response(_PIECE * _PIECES, media_type="application/json"),
}


class FaultyWeb:
    """The application behind the faults."""

    def __init__(self, app: ASGIApp, knobs: KnobArea) -> None:
        self._app = app
        self._knobs = knobs
        self._requests = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers for the server where a knob says so, else lets it answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if delay := self._knobs.get("slow_ms"):
            await asyncio.sleep(delay / 1000)
        if self._knobs.get("hang"):
            await _gone(receive)
        elif self._knobs.get("trickle"):
            await _trickle(receive, send)
        else:
            await (self._fault(scope) or self._app)(scope, receive, send)

    def _fault(self, scope: Scope) -> Response | None:
        knobs = self._knobs
        if knobs.get("redirect_loop"):
            return RedirectResponse(scope["path"])
        for name, answer in _ANSWERS.items():
            if knobs.get(name):
                return answer()
        if percent := knobs.get("error_percent"):
            turn = next(self._requests)
            if turn * percent // 100 != (turn + 1) * percent // 100:
                return PlainTextResponse("A server error occurred.", status_code=500)
        return None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _trickle(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    gone = asyncio.create_task(_gone(receive))
    while not gone.done():
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(gone), _TRICKLE_SECONDS)
