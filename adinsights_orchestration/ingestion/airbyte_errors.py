"""What can go wrong between us and Airbyte: one exception per kind, with the server's own message and a next step.

Belongs here: the kinds, and telling them apart by status, title and body. Does not belong here: what to do about them
(`intents` for a start, `airbyte_http` for repeating a read). Two kinds of 409 mean opposite things and differ by their
title alone. `nothing_happened` is the one question a start must answer before it may ever be sent again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.redaction import redact

CHECK_ADDRESS = "Check ADINSIGHTS_AIRBYTE__PUBLIC_API_URL and the proxy before Airbyte."
LONGEST_MESSAGE = 1000  # characters of a server's message that are kept


class AirbyteError(AdinsightsError):
    """Airbyte did not do what it was asked.

    Attributes:
        repeatable: Whether a read may be tried again at once.
        nothing_happened: Whether it is certain that the server did not act on the request.
    """

    repeatable = False
    nothing_happened = True


class AirbyteDownError(AirbyteError):
    """No connection could be made, so the request never left."""

    repeatable = True


class NoReplyError(AirbyteError):
    """The request was sent and no whole reply came back in time: the server may have acted, or may yet."""

    repeatable = True
    nothing_happened = False


class ServerError(AirbyteError):
    """A 5xx: the server, or what stands before it, gave up; it may have acted first."""

    repeatable = True
    nothing_happened = False


class NotAirbyteError(AirbyteError):
    """Something else than Airbyte's JSON came back: a proxy's page, a gateway's own words, a redirect to a login.

    A proxy that could not find or would not pass the request on did not pass it on; one that failed may have.
    """

    def __init__(self, problem: str, *, status: int, place: str = "", next_step: str = "") -> None:
        self.repeatable = status >= 500
        self.nothing_happened = 300 <= status < 500
        super().__init__(problem, place=place, next_step=next_step)


class MalformedReplyError(AirbyteError):
    """JSON that is not what the API promises; a server that acted may have sent it."""

    nothing_happened = False


class UnauthorizedError(AirbyteError):
    """401: the credentials are wrong or expired."""


class ForbiddenError(AirbyteError):
    """403: the credentials are good, but not for this."""


class RateLimitedError(AirbyteError):
    """429. Airbyte sends no Retry-After; a proxy may."""

    repeatable = True

    def __init__(self, problem: str, *, retry_after_seconds: float | None = None, place: str = "") -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(problem, place=place, next_step="It is tried again later; fewer requests at once may help.")


class NotFoundError(AirbyteError):
    """404 in Airbyte's own form: there is no such job or connection."""


class InvalidRequestError(AirbyteError):
    """400 or 422: the server does not accept what was sent."""


class SyncAlreadyRunningError(AirbyteError):
    """409 `try-again-later`: the connection has an unfinished job."""


class StateConflictError(AirbyteError):
    """409 `state-conflict`: the connection is not active, or the job to cancel is over."""


class PageRepeatsError(AirbyteError):
    """A listing gave the same page again, so that reading on would never end."""


def out_of_time(seconds: float, trouble: AirbyteError | None, then: str) -> str:
    """What a tick says that its time ran out on: what stood in the way comes first, where anything did.

    Args:
        seconds: The tick's budget.
        trouble: What went wrong last and was still being tried again.
        then: What becomes of the rest.
    """
    late = f"not done within the tick's {seconds:g} s; {then}"
    return f"{trouble} ({late})" if trouble is not None else late


def from_reply(place: str, status: int, headers: Mapping[str, str], body: bytes) -> AirbyteError:
    """Returns the error that a reply other than 2xx stands for.

    Args:
        place: The request, for people: `POST /jobs`.
        status: HTTP status.
        headers: Reply headers, names in lower case.
        body: The reply's body.
    """
    document = _document(body)
    if document is None and status not in (401, 403, 429) and status < 500:
        return not_airbyte(place, status, headers, body)
    said = _said(document) or f"HTTP {status}"
    if status == 401:
        return UnauthorizedError(said, place=place, next_step="Check ADINSIGHTS_AIRBYTE__CLIENT_ID and its secret.")
    if status == 403:
        return ForbiddenError(said, place=place, next_step="Give the Airbyte application access to the workspace.")
    if status == 429:
        return RateLimitedError(said, retry_after_seconds=_retry_after(headers), place=place)
    if status >= 500:
        return _server_error(place, status, headers, body, document, said)
    return _refusal(place, status, document or {}, said)


def not_airbyte(place: str, status: int, headers: Mapping[str, str], body: bytes) -> NotAirbyteError:
    """The error for a reply that is not Airbyte's JSON."""
    kind = headers.get("content-type", "no content type").split(";")[0]
    title = _html_title(body)
    said = f"HTTP {status} with {kind if body else 'nothing'} instead of JSON" + (f" (“{title}”)" if title else "")
    return NotAirbyteError(said, status=status, place=place, next_step=CHECK_ADDRESS)


def tidy_message(text: str) -> str:
    """A server's message for people: one line, bounded, without secrets."""
    line = " ".join(redact(text).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def _server_error(
    place: str, status: int, headers: Mapping[str, str], body: bytes, document: Mapping[str, Any] | None, said: str
) -> AirbyteError:
    if document is None and b"<html" in body[:2000].lower():
        return not_airbyte(place, status, headers, body)
    text = said if document else f"HTTP {status} {tidy_message(body[:200].decode('utf-8', 'replace'))}".strip()
    return ServerError(text, place=place, next_step="It is tried again; see the Airbyte server's log if it lasts.")


def _refusal(place: str, status: int, document: Mapping[str, Any], said: str) -> AirbyteError:
    if status == 404:
        if not _is_airbytes(document):
            return NotAirbyteError(f"HTTP 404: {said}", status=status, place=place, next_step=CHECK_ADDRESS)
        return NotFoundError(said, place=place, next_step="Check that it still exists in Airbyte.")
    if status == 409:
        return _conflict(place, document, said)
    return InvalidRequestError(said, place=place, next_step="The server's version may not know this request.")


def _is_airbytes(document: Mapping[str, Any]) -> bool:
    """Whether Airbyte says that something is missing, and not a gateway that has no route to it or an older server.

    Its public API does so in a problem with that title, the other with the name of the exception.
    """
    return str(document.get("title", "")).lower().endswith("not-found") or "exceptionClassName" in document


def _conflict(place: str, document: Mapping[str, Any], said: str) -> AirbyteError:
    title = str(document.get("title", "")).lower()
    if title == "try-again-later" or (not title and "already running" in said.lower()):
        return SyncAlreadyRunningError(said, place=place, next_step="The running job is followed instead.")
    return StateConflictError(said, place=place, next_step="Look at the connection's status in Airbyte.")


def _document(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _said(document: Mapping[str, Any] | None) -> str:
    """The server's own words: `data.message`, else `message`, else `detail`, with the title where it adds something."""
    if not document:
        return ""
    data = document.get("data")
    message = data.get("message") if isinstance(data, Mapping) else None
    parts = [str(document.get("title") or ""), str(message or document.get("message") or document.get("detail") or "")]
    return tidy_message(": ".join(part for part in parts if part))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return max(float(headers.get("retry-after", "")), 0.0)
    except ValueError:
        return None


def _html_title(body: bytes) -> str:
    text = body[:4000].decode("utf-8", "replace")
    start, end = text.lower().find("<title>"), text.lower().find("</title>")
    return tidy_message(text[start + 7 : end])[:80] if 0 <= start < end else ""
