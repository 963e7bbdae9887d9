"""What Airbyte says of itself: workspaces, connections with their schedules, its clock.

Belongs here: a handful of reads over the public API. Not here: verdicts (`checks.airbyte`, `checks.drivers`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from adinsights_orchestration.ingestion.airbyte_auth import TokenShelf
from adinsights_orchestration.ingestion.airbyte_errors import AirbyteError
from adinsights_orchestration.ingestion.airbyte_http import AirbyteHttp
from adinsights_orchestration.ingestion.airbyte_models import as_promised
from adinsights_orchestration.settings import AirbyteSettings

MOST_CONNECTIONS = 2_000
_READ_SECONDS = 2.0  # a second try for a hiccup, and no more


@dataclass(frozen=True, slots=True)
class AirbyteFacts:
    """One look at Airbyte.

    Attributes:
        workspaces: Every visible workspace, by id, as the API tells it.
        connections: Connections of these workspaces, at most `MOST_CONNECTIONS`.
        complete: Whether `connections` are all of them.
        clock_ahead_seconds: How far Airbyte's clock is ahead of ours (to a second); None when it does not say.
    """

    workspaces: Mapping[str, Mapping[str, Any]]
    connections: Sequence[Mapping[str, Any]]
    complete: bool
    clock_ahead_seconds: float | None


def ask(settings: AirbyteSettings) -> AirbyteFacts:
    """Reads the facts; a failure is an `AirbyteError` that says what Airbyte, or what stands before it, answered."""
    return asyncio.run(_ask(settings))


async def _ask(settings: AirbyteSettings) -> AirbyteFacts:
    shelf = TokenShelf(time.monotonic)
    async with AirbyteHttp(settings, shelf, read_deadline_seconds=_READ_SECONDS) as http:
        base = settings.public_api_url
        workspaces = await _pages(http, f"{base}/workspaces", settings.page_size, "workspaceId")
        connections = await _pages(http, f"{base}/connections", settings.page_size, "connectionId")
    return AirbyteFacts(
        workspaces={str(row["workspaceId"]): row for row in workspaces},
        connections=connections,
        complete=len(connections) < MOST_CONNECTIONS,
        clock_ahead_seconds=await _clock_ahead(settings),
    )


async def _pages(http: AirbyteHttp, url: str, size: int, key: str) -> list[Mapping[str, Any]]:
    rows: dict[str, Mapping[str, Any]] = {}
    while len(rows) < MOST_CONNECTIONS:
        reply = await http.read("GET", url, params={"limit": str(size), "offset": str(len(rows))})
        with as_promised("a listing"):
            page = reply.get("data") or []
            fresh = {str(row[key]): row for row in page if str(row[key]) not in rows}
        rows |= fresh
        if len(page) < size or not fresh:  # a server that repeats a page would be asked for ever
            break
    return list(rows.values())[:MOST_CONNECTIONS]


async def _clock_ahead(settings: AirbyteSettings) -> float | None:
    try:
        async with httpx.AsyncClient(timeout=settings.request_timeout_seconds, trust_env=False) as client:
            before = datetime.now(UTC)
            reply = await client.get(f"{settings.public_api_url}/health")
            after = datetime.now(UTC)
        theirs = parsedate_to_datetime(reply.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError):
        return None
    return (theirs - (before + (after - before) / 2)).total_seconds()


async def _configuration_answers(settings: AirbyteSettings, workspace: str) -> None:
    shelf = TokenShelf(time.monotonic)
    async with AirbyteHttp(settings, shelf, read_deadline_seconds=_READ_SECONDS) as http:
        body = {"workspaceIds": [workspace], "configTypes": ["sync"], "pagination": {"pageSize": 1, "rowOffset": 0}}
        await http.read("POST", f"{settings.config_api_url}/jobs/list_for_workspaces", body=body)


def configuration_problem(settings: AirbyteSettings, workspace: str) -> AirbyteError | None:
    """Asks the configuration API for one job; returns what went wrong, None when it answered."""
    try:
        asyncio.run(_configuration_answers(settings, workspace))
    except AirbyteError as error:
        return error
    return None
