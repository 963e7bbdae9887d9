"""Requests to Airbyte: authenticated, bounded in number and time, repeated only where that is safe.

Belongs here: one request and its reply as JSON or a typed error. Does not belong here: what is asked (`airbyte_api`).
A call that only reads may be repeated until its deadline, with growing pauses; a call that acts is sent once, whatever
happens to its reply, because a second one could start a second sync.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_exponential_jitter,
)
from tenacity.wait import wait_base

from adinsights_orchestration.ingestion.airbyte_auth import (
    TOKEN_PATH,
    TokenShelf,
    basic_header,
    token_request,
    uses_token,
)
from adinsights_orchestration.ingestion.airbyte_errors import (
    CHECK_ADDRESS,
    AirbyteDownError,
    AirbyteError,
    MalformedReplyError,
    NoReplyError,
    RateLimitedError,
    UnauthorizedError,
    from_reply,
    not_airbyte,
)
from adinsights_orchestration.settings import AirbyteSettings

READ_DEADLINE_SECONDS = 30.0  # how long a read may go on repeating; a tick has 40
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 8.0
_CONNECT_SECONDS = 5.0
_HEADERS = {"accept": "application/json", "user-agent": "adinsights-orchestration"}


class AirbyteHttp:
    """One process' connection to both of Airbyte's APIs; an asynchronous context manager.

    Args:
        settings: Addresses, credentials, deadlines, bounds.
        shelf: Where the token is kept between clients.
        tls: The TLS context; made when needed.
        read_deadline_seconds: How long one read may take with its repetitions.

    Attributes:
        requests: Requests sent so far, token requests included.
        trouble: The last failure that another try may mend, until one did.
        read_deadline_seconds: As above; may be changed while the client is in use.
    """

    def __init__(
        self,
        settings: AirbyteSettings,
        shelf: TokenShelf,
        *,
        tls: ssl.SSLContext | None = None,
        read_deadline_seconds: float = READ_DEADLINE_SECONDS,
    ) -> None:
        self._settings = settings
        self._shelf = shelf
        self._tls = tls
        self.read_deadline_seconds = read_deadline_seconds
        self._gate = asyncio.Semaphore(settings.max_concurrent_requests)
        self._token_lock = asyncio.Lock()
        self._client: httpx.AsyncClient | None = None
        self.requests = 0
        self.trouble: AirbyteError | None = None

    async def __aenter__(self) -> Self:
        """Opens the pool; nothing is connected yet."""
        most = self._settings.max_concurrent_requests
        self._client = httpx.AsyncClient(
            headers=_HEADERS,
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=60.0),
            timeout=httpx.Timeout(self._settings.request_timeout_seconds, connect=_CONNECT_SECONDS),
            verify=self._tls or tls_context(self._settings),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the pool."""
        if self._client is not None:
            await self._client.aclose()

    async def read(
        self, method: str, url: str, *, params: Any = None, body: Any = None, patience_seconds: float | None = None
    ) -> Mapping[str, Any]:
        """Sends a request that changes nothing; repeats it while that may help and the deadline allows.

        Args:
            method: HTTP method.
            url: Whole address.
            params: Query parameters.
            body: JSON body.
            patience_seconds: How long to go on repeating; the client's deadline when None.

        Returns:
            The reply's JSON object.

        Raises:
            AirbyteError: The last failure.
        """
        async for attempt in self._repeating(patience_seconds):
            with attempt:
                return await self._renewing(method, url, params, body)
        raise AssertionError("tenacity returns or raises")

    async def act(
        self, method: str, url: str, *, body: Any = None, deadline_seconds: float | None = None
    ) -> Mapping[str, Any]:
        """Sends a request that changes something, exactly once.

        A refused token is forgotten, so that the caller's next try has a new one; the request is not sent again here.
        """
        authorization = await self._authorization_to_act()
        try:
            return await self._send(method, url, None, body, authorization, deadline_seconds)
        except UnauthorizedError:
            self._forget(authorization)
            raise

    async def _authorization_to_act(self) -> str | None:
        """As `_authorization`; without a token the request itself never left, and the error must say so."""
        try:
            return await self._authorization()
        except AirbyteError as error:
            if error.nothing_happened:
                raise
            raise AirbyteDownError(error.problem, place=error.place, next_step=error.next_step) from error

    def _repeating(self, patience_seconds: float | None = None) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, AirbyteError) and error.repeatable),
            stop=stop_before_delay(self.read_deadline_seconds if patience_seconds is None else patience_seconds),
            wait=_HintedWait(),
            reraise=True,
        )

    async def _renewing(self, method: str, url: str, params: Any, body: Any) -> Mapping[str, Any]:
        """Sends a read; a 401 is answered with one new token and one repetition."""
        authorization = await self._authorization()
        try:
            return await self._send(method, url, params, body, authorization)
        except UnauthorizedError:
            if not self._forget(authorization):
                raise
        return await self._send(method, url, params, body, await self._authorization())

    async def _authorization(self) -> str | None:
        if not uses_token(self._settings):
            return basic_header(self._settings)
        token = self._shelf.current()
        if token is None:
            async with self._token_lock:
                token = self._shelf.current() or await self._fetch_token()
        return f"Bearer {token}"

    def _forget(self, authorization: str | None) -> bool:
        if not uses_token(self._settings) or authorization is None:
            return False
        self._shelf.drop(authorization.removeprefix("Bearer "))
        return True

    async def _fetch_token(self) -> str:
        url = self._settings.public_api_url + TOKEN_PATH
        async for attempt in self._repeating():
            with attempt:
                reply = await self._send("POST", url, None, token_request(self._settings), None)
                return self._shelf.keep(reply)
        raise AssertionError("tenacity returns or raises")

    async def _send(
        self,
        method: str,
        url: str,
        params: Any,
        body: Any,
        authorization: str | None,
        deadline_seconds: float | None = None,
    ) -> Mapping[str, Any]:
        assert self._client is not None, "use the client as a context manager"
        place = self._place(method, url)
        request = self._client.build_request(method, url, params=params, json=body, headers=_with(authorization))
        deadline = deadline_seconds or self._settings.request_timeout_seconds
        async with self._gate:
            self.requests += 1
            try:
                reply = _json(await _exchange(self._client, request, place, deadline), place)
            except AirbyteError as error:
                self.trouble = error if error.repeatable else self.trouble
                raise
        self.trouble = None
        return reply

    def _place(self, method: str, url: str) -> str:
        for base in (self._settings.public_api_url, self._settings.config_api_url):
            url = url.removeprefix(base)
        return f"Airbyte {method} {url.split('?')[0]}"


