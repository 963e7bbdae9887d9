"""Reading on although Airbyte does not let us into every workspace, and catching up once it does.

Belongs here: which workspaces are left out of a reading, and what is read later for that. Does not belong here: pages
(`job_feed`), the tick (`observe`). One listing names all workspaces, and Airbyte refuses it as a whole when the
credentials may not read one of them, or when one is gone: without this, one tenant's lost access would hide everybody's
syncs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_errors import (
    AirbyteError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from adinsights_orchestration.ingestion.intents import FindingKind
from adinsights_orchestration.ingestion.job_feed import Harvest, Known, Limits, changed_since, in_portions

_MOST_PROBES = 60  # a tick's; more than that are refused only where nearly all are
_REFUSALS = (ForbiddenError, NotFoundError, InvalidRequestError)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and what could not be.

    Attributes:
        harvest: What changed in the readable workspaces.
        refused: Workspaces that were left out.
        why: What Airbyte said, or None when none was left out.
    """

    harvest: Harvest
    refused: frozenset[UUID] = frozenset()
    why: AirbyteError | None = None


async def read_changes(
    api: AirbyteApi, start: datetime, workspaces: Collection[UUID], known: Known, limits: Limits
) -> Reading:
    """As `changed_since`, leaving out workspaces that the credentials do not show, or whose jobs they may not read.

    Costs nothing while all can be read: only a refused listing has us ask which ones there are, and where that does not
    explain it, which ones are refused: about two requests for each halving, and never more than `_MOST_PROBES`.

    Raises:
        AirbyteError: Nothing could be read, or a refusal that leaving workspaces out does not explain.
    """
    try:
        return Reading(await changed_since(api, start, workspaces, known, limits))
    except _REFUSALS as error:
        refusal = error
    wanted = frozenset(workspaces)
    readable = wanted & frozenset(await api.workspaces())
    if readable and readable != wanted:
        with suppress(*_REFUSALS):  # what is shown may be refused too
            return Reading(await changed_since(api, start, readable, known, limits), wanted - readable, refusal)
    probing = _Probing(api, start)
    readable = frozenset().union(*[await probing.readable(portion) for portion in in_portions(readable)])
    if not readable or readable == wanted:
        raise refusal
    return Reading(await changed_since(api, start, readable, known, limits), wanted - readable, refusal)


class _Probing:
    """Finds out whose jobs may be read, by halves: a handful of refused workspaces costs a handful of requests each."""

    def __init__(self, api: AirbyteApi, start: datetime) -> None:
        self._api, self._start, self._left = api, start, _MOST_PROBES

    async def readable(self, workspaces: Sequence[UUID]) -> frozenset[UUID]:
        """Those that are not refused; those that there was no asking left for count as refused, and are noted so."""
        if not workspaces or self._left <= 0:
            return frozenset()
        self._left -= 1
        try:
            await self._api.public_changes(self._start, workspaces, None)
        except _REFUSALS:
            half = len(workspaces) // 2
            if not half:
                return frozenset()
            return await self.readable(workspaces[:half]) | await self.readable(workspaces[half:])
        return frozenset(workspaces)


def note_refused(
    connection: sa.Connection, noted: Collection[str], reading: Reading, since: datetime, now: datetime
) -> None:
    """Leaves a finding for each workspace that is refused now and was not before, with where to read on from."""
    fresh = {str(one): _detail(reading.why, since) for one in reading.refused if str(one) not in noted}
    ledger.open_notes(connection, FindingKind.WORKSPACE, fresh, now)


def note_position(
    connection: sa.Connection, workspace: str, detail: Mapping[str, Any], reached: datetime, now: datetime
) -> None:
    """Notes how far a workspace that can be read again has been caught up with."""
    moved = {workspace: {**detail, "since": reached.isoformat()}}
    ledger.open_notes(connection, FindingKind.WORKSPACE, moved, now)


def _detail(why: AirbyteError | None, since: datetime) -> dict[str, Any]:
    return {
        "problem": str(why),
        "since": since.isoformat(),
        "next_step": "Give the Airbyte credentials access to the workspace, or take it out of the registry or of "
        "ADINSIGHTS_AIRBYTE__WORKSPACE_IDS. What its connections do meanwhile is read once it can be.",
    }
