"""How jobs and intents find each other.

Belongs here: statements over both tables: a lost start's job adopted, a running job followed, intents whose job is
over. Does not belong here: the decisions that follow (`intents`), either table alone. A job that was seen before a
start, or that another intent's start made, is never taken for that start's job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from adinsights_orchestration.ingestion.airbyte_models import (
    DATA_TYPES,
    TERMINAL_STATUSES,
    AirbyteJob,
    Failure,
    JobStatus,
    JobType,
)
from adinsights_orchestration.ingestion.due import CLOCK_SKEW
from adinsights_orchestration.ingestion.intents import Intent, IntentState
from adinsights_orchestration.ingestion.ledger.intents import INTENT_COLUMNS, as_intent
from adinsights_orchestration.ingestion.ledger.job_rows import VANISHED
from adinsights_orchestration.ingestion.ledger.reissued import is_another
from adinsights_orchestration.ingestion.ledger.turns import take_turn
from adinsights_orchestration.ops_store.tables import sync_intent, sync_job

# The intent that a selection reads, apart from the one that the same statement writes.
_read = sync_intent.alias("read")
_now = sa.bindparam("now", type_=sa.DateTime(timezone=True))


@dataclass(frozen=True, slots=True)
class Ended:
    """An intent that follows a job which is over; `status` is None for a job that vanished."""

    intent: Intent
    status: JobStatus | None
    failure: Failure | None


def adopt_started(connection: sa.Connection, before: datetime, now: datetime) -> int:
    """Lets intents whose start was sent before the moment, and not answered, follow the job that it made.

    Returns:
        How many found theirs.
    """
    adopted = list(connection.execute(_ADOPT_STARTED, {"before": before, "now": now}).scalars())
    if adopted:
        own_jobs(connection, adopted)
        hand_to_runs(connection, adopted)
    return len(adopted)


def _adopt_started_statement() -> sa.UpdateBase:
    made = _made_by().lateral("made")
    before = sa.bindparam("before", type_=sa.DateTime(timezone=True))
    lost = sa.and_(_read.c.state == IntentState.STARTING.value, _read.c.posted_at <= before)
    found = sa.select(_read.c.id, made.c.job_id).join(made, sa.true()).where(lost).subquery()
    return (
        sa.update(sync_intent)
        .where(sync_intent.c.id == found.c.id, sync_intent.c.state == IntentState.STARTING.value)
        .values(
            state=IntentState.RUNNING.value,
            job_id=found.c.job_id,
            refusals=0,
            not_before=None,
            last_error=None,
            updated_at=_now,
        )
        .returning(sync_intent.c.id)
    )


def _made_by() -> sa.Select[tuple[int]]:
    """Jobs that an intent's unanswered start may have made: its connection's, new since then, nobody else's."""
    return (
        sa.select(sync_job.c.job_id)
        .where(
            sync_job.c.connection_id == _read.c.connection_id,
            sync_job.c.started_at >= _read.c.posted_at - sa.literal(CLOCK_SKEW),
            sync_job.c.first_observed_at >= _read.c.posted_at,
            sa.or_(sync_job.c.intent_id.is_(None), sync_job.c.intent_id == _read.c.id),
            _serves(),
        )
        .order_by(sync_job.c.job_id.desc())
        .limit(1)
    )


def _serves() -> sa.ColumnElement[bool]:
    """Whether the job's type is what the intent asked for; the SQL form of `intents.matches`."""
    brings_data = sync_job.c.job_type.in_(DATA_TYPES)
    return sa.case(
        (_read.c.job_type == JobType.SYNC.value, brings_data),
        (_read.c.job_type == JobType.REFRESH.value, sync_job.c.job_type == JobType.REFRESH.value),
        else_=~brings_data,
    )


_ADOPT_STARTED = _adopt_started_statement()


