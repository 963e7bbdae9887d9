"""Reading on although Airbyte does not let us into every workspace, and catching up once it does.

Belongs here: which workspaces are left out of a reading, and what is read later for that. Does not belong here: pages
(`job_feed`), the tick (`observe`). One listing names all workspaces, and Airbyte refuses it as a whole when the
credentials may not read one of them, or when one is gone: without this, one tenant's lost access would hide everybody's
syncs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
from adinsights_orchestration.ingestion.job_feed import Harvest, Known, Limits, changed_since

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
    """As `changed_since`, leaving out workspaces that the credentials do not show.

    Costs nothing while all can be read: only a refused listing has us ask which ones there are.

    Raises:
        AirbyteError: Nothing could be read, or a refusal that leaving workspaces out does not explain.
    """
    try:
        return Reading(await changed_since(api, start, workspaces, known, limits))
    except _REFUSALS as error:
        refusal = error
    wanted = frozenset(workspaces)
    shown = frozenset(await api.workspaces())
    if wanted <= shown or wanted.isdisjoint(shown):
        raise refusal
    harvest = await changed_since(api, start, wanted & shown, known, limits)
    return Reading(harvest, wanted - shown, refusal)


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
