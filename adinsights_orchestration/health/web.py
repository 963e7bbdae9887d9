"""One HTTP request of a probe: within one deadline, of bounded size, and whatever happens a value.

Belongs here: sending, reading, and telling what came back or why nothing did. Does not belong here: what an answer
means (`probes`). A probe meets the world as it is: a socket that hangs or trickles, a proxy's page, half a document, a
certificate for another name. Nothing that is told holds an address' query, a key, or more than a line of a body.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from adinsights_orchestration import tls

LARGEST_BODY_BYTES = 4 * 1024**2  # a page or a health document has kilobytes, the metrics of a large backend some 100
_MOST_REDIRECTS = 5
_LONGEST_DETAIL = 300
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,80})", re.IGNORECASE)
# Not compressed: a few kilobytes could become gigabytes.
_HEADERS = {"user-agent": "adinsights-orchestration", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    kind: str
    body: bytes
    latency_ms: float

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_page(self) -> bool:
        """Whether it is an HTML page."""
        return "html" in self.kind or self.body.lstrip()[:1] == b"<"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer, or none that can be read.

    Attributes:
        state: One word: `timeout`, `refused`, `dns`, `wrong_certificate`, `html`, `truncated_json`, ...
        detail: One line for people.
        latency_ms: How long it took to find out.
        status: The HTTP status, where there was one.
    """

    state: str
    detail: str
    latency_ms: float
    status: int | None = None


@dataclass(slots=True)
class Web:
    """An HTTP client for the probes of one tick; an asynchronous context manager.

    Attributes:
        timeout_seconds: How long one request may take as a whole.
        answered: The status of every answer that came from each host, for telling our own requests from others'.
    """

    timeout_seconds: float
    answered: list[tuple[str, int]] = field(default_factory=list)
    _client: httpx.AsyncClient = field(init=False, repr=False)

    async def __aenter__(self) -> Self:
        """Opens the client; nothing is connected yet."""
        self._client = httpx.AsyncClient(
            headers=_HEADERS,
            timeout=self.timeout_seconds,
            trust_env=False,
            verify=tls.verifying(),
            max_redirects=_MOST_REDIRECTS,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes every connection."""
        await self._client.aclose()

    async def ask(
        self,
        url: str,
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        follow: bool = True,
    ) -> Reply | Trouble:
        """Sends one request and returns what came of it; raises nothing but a cancellation.

        Args:
            url: The address.
            method: The HTTP method.
            params: The query.
            headers: Further headers; give `follow=False` with a secret one, or another host would be told it.
            body: A JSON body.
            follow: Whether redirects are followed.
        """
        began = monotonic()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                request = self._client.build_request(method, url, params=params, headers=headers, json=body)
                reply = await self._read(request, began, follow)
        except TimeoutError:
            reply = Trouble("timeout", f"no whole answer within {self.timeout_seconds:g} s", _since(began))
        except Exception as error:  # noqa: BLE001  (the layers below raise more kinds than they promise)
            reply = Trouble(*_told(error), _since(began))
        if reply.status is not None:
            self.answered.append((host_of(url), reply.status))
        return reply

    async def _read(self, request: httpx.Request, began: float, follow: bool) -> Reply | Trouble:
        response = await self._client.send(request, stream=True, follow_redirects=follow)
        try:
            if response.has_redirect_location:
                where = "another address"
                return Trouble(
                    "redirected", f"HTTP {response.status_code} to {where}", _since(began), response.status_code
                )
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LARGEST_BODY_BYTES:
                    detail = f"the answer is larger than {LARGEST_BODY_BYTES // 1024**2} MiB"
                    return Trouble("oversize", detail, _since(began), response.status_code)
            kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
            return Reply(response.status_code, kind, bytes(body), _since(began))
        finally:
            await response.aclose()


def json_of(reply: Reply) -> dict[str, Any] | Trouble:
    """The object that the body holds, whatever the status: a refusal carries its diagnosis there."""
    if reply.is_page:
        title = _TITLE.search(reply.body)
        named = f", {title[1].decode('utf-8', 'replace').strip()!r}" if title else ""
        return _unreadable(reply, "html", f"a page instead of an answer (HTTP {reply.status}{named})")
    try:
        value = json.loads(reply.body)
    except ValueError:
        began = reply.body.lstrip()[:1] in (b"{", b"[")
        if began or reply.kind.endswith("json"):
            return _unreadable(reply, "truncated_json", f"half a JSON document (HTTP {reply.status})")
        said = one_line(reply.text, 80)
        # A load balancer without a server behind it says so in plain words: the status tells more than their form.
        state = f"http_{reply.status}" if reply.status >= 500 else "not_json"
        return _unreadable(reply, state, f"HTTP {reply.status}: {said}" if said else f"HTTP {reply.status}, no body")
    if not isinstance(value, dict):
        return _unreadable(
            reply, "not_json", f"a JSON {type(value).__name__} instead of an object (HTTP {reply.status})"
        )
    return value


def one_line(text: object, longest: int = _LONGEST_DETAIL) -> str:
    """A text as one line of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def host_of(url: str) -> str:
    """The host and port of an address, without credentials and query."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "an address that is none"


def _unreadable(reply: Reply, state: str, detail: str) -> Trouble:
    return Trouble(state, detail, reply.latency_ms, reply.status)


def _since(began: float) -> float:
    return (monotonic() - began) * 1000


def _told(error: Exception) -> tuple[str, str]:
    """The state and detail of a failure; libraries wrap the cause several times."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "wrong_certificate", f"the certificate is not valid: {one_line(cause.verify_message, 120)}"
        for kind, state, detail in _CAUSES:
            if isinstance(cause, kind):
                return state, detail
    for kinds, state, detail in _KINDS:
        if isinstance(error, kinds):
            return state, detail
    return "unreachable", "no connection could be made"


_CAUSES: tuple[tuple[type[BaseException], str, str], ...] = (
    (ssl.SSLError, "tls", "the server does not speak TLS as it should"),
    (socket.gaierror, "dns", "the host name is not known"),
    (ConnectionRefusedError, "refused", "the connection was refused"),
    (OverflowError, "wrong_address", "the address has no such port"),
)
_KINDS: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((httpx.TooManyRedirects,), "redirect_loop", f"more than {_MOST_REDIRECTS} redirects"),
    ((httpx.TimeoutException,), "timeout", "no answer in time"),
    ((httpx.ConnectError,), "unreachable", "no connection could be made"),
    ((httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError), "wrong_address", "the address is none of HTTP"),
    ((httpx.TransportError, OSError), "broken_off", "the connection ended before the answer was whole"),
    ((httpx.HTTPError,), "not_http", "the answer cannot be read"),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [each for each in one.args if isinstance(each, BaseException)]