def own_jobs(connection: sa.Connection, intent_ids: Iterable[int]) -> None:
    """Marks the jobs that these intents follow as made by their starts."""
    connection.execute(
        sa.update(sync_job)
        .where(sync_intent.c.id.in_(list(intent_ids)), sync_job.c.job_id == sync_intent.c.job_id)
        .values(intent_id=sync_intent.c.id, started_by="orchestrator")
    )


def hand_to_runs(connection: sa.Connection, intent_ids: Iterable[int]) -> None:
    """Gives the jobs that these intents follow to the runs that wait for them; reported jobs and others' stay."""
    ids = list(intent_ids)
    if not ids:
        return
    free = sa.and_(sync_job.c.report_state.in_(("none", "pending")), sync_job.c.run_id.is_(None))
    connection.execute(
        sa.update(sync_job)
        .where(sync_intent.c.id.in_(ids), sync_job.c.job_id == sync_intent.c.job_id, free)
        .values(run_id=sync_intent.c.run_id)
    )


def follow_running(connection: sa.Connection, run_id: str, now: datetime) -> int:
    """Lets a run's planned intents follow jobs of their connections that run already; returns how many do."""
    take_turn(connection)
    runs = (
        sa.select(sync_job.c.job_id)
        .where(sync_job.c.connection_id == _read.c.connection_id, sync_job.c.report_state == "none", _serves())
        .order_by(sync_job.c.job_id.desc())
        .limit(1)
        .lateral("runs")
    )
    mine = sa.and_(_read.c.run_id == run_id, _read.c.state == IntentState.PLANNED.value)
    found = sa.select(_read.c.id, runs.c.job_id).join(runs, sa.true()).where(mine).subquery()
    follow = (
        sa.update(sync_intent)
        .where(sync_intent.c.id == found.c.id, sync_intent.c.state == IntentState.PLANNED.value)
        .values(state=IntentState.RUNNING.value, job_id=found.c.job_id, updated_at=now)
        .returning(sync_intent.c.id)
    )
    following = list(connection.execute(follow).scalars())
    hand_to_runs(connection, following)
    return len(following)


def ended_intents(connection: sa.Connection) -> list[Ended]:
    """Returns every running intent whose job is over."""
    return [_ended(row._asdict()) for row in connection.execute(_ENDED)]


_ENDED = (
    sa.select(
        *INTENT_COLUMNS,
        sync_job.c.status.label("job_status"),
        sync_job.c.failure_origin,
        sync_job.c.failure_type,
        sync_job.c.failure_message,
    )
    .join(sync_job, sync_job.c.job_id == sync_intent.c.job_id)
    .where(
        sync_intent.c.state == IntentState.RUNNING.value,
        sync_job.c.status.in_((*TERMINAL_STATUSES, VANISHED)),
    )
)


def _ended(values: dict[str, object]) -> Ended:
    status = str(values.pop("job_status"))
    origin, kind, message = (values.pop(name) for name in ("failure_origin", "failure_type", "failure_message"))
    failure = Failure(_text(origin), _text(kind), str(message)) if message is not None else None
    return Ended(as_intent(values), None if status == VANISHED else JobStatus(status), failure)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def known_jobs(connection: sa.Connection, intent: Intent, listed: Collection[AirbyteJob]) -> set[int]:
    """Returns which of the jobs that Airbyte lists for the intent's connection its start cannot have made."""
    jobs = {job.job_id: job for job in listed}
    columns = (
        sync_job.c.job_id,
        sync_job.c.first_observed_at,
        sync_job.c.intent_id,
        sync_job.c.connection_id,
        sync_job.c.started_at,
    )
    found = connection.execute(sa.select(*columns).where(sync_job.c.job_id.in_(jobs)))
    return {
        job_id
        for job_id, first_seen, owner, connection_id, started_at in found
        if _known(intent, first_seen, owner) and not is_another(jobs[job_id], connection_id, started_at)
    }


def _known(intent: Intent, first_seen: datetime, owner: int | None) -> bool:
    assert intent.posted_at is not None
    return first_seen < intent.posted_at or owner not in (None, intent.id)
