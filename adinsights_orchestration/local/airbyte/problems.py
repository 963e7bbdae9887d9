"""How the server says no: problem documents of the public API, known exceptions of the configuration API.

Belongs here: the bodies and their titles. Does not belong here: when to say no. Clients must read `title`, since one
status code carries several meanings (409 is "already running" and "not active").
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

_ERRORS = "https://reference.airbyte.com/reference/errors"
_MEDIA_TYPE = "application/problem+json"


def problem(
    status: int, title: str, detail: str, *, data: dict[str, Any] | None = None, kind: str = _ERRORS
) -> Response:
    """A problem document of the public API."""
    body: dict[str, Any] = {"status": status, "type": kind, "title": title, "detail": detail}
    if data is not None:
        body["data"] = data
    return JSONResponse(body, status_code=status, media_type=_MEDIA_TYPE)


def not_found(kind: str, identifier: str) -> Response:
    """404 of the public API."""
    data = {"resourceType": kind, "resourceId": identifier}
    return problem(404, "resource-not-found", "The requested resource could not be found.", data=data)


def forbidden() -> Response:
    """403: the credentials are good, but not for this."""
    return problem(403, "forbidden", "The credentials do not give access to this.")


def already_running(message: str) -> Response:
    """409 of the public API: a job of this connection is not finished."""
    return problem(409, "try-again-later", "The request cannot be carried out now.", data={"message": message})


def state_conflict(message: str) -> Response:
    """409 of the public API: the resource's state does not allow it."""
    return problem(409, "state-conflict", "The state of the resource does not allow it.", data={"message": message})


def locked_connection() -> Response:
    """409 of the public API: a locked connection cannot be changed."""
    return problem(409, "connection-locked", "The connection is locked.", kind="error:connection/locked")


def unprocessable(message: str) -> Response:
    """422 of the public API."""
    return problem(422, "unprocessable-entity", "The body cannot be processed.", data={"message": message})


def bad_request(message: str) -> Response:
    """400 of the public API."""
    return problem(400, "bad-request", "The request is not valid.", data={"message": message})


def unauthorized(path: str) -> Response:
    """401, in the form of the API that was asked."""
    if "/api/public/" in path:
        return problem(401, "invalid-api-key", "The access token is missing, wrong or expired.")
    body = {
        "message": "Unauthorized",
        "_links": {"self": {"href": path, "templated": False}},
        "_embedded": {"errors": [{"message": "Unauthorized"}]},
    }
    return JSONResponse(body, status_code=401)


def rate_limited() -> Response:
    """429; it says nothing about when to come back."""
    return JSONResponse({"message": "You are being rate limited."}, status_code=429)


def known_exception(status: int, message: str, exception: str, identifier: str | None = None) -> Response:
    """An error of the configuration API."""
    body: dict[str, Any] = {"message": message, "exceptionClassName": f"io.airbyte.{exception}", "exceptionStack": []}
    if identifier is not None:
        body["id"] = identifier
    return JSONResponse(body, status_code=status)


def invalid_input(message: str, path: str) -> Response:
    """422 of the configuration API: the body does not fit."""
    body = {
        "message": "Some properties contained invalid input.",
        "exceptionClassName": "jakarta.validation.ConstraintViolationException",
        "exceptionStack": [],
        "validationErrors": [{"propertyPath": path, "message": message}],
    }
    return JSONResponse(body, status_code=422)