def tls_context(settings: AirbyteSettings) -> ssl.SSLContext:
    """The context that connections to Airbyte verify servers with; without https an empty one, which costs little."""
    if any(url.startswith("https:") for url in (settings.public_api_url, settings.config_api_url)):
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _HintedWait(wait_base):
    """Base 2 with jitter; where the server named a time, that one."""

    _grown = wait_exponential_jitter(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS, jitter=0.25)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, RateLimitedError) and error.retry_after_seconds is not None:
            return min(error.retry_after_seconds, READ_DEADLINE_SECONDS)
        return self._grown(retry_state)


def _with(authorization: str | None) -> Mapping[str, str]:
    return {} if authorization is None else {"authorization": authorization}


async def _exchange(client: httpx.AsyncClient, request: httpx.Request, place: str, seconds: float) -> httpx.Response:
    """One request, one whole reply; the deadline covers both, however slowly bytes trickle."""
    try:
        async with asyncio.timeout(seconds):
            return await client.send(request)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise AirbyteDownError(
            f"Airbyte cannot be reached ({_reason(error)})",
            place=place,
            next_step="Check that Airbyte is up and ADINSIGHTS_AIRBYTE__PUBLIC_API_URL right.",
        ) from None
    except (TimeoutError, httpx.TransportError) as error:
        raise NoReplyError(
            f"no whole reply within {seconds:g} s ({_reason(error)})",
            place=place,
            next_step="Airbyte may be overloaded, or something between cuts connections.",
        ) from None
    except httpx.RequestError as error:  # the reply's encoding is broken; it is not known what the server said
        raise NoReplyError(
            f"no readable reply ({_reason(error)})",
            place=place,
            next_step="Something between may break replies: check the proxy's compression.",
        ) from None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _json(reply: httpx.Response, place: str) -> Mapping[str, Any]:
    """The reply's object: every call that is made here is answered with one, and 204 with none."""
    headers = {name.lower(): value for name, value in reply.headers.items()}
    if not reply.is_success:
        raise from_reply(place, reply.status_code, headers, reply.content)
    if reply.status_code == httpx.codes.NO_CONTENT:
        return {}
    try:
        document = json.loads(reply.content)
    except ValueError:
        raise not_airbyte(place, reply.status_code, headers, reply.content) from None
    if not isinstance(document, dict):
        raise MalformedReplyError("the reply is JSON, but not an object", place=place, next_step=CHECK_ADDRESS)
    return document
