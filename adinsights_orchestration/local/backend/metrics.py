"""The backend's Prometheus metrics: its own requests by method and status, and how long they took.

Belongs here: counting and the text format, with django-prometheus' names. Does not belong here: what an error rate is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_INTERNAL_ERROR = 500


class RequestMetrics:
    """Counts requests since the server's start; a restart begins at zero, as counters do."""

    def __init__(self) -> None:
        self._methods: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0

    def count(self, method: str, status: int, seconds: float) -> None:
        """Adds one request."""
        self._methods[method] += 1
        self._statuses[status] += 1
        self._seconds += seconds
        for bound in _BUCKETS_SECONDS:
            if seconds <= bound:
                self._buckets[bound] += 1

    def text(self) -> str:
        """The Prometheus text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        name = "django_http_requests_total_by_method_total"
        yield from _head(name, "Count of requests by method.", "counter")
        for method, count in sorted(self._methods.items()):
            yield f'{name}{{method="{method}"}} {float(count)}'
        name = "django_http_responses_total_by_status_total"
        yield from _head(name, "Count of responses by status.", "counter")
        for status, count in sorted(self._statuses.items()):
            yield f'{name}{{status="{status}"}} {float(count)}'
        name = "django_http_requests_latency_including_middlewares_seconds"
        yield from _head(name, "Histogram of requests processing time.", "histogram")
        total = self._statuses.total()
        for bound in _BUCKETS_SECONDS:
            yield f'{name}_bucket{{le="{bound}"}} {float(self._buckets[bound])}'
        yield f'{name}_bucket{{le="+Inf"}} {float(total)}'
        yield f"{name}_count {float(total)}"
        yield f"{name}_sum {self._seconds}"


class CountedServer:
    """An application whose requests are counted, whoever answers them."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the request and counts its status; one that ends without a status is an internal error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), _INTERNAL_ERROR

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.count(scope["method"], status, time.monotonic() - started)


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
