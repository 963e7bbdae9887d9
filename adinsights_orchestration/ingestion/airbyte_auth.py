"""How requests to Airbyte prove who sends them: an application's token, a user and password, or nothing.

Belongs here: which way the settings choose, and when a token is too old. Does not belong here: fetching it over HTTP
(`airbyte_http`). A token outlives the client that fetched it, so that a tick every half minute does not ask for a new
one each time; Airbyte's live for 15 minutes by default, those of its cloud for 3.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adinsights_orchestration.ingestion.airbyte_errors import MalformedReplyError
from adinsights_orchestration.settings import AirbyteSettings

TOKEN_PATH = "/applications/token"  # noqa: S105  (a path)
DEFAULT_LIFETIME_SECONDS = 180.0  # the shortest that any Airbyte hands out
_RENEWED_AT = 0.75  # share of its lifetime after which a token is replaced


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and the monotonic moment at which it is replaced."""

    value: str
    renew_at: float

    def __repr__(self) -> str:
        return "Token([redacted])"


class TokenShelf:
    """Holds the newest token for every client of one process; safe to share between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None

    def current(self) -> str | None:
        """The token, or None when there is none that may still be used."""
        with self._lock:
            if self._token is None or self._clock() >= self._token.renew_at:
                return None
            return self._token.value

    def keep(self, reply: Mapping[str, Any]) -> str:
        """Takes the token out of the server's reply; `MalformedReplyError` when it holds none."""
        value = reply.get("access_token")
        if not isinstance(value, str) or not value:
            raise MalformedReplyError("the token endpoint's reply holds no access_token")
        lifetime = reply.get("expires_in")
        seconds = float(lifetime) if isinstance(lifetime, int | float) else DEFAULT_LIFETIME_SECONDS
        with self._lock:
            self._token = Token(value, self._clock() + seconds * _RENEWED_AT)
        return value

    def drop(self, value: str) -> None:
        """Forgets the token that the server refused, unless a newer one took its place."""
        with self._lock:
            if self._token is not None and self._token.value == value:
                self._token = None


def uses_token(settings: AirbyteSettings) -> bool:
    """Whether an application's token is to be fetched."""
    return settings.client_id is not None and settings.client_secret is not None


def token_request(settings: AirbyteSettings) -> dict[str, str]:
    """The body that asks for a token."""
    assert settings.client_id is not None
    assert settings.client_secret is not None
    return {
        "client_id": settings.client_id,
        "client_secret": settings.client_secret.get_secret_value(),
        "grant_type": "client_credentials",
    }


def basic_header(settings: AirbyteSettings) -> str | None:
    """The Authorization header of a user and password; None where none are set."""
    if settings.username is None or settings.password is None:
        return None
    pair = f"{settings.username}:{settings.password.get_secret_value()}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
