"""What all platforms' endpoints have in common: sign-in, faults, then a page of rows.

Belongs here: the order in which a request is judged, and the values that a platform's module fills in (`Dialect`,
`Endpoint`). Does not belong here: any one platform's paths, fields or wording. A platform is a dialect and a list of
endpoints; nothing else tells two of them apart.
"""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.ad_platforms.accounts import Account, AdTenant
from adinsights_orchestration.local.ad_platforms.faults import EXTRA_FIELD, EXTRA_FIELD_TYPE, declare
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.knobs import KnobArea, Knobs
from adinsights_orchestration.tenants.model import Provider

Json = dict[str, Any]
_EXTRA_VALUE = 3


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a platform takes a token and how it says no."""

    provider: Provider
    token: Callable[[Request], str]
    unauthorized: Callable[[], Response]
    forbidden: Callable[[str], Response]
    rate_limited: Callable[[], Response]
    unavailable: Callable[[], Response]
    bad_request: Callable[[str], Response]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, judged and parsed.

    Args:
        account: The account it asks about, which the token may read.
        now: The moment that every figure of the answer refers to.
        query: Query parameters.
        body: The JSON body; empty for a GET.
        url: The request's address, for links to the next page.
        extra_field: Whether reports have the field that no schema has announced.
    """

    world: World
    account: Account
    now: datetime
    query: Mapping[str, str]
    body: Json
    url: str
    extra_field: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all pages; only those of the page asked for are written down."""

    items: Sequence[Any]
    shape: Callable[[Any], Json]

    def __len__(self) -> int:
        return len(self.items)

    def page(self, start: int, count: int) -> list[Json]:
        """Writes `count` rows from `start` on."""
        return [self.shape(item) for item in self.items[start : start + count]]

    def with_extra_field(self) -> Rows:
        """Adds the field that no schema has announced."""

        def shape(item: Any) -> Json:
            return {**self.shape(item), EXTRA_FIELD: _EXTRA_VALUE}

        return Rows(self.items, shape)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of a platform.

    Args:
        path: Starlette path below the platform's own prefix.
        account_id: Finds the account's id in a request.
        rows: Lists everything that the request asks for; `ValueError` refuses it.
        page: Answers with one page of the rows.
        report: Whether this is a report, which the knob `schema_extra_field` widens.
    """

    path: str
    account_id: Callable[[Request], str]
    rows: Callable[[Call], Rows]
    page: Callable[[Call, Rows], Json]
    method: str = "GET"
    report: bool = False


class _Refused(Exception):  # noqa: N818  (an answer on its way out, not an error)
    def __init__(self, response: Response) -> None:
        self.response = response


def from_path(name: str) -> Callable[[Request], str]:
    """Takes the account's id from a path parameter."""
    return lambda request: str(request.path_params[name])


def from_query(name: str) -> Callable[[Request], str]:
    """Takes the account's id from a query parameter."""
    return lambda request: request.query_params.get(name, "")


def bearer_token(request: Request) -> str:
    """Takes the token from `Authorization: Bearer`; empty when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def cursor_of(offset: int) -> str:
    """Writes an offset as an opaque cursor."""
    return urlsafe_b64encode(f"o:{offset}".encode()).decode()


def offset_of(cursor: str | None) -> int:
    """Reads a cursor back; no cursor is the beginning, a broken one a `ValueError`."""
    if not cursor:
        return 0
    kind, _, offset = urlsafe_b64decode(cursor.encode()).decode().partition(":")
    if kind != "o":
        raise ValueError("unknown cursor")
    return int(offset)


@dataclass(frozen=True, slots=True)
class _Platform:
    world: World
    dialect: Dialect
    knobs: KnobArea
    owners: Mapping[str, AdTenant]


def routes(world: World, knobs: Knobs, dialect: Dialect, endpoints: Sequence[Endpoint]) -> list[Route]:
    """Builds the routes of one platform and declares its knobs."""
    provider = dialect.provider
    owners = {world.access_token(t, provider): t for t in world.tenants if provider in t.providers}
    platform = _Platform(world, dialect, declare(knobs, provider), owners)

    def route(endpoint: Endpoint) -> Route:
        async def handle(request: Request) -> Response:
            await asyncio.sleep(platform.knobs.get("latency_ms") / 1000)
            try:
                return await _answer(platform, endpoint, request)
            except _Refused as refused:
                return refused.response

        return Route(endpoint.path, handle, methods=[endpoint.method])

    return [route(endpoint) for endpoint in (*endpoints, CUSTOM_FIELDS)]


async def _answer(platform: _Platform, endpoint: Endpoint, request: Request) -> Response:
    _refuse_if_told_to(platform)
    account = _account(platform, request, endpoint.account_id(request))
    try:
        call = await _parsed(platform, account, request)
        body = endpoint.page(call, _with_knobs(endpoint.rows(call), platform.knobs, endpoint))
    except (ValueError, KeyError) as error:
        raise _Refused(platform.dialect.bad_request(f"invalid request: {error}")) from error
    return _cut_short(body) if platform.knobs.take("malformed_json_next") else JSONResponse(body)


def _refuse_if_told_to(platform: _Platform) -> None:
    if platform.knobs.take("server_error_next"):
        raise _Refused(platform.dialect.unavailable())
    if platform.knobs.take("rate_limited_next"):
        raise _Refused(platform.dialect.rate_limited())


def _account(platform: _Platform, request: Request, account_id: str) -> Account:
    owner = platform.owners.get(platform.dialect.token(request))
    if owner is None or platform.knobs.get("auth_revoked"):
        raise _Refused(platform.dialect.unauthorized())
    account = platform.world.account(platform.dialect.provider, account_id)
    if account is None or account.tenant != owner:
        raise _Refused(platform.dialect.forbidden(account_id))
    return account


async def _parsed(platform: _Platform, account: Account, request: Request) -> Call:
    query, body = dict(request.query_params), await _body(request)
    now, extra_field = platform.world.clock(), platform.knobs.get("schema_extra_field")
    return Call(platform.world, account, now, query, body, str(request.url), extra_field)


async def _body(request: Request) -> Json:
    raw = await request.body()
    body = json.loads(raw) if raw else {}
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004  (a refusal like any other bad request)
    return body


def _custom_fields(call: Call) -> Rows:
    return Rows([{"name": EXTRA_FIELD, "type": EXTRA_FIELD_TYPE}] if call.extra_field else [], dict)


CUSTOM_FIELDS = Endpoint(
    "/customFields",
    from_query("account_id"),
    _custom_fields,
    lambda _, rows: {"accountFields": {"fields": rows.page(0, len(rows))}},
)
"""What an account's reports carry beyond the platform's own fields; every platform here answers it alike."""


def _with_knobs(rows: Rows, knobs: KnobArea, endpoint: Endpoint) -> Rows:
    if not endpoint.report:
        return rows
    if knobs.get("empty"):
        return Rows((), rows.shape)
    return rows.with_extra_field() if knobs.get("schema_extra_field") else rows


def _cut_short(body: Json) -> Response:
    text = json.dumps(body)
    return Response(text[: max(1, len(text) * 2 // 3)], media_type="application/json")
