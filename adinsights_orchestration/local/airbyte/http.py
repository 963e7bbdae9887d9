"""What the handlers of both APIs share: reading bodies and parameters, and turning refusals into replies.

Belongs here: HTTP that is the same for every call. Does not belong here: any one call.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adinsights_orchestration.local.airbyte import problems
from adinsights_orchestration.local.airbyte.faults import skew
from adinsights_orchestration.local.airbyte.model import (
    AirbyteError,
    AlreadyRunningError,
    LockedError,
    NotActiveError,
    NotFoundError,
    NotRunningError,
)
from adinsights_orchestration.local.airbyte.moments import parse_offset
from adinsights_orchestration.local.airbyte.public_views import Telling
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

Handler = Callable[[Request], Awaitable[Response]]


class BadInputError(AirbyteError):
    """The request does not fit; `place` names the parameter or property."""


class ShortLines:
    """Refuses a request whose first line is longer than Airbyte's own server (Netty) reads."""

    LONGEST = 4096

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 414 without a body, or passes the request on."""
        if scope["type"] == "http":
            target = len(scope.get("raw_path") or b"") + 1 + len(scope["query_string"])
            if len(scope["method"]) + 1 + target + len(" HTTP/1.1") > self.LONGEST:
                await Response(status_code=414)(scope, receive, send)
                return
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Served:
    """The world as the handlers see it."""

    world: AirbyteWorld

    @property
    def telling(self) -> Telling:
        """How things are told just now."""
        knobs = self.world.knobs
        return Telling(skew(knobs), knobs.get("queued_state"))

    def moment(self, text: str | None, place: str) -> datetime | None:
        """A moment from a request, on the true clock; None when the caller gave none."""
        if text is None:
            return None
        try:
            return parse_offset(text) - skew(self.world.knobs)
        except ValueError:
            raise BadInputError("must be a date-time with an offset", place=place) from None


async def json_object(request: Request) -> dict[str, Any]:
    """The request's body, which must be a JSON object."""
    try:
        body = json.loads(await request.body() or b"null")
    except ValueError:
        raise BadInputError("the body is not JSON", place="body") from None
    if not isinstance(body, dict):
        raise BadInputError("the body must be an object", place="body")
    return body


def uuid_of(value: object, place: str) -> UUID:
    """A UUID from a request."""
    try:
        return UUID(str(value))
    except ValueError:
        raise BadInputError("must be a UUID", place=place) from None


def required(body: dict[str, Any], name: str) -> Any:
    """A property that must be there."""
    if body.get(name) is None:
        raise BadInputError("must not be null", place=name)
    return body[name]


def number_of(value: object, place: str, *, least: int, most: int | None = None) -> int:
    """A whole number within bounds."""
    try:
        number = int(str(value))
    except ValueError:
        raise BadInputError("must be a number", place=place) from None
    if number < least or (most is not None and number > most):
        raise BadInputError(f"must be between {least} and {most}", place=place)
    return number


def public(handler: Handler) -> Handler:
    """A handler of the public API: refusals become problem documents."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except AirbyteError as error:
            return _problem(error)

    return answer


def configuration(handler: Handler) -> Handler:
    """A handler of the configuration API: refusals become known exceptions."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except AirbyteError as error:
            return _exception(error)

    return answer


def _problem(error: AirbyteError) -> Response:
    match error:
        case NotFoundError():
            return problems.not_found(error.kind, error.identifier)
        case AlreadyRunningError():
            return problems.already_running(error.problem)
        case NotActiveError():
            return problems.state_conflict("Could not fulfill request")
        case NotRunningError():
            return problems.state_conflict(error.problem)
        case LockedError():
            return problems.locked_connection()
    return problems.bad_request(str(error))


def _exception(error: AirbyteError) -> Response:
    match error:
        case NotFoundError():
            kind = "commons.server.errors.IdNotFoundKnownException"
            return problems.known_exception(
                404, f"Could not find configuration for {error.kind}.", kind, error.identifier
            )
        case AlreadyRunningError() | NotRunningError():
            return problems.known_exception(409, error.problem, "commons.server.errors.ValueConflictKnownException")
        case LockedError():
            return problems.known_exception(409, error.problem, "commons.server.errors.ConflictException")
        case NotActiveError():
            return problems.known_exception(500, f"Internal Server Error: {error.problem}", "IllegalStateException")
    return problems.invalid_input(error.problem, error.place)
