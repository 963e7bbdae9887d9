"""What of the ledger Dagster knows: batches of reports, and jobs whose waiting run reports them itself.

Belongs here: the states none, pending, reporting, reported, skipped, and who owns a report. Does not belong here: the
reports (the Dagster shell). Dagster's event log is another database, so a batch is committed as `reporting` with the
log's position before its events are written; after a crash the log is searched from that position for what arrived.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from adinsights_orchestration.ingestion.intents import OPEN_STATES, IntentState
from adinsights_orchestration.ingestion.ledger.job_rows import JobRow, as_job_row, job_rows
from adinsights_orchestration.ingestion.ledger.turns import take_turn
from adinsights_orchestration.ops_store.tables import report_batch, sync_intent, sync_job
from adinsights_orchestration.tenants.model import Provider


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """Jobs whose reports are being written, and where the event log ended before."""

    id: UUID
    provider: Provider
    event_cursor: int
    jobs: tuple[JobRow, ...]


@dataclass(frozen=True, slots=True)
class ReportAgenda:
    """Providers with jobs that wait to be reported, and those with batches that were begun and not finished."""

    pending: frozenset[Provider]
    begun: frozenset[Provider]


@dataclass(frozen=True, slots=True)
class Released:
    """What a dead run left: jobs that anybody may report now, and starts that will not happen any more."""

    jobs: int
    abandoned: int


_WAITING = (
    sa.select(sync_job.c.provider, sync_job.c.report_state)
    .where(
        sa.or_(
            sync_job.c.report_state == "reporting",
            sa.and_(sync_job.c.report_state == "pending", sync_job.c.run_id.is_(None)),
        ),
        sync_job.c.report_state.in_(("pending", "reporting")),  # the index's own condition
    )
    .distinct()
)


def report_agenda(connection: sa.Connection) -> ReportAgenda:
    """Looks at what waits to be reported, in one statement: most ticks find nothing."""
    found = [(Provider(row.provider), row.report_state) for row in connection.execute(_WAITING)]
    return ReportAgenda(
        pending=frozenset(provider for provider, state in found if state == "pending"),
        begun=frozenset(provider for provider, state in found if state == "reporting"),
    )


def pending_reports(connection: sa.Connection, provider: Provider, limit: int) -> list[JobRow]:
    """Returns finished jobs that nobody has reported and no run waits for, in the order in which they ended."""
    found = connection.execute(_PENDING, {"provider": provider.value, "most": limit})
    return [as_job_row(row) for row in found]


_PENDING = (
    job_rows()
    .where(
        sync_job.c.provider == sa.bindparam("provider", type_=sa.Text),
        sync_job.c.report_state == "pending",
        sync_job.c.run_id.is_(None),
    )
    .order_by(sync_job.c.ended_at, sync_job.c.job_id)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
# Statements are made once: making one costs several times what sending it does. Lists travel as arrays.
_ids = sa.bindparam("ids", type_=ARRAY(sa.BigInteger))
_batch = sa.bindparam("batch", type_=sa.UUID)
_in_batch = sa.and_(sync_job.c.report_batch == _batch, sync_job.c.report_state == "reporting")
_TAKE = (
    sa.update(sync_job)
    .where(sync_job.c.job_id == sa.any_(_ids), sync_job.c.report_state == "pending", sync_job.c.run_id.is_(None))
    .values(report_state="reporting", report_batch=_batch)
)
_TAKEN = job_rows().where(_in_batch).order_by(sync_job.c.ended_at, sync_job.c.job_id)
_DONE = (
    sa.update(sync_job)
    .where(_in_batch, sync_job.c.job_id == sa.any_(_ids))
    .values(report_state="reported", reported_at=sa.bindparam("now", type_=sa.DateTime(timezone=True)))
)
_PUT_BACK = sa.update(sync_job).where(_in_batch).values(report_state="pending", report_batch=None)
_OVER = (
    sa.update(report_batch)
    .where(report_batch.c.id == _batch, report_batch.c.finished_at.is_(None))
    .values(finished_at=sa.bindparam("now", type_=sa.DateTime(timezone=True)))
)


def begin_report_batch(
    connection: sa.Connection, provider: Provider, job_ids: Collection[int], event_cursor: int, now: datetime
) -> ReportBatch:
    """Takes the jobs for reporting; commit this before the first event is written.

    Args:
        connection: A transaction of its own.
        provider: Whose jobs.
        job_ids: From `pending_reports`; those that are not pending any more are left out.
        event_cursor: The event log's highest id before anything of the batch is written.
        now: The moment.

    Returns:
        The batch with the jobs that it took, in the order in which they ended.
    """
    take_turn(connection)
    batch_id = uuid.uuid4()
    connection.execute(
        sa.insert(report_batch).values(id=batch_id, provider=provider.value, event_cursor=event_cursor, started_at=now)
    )
    connection.execute(_TAKE, {"ids": list(job_ids), "batch": batch_id})
    return ReportBatch(batch_id, provider, event_cursor, _jobs_of(connection, batch_id))


def finish_report_batch(connection: sa.Connection, batch_id: UUID, reported: Collection[int], now: datetime) -> None:
    """Ends a batch: `reported` jobs are done, the others of the batch wait again. Ending it twice changes nothing."""
    take_turn(connection)
    connection.execute(_DONE, {"batch": batch_id, "ids": list(reported), "now": now})
    connection.execute(_PUT_BACK, {"batch": batch_id})
    connection.execute(_OVER, {"batch": batch_id, "now": now})


def open_report_batches(connection: sa.Connection, provider: Provider | None = None) -> list[ReportBatch]:
    """Returns batches that were begun and not finished, oldest first: what a killed process left."""
    unfinished = sa.select(report_batch).where(report_batch.c.finished_at.is_(None))
    if provider is not None:
        unfinished = unfinished.where(report_batch.c.provider == provider.value)
    rows = connection.execute(unfinished.order_by(report_batch.c.started_at)).all()
    return [ReportBatch(row.id, Provider(row.provider), row.event_cursor, _jobs_of(connection, row.id)) for row in rows]


def _jobs_of(connection: sa.Connection, batch_id: UUID) -> tuple[JobRow, ...]:
    return tuple(as_job_row(row) for row in connection.execute(_TAKEN, {"batch": batch_id}))


def newest_ended(connection: sa.Connection, partitions: Collection[str]) -> dict[str, JobRow]:
    """Returns each partition's newest job that is over and was to bring data, whether or not it was reported."""
    if not partitions:
        return {}
    found = connection.execute(_NEWEST_ENDED, {"partitions": list(partitions)})
    return {row.partition_key: as_job_row(row) for row in found}


