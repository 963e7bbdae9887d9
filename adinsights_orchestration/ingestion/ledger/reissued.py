"""Ids that Airbyte gives a second time: one that was set up anew, or restored from a backup, counts from where it was.

Belongs here: telling such a job from the one that had its id, and keeping that one aside. Does not belong here: writing
jobs (`jobs`). Airbyte never changes whose a job is or when it was created, so a job that differs in one of these is
another one. The ledger keeps what the old one did under an id of its own, below zero, with the intents that follow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.ingestion.airbyte_models import DATA_TYPES, AirbyteJob
from adinsights_orchestration.ingestion.ledger.job_rows import VANISHED
from adinsights_orchestration.ingestion.ledger.recordset import as_rows, recordset
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.tables import sync_intent, sync_job, webhook_post

_log = get_logger(__name__)
_SAME_MOMENT = timedelta(minutes=1)  # more than a rounding, and far less than an id takes to be given again


def is_another(job: AirbyteJob, connection_id: UUID, started_at: datetime) -> bool:
    """Whether the job is not the one of the same id that ran for this connection and was created then."""
    return job.connection_id != connection_id or abs(job.created_at - started_at) > _SAME_MOMENT


def set_aside(connection: sa.Connection, jobs: Iterable[AirbyteJob], now: datetime) -> int:
    """Frees the ids of jobs that others of the ledger have; returns how many there were.

    Args:
        connection: The caller's transaction, in its turn.
        jobs: What is about to be written.
        now: The moment.
    """
    rows = as_rows(
        {"job_id": job.job_id, "connection_id": job.connection_id, "started_at": job.created_at} for job in jobs
    )
    old = connection.execute(_OTHERS, {"rows": rows}).scalars().all()
    if not old:
        return 0
    lowest = connection.execute(sa.select(sa.func.least(sa.func.min(sync_job.c.job_id), 0))).scalar_one()
    moves = [{"old": job_id, "aside": lowest - number} for number, job_id in enumerate(old, start=1)]
    # Whether the backend was told of them is of no use any more: its own row has the same ids.
    connection.execute(sa.delete(webhook_post).where(webhook_post.c.job_id.in_(old)))
    connection.execute(_MOVE_JOB, [{**move, "now": now} for move in moves])
    connection.execute(_MOVE_INTENTS, moves)
    _log.warning(
        "Airbyte gives job ids again that others had: was it set up anew or restored? The old jobs are kept aside",
        jobs=len(old),
        first=old[0],
        kept_as=moves[0]["aside"],
    )
    return len(old)


_given = recordset("rows", "given", sync_job.c.job_id, sync_job.c.connection_id, sync_job.c.started_at)
_OTHERS = (
    sa.select(sync_job.c.job_id)
    .join(_given, _given.c.job_id == sync_job.c.job_id)
    .where(
        sa.or_(
            sync_job.c.connection_id != _given.c.connection_id,
            sync_job.c.started_at < _given.c.started_at - sa.literal(_SAME_MOMENT),
            sync_job.c.started_at > _given.c.started_at + sa.literal(_SAME_MOMENT),
        )
    )
    .order_by(sync_job.c.job_id)
)
_old, _aside = sa.bindparam("old", type_=sa.BigInteger), sa.bindparam("aside", type_=sa.BigInteger)
_runs = sync_job.c.report_state == "none"


def _ended(column: sa.Column[Any], value: Any) -> Any:
    """The value where the job was thought to run, for it is gone; else what the row has."""
    return sa.case((_runs, value), else_=column)


_now = sa.bindparam("now", type_=sa.DateTime(timezone=True))
_MOVE_JOB = (
    sa.update(sync_job)
    .where(sync_job.c.job_id == _old)
    .values(
        job_id=_aside,
        status=_ended(sync_job.c.status, VANISHED),
        ended_at=_ended(sync_job.c.ended_at, sync_job.c.observed_at),
        end_observed_at=_ended(sync_job.c.end_observed_at, _now),
        attempts=_ended(sync_job.c.attempts, 0),
        failure_message=_ended(sync_job.c.failure_message, "Airbyte does not know this job any more"),
        report_state=_ended(
            sync_job.c.report_state, sa.case((sync_job.c.job_type.in_(DATA_TYPES), "pending"), else_="skipped")
        ),
        observed_at=_ended(sync_job.c.observed_at, _now),
    )
)
_MOVE_INTENTS = sa.update(sync_intent).where(sync_intent.c.job_id == _old).values(job_id=_aside)
