"""What a person asked for, on record before anything is sent: intents, and the audit rows that go with them.

Belongs here: one transaction that holds both. Does not belong here: starting (`starter`), delivering audit rows to the
backend (`backend.audit`). An act that somebody asked for and that nobody can prove afterwards must not exist, so the
intent and its audit row are committed together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from adinsights_orchestration.backend.audit import SYNC_TRIGGERED, connection_entry, record
from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.airbyte_models import JobType
from adinsights_orchestration.ingestion.intents import Intent
from adinsights_orchestration.ingestion.ledger import Ask
from adinsights_orchestration.tenants.model import Connection

SCHEMA_APPROVED = "airbyte_schema_change_approved"
_ACTIONS = {
    JobType.SYNC: SYNC_TRIGGERED,
    JobType.REFRESH: "airbyte_refresh_triggered",
    JobType.CLEAR: "airbyte_clear_triggered",
}


def ask_for(
    connection: sa.Connection,
    wanted: Sequence[Connection],
    job_type: JobType,
    *,
    run_id: str,
    requested_by: str,
    now: datetime,
) -> list[Intent]:
    """Records what a person wants to run now, and that they did; a run that asks again adds nothing.

    Returns:
        The run's intents for this type of job.
    """
    before = {intent.id for intent in ledger.intents_of_run(connection, run_id)}
    asks = [Ask(one.connection_id, one.partition_key, job_type) for one in wanted]
    asked = ledger.ask(connection, asks, run_id=run_id, requested_by=requested_by, now=now)
    fresh = {intent.connection_id for intent in asked if intent.id not in before}
    for one in wanted:
        if one.connection_id in fresh:
            audit(connection, one, _ACTIONS[job_type], job_type.value, run_id=run_id, actor=requested_by, now=now)
    return [intent for intent in asked if intent.job_type is job_type]


def audit(
    connection: sa.Connection,
    one: Connection,
    action: str,
    job_type: str,
    *,
    run_id: str,
    actor: str,
    now: datetime,
) -> None:
    """Journals one act on one connection."""
    record(connection, connection_entry(one, action, actor=actor, now=now, job_type=job_type, run_id=run_id))