def _newest_ended() -> sa.Select[Any]:
    """One step into the index for each partition, however many jobs it has had."""
    given = sa.func.unnest(sa.bindparam("partitions", type_=ARRAY(sa.Text)))
    wanted = given.table_valued("key").render_derived(name="wanted")
    over = sa.and_(sync_job.c.ended_at.is_not(None), sync_job.c.report_state.in_(("pending", "reporting", "reported")))
    newest = (
        job_rows()
        .where(sync_job.c.partition_key == wanted.c.key, over)
        .order_by(sync_job.c.ended_at.desc(), sync_job.c.job_id.desc())
        .limit(1)
        .lateral("newest")
    )
    return sa.select(*newest.c).select_from(wanted.join(newest, sa.true()))


_NEWEST_ENDED = _newest_ended()


def mark_reported(connection: sa.Connection, job_ids: Collection[int], run_id: str, now: datetime) -> int:
    """Notes that a run reported its own jobs; returns how many that were not noted yet."""
    take_turn(connection)
    mine = sa.and_(sync_job.c.job_id.in_(job_ids), sync_job.c.run_id == run_id, sync_job.c.report_state == "pending")
    done = sa.update(sync_job).where(mine).values(report_state="reported", reported_at=now)
    return connection.execute(done).rowcount


def jobs_of_run(connection: sa.Connection, run_id: str) -> list[JobRow]:
    """Returns the unreported jobs that a run owns; look for them in the event log before the run is released."""
    mine = job_rows().where(sync_job.c.run_id == run_id, sync_job.c.report_state.in_(("none", "pending")))
    return [as_job_row(row) for row in connection.execute(mine.order_by(sync_job.c.job_id))]


def waiting_runs(connection: sa.Connection) -> list[str]:
    """Returns the runs that own unreported jobs or open intents; a run among them that is dead is to be released."""
    jobs = sa.select(sync_job.c.run_id).where(
        sync_job.c.run_id.is_not(None), sync_job.c.report_state.in_(("none", "pending"))
    )
    open_states = [state.value for state in OPEN_STATES]
    intents = sa.select(sync_intent.c.run_id).where(
        sync_intent.c.run_id.is_not(None), sync_intent.c.state.in_(open_states)
    )
    return sorted(connection.execute(jobs.union(intents)).scalars())


def release_run(connection: sa.Connection, run_id: str, now: datetime, *, keep: Collection[int] = ()) -> Released:
    """Takes everything from a run that is dead or waits no longer: its syncs go on, and anybody may report them.

    What it had not started yet is given up, because nobody is there any more who waits for it.

    Args:
        connection: The caller's transaction.
        run_id: The run.
        now: The moment.
        keep: Jobs that stay the run's own, because it may have reported them already.
    """
    take_turn(connection)
    planned = sa.and_(sync_intent.c.run_id == run_id, sync_intent.c.state == IntentState.PLANNED.value)
    ended = {"state": IntentState.ABANDONED.value, "last_error": "the run that asked for it ended", "updated_at": now}
    abandoned = connection.execute(sa.update(sync_intent).where(planned).values(ended)).rowcount
    still_open = sa.and_(sync_intent.c.run_id == run_id, sync_intent.c.state.in_([s.value for s in OPEN_STATES]))
    connection.execute(sa.update(sync_intent).where(still_open).values(run_id=None))
    owned = sa.and_(
        sync_job.c.run_id == run_id,
        sync_job.c.report_state.in_(("none", "pending")),
        sync_job.c.job_id.not_in(list(keep)),
    )
    jobs = connection.execute(sa.update(sync_job).where(owned).values(run_id=None)).rowcount
    return Released(jobs, abandoned)
