"""How Google's APIs say no: the error body that Ads, Analytics and Search Console share.

Belongs here: the common dialect. Does not belong here: anything that only one of the three does.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from adinsights_orchestration.local.ad_platforms.endpoint import Dialect, bearer_token
from adinsights_orchestration.tenants.model import Provider


def _error(code: int, status: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "status": status}}, code)


def google_dialect(provider: Provider) -> Dialect:
    """Returns the dialect of one of Google's APIs."""
    return Dialect(
        provider=provider,
        token=bearer_token,
        unauthorized=lambda: _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
        forbidden=lambda account: _error(403, "PERMISSION_DENIED", f"The caller does not have permission: {account}"),
        rate_limited=lambda: _error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
        unavailable=lambda: _error(503, "UNAVAILABLE", "The service is currently unavailable."),
        bad_request=lambda message: _error(400, "INVALID_ARGUMENT", message),
    )
