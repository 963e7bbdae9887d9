"""Who may ask: application tokens that expire, basic authentication, or everyone.

Belongs here: credentials and tokens. Does not belong here: roles; every caller may do everything. Servers installed
without authentication exist, so credentials are optional.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from starlette.types import ASGIApp, Receive, Scope, Send

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.local.airbyte.problems import unauthorized

TOKEN_LIFETIME = timedelta(minutes=15)  # a self-managed server's default for applications
_OPEN_PATHS = ("/health", "/applications/token")


@dataclass
class Gate:
    """Checks requests.

    Args:
        client_id: The application that may fetch tokens; None turns authentication off.
        client_secret: Its secret.
        username: A user for basic authentication, beside tokens.
        password: The user's password.
        lifetime: How long a token is good.
        clock: What decides that.
    """

    client_id: str | None = None
    client_secret: str = ""
    username: str | None = None
    password: str = ""
    lifetime: timedelta = TOKEN_LIFETIME
    clock: Clock = utc_now
    _tokens: dict[str, datetime] = field(default_factory=dict, repr=False)

    @property
    def open(self) -> bool:
        """Whether everyone may ask."""
        return self.client_id is None and self.username is None

    def issue(self, client_id: str, client_secret: str) -> str | None:
        """Returns a new token, or None for wrong credentials; an open server gives one to everybody."""
        if not self.open and not self._is_application(client_id, client_secret):
            return None
        token = secrets.token_urlsafe(32)
        now = self.clock()
        self._tokens = {known: until for known, until in self._tokens.items() if until > now}
        self._tokens[token] = now + self.lifetime
        return token

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header is good now."""
        if self.open:
            return True
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._tokens.get(value, datetime.min.replace(tzinfo=self.clock().tzinfo)) > self.clock()
        return scheme.lower() == "basic" and self._is_user(value)

    def _is_application(self, client_id: str, client_secret: str) -> bool:
        if self.client_id is None:
            return False
        return client_id == self.client_id and hmac.compare_digest(client_secret.encode(), self.client_secret.encode())

    def _is_user(self, encoded: str) -> bool:
        if self.username is None:
            return False
        expected = base64.b64encode(f"{self.username}:{self.password}".encode())
        return hmac.compare_digest(expected, encoded.encode())


class GuardedServer:
    """The application behind the gate."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request through, or answers 401; pages are for people, who have no token."""
        path = scope.get("path", "")
        if scope["type"] != "http" or self._gate.open or "/api/" not in path or path.endswith(_OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        admitted = self._gate.admits(header.decode("latin-1"))
        await (self._app if admitted else unauthorized(scope["path"]))(scope, receive, send)
