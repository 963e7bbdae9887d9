"""Statements on `sync_job`: one row per Airbyte job, whoever started it.

Belongs here: SQL that writes and reads jobs. Does not belong here: reading Airbyte (`job_feed`), how jobs and intents
find each other (`links`), reporting to Dagster (`reports`). A job that is over never becomes a running one again,
however late an old page arrives; details may be added to it once. One that only seems to be gone does: an Airbyte that
is being restarted or restored may not know a job for a while, and the sync behind it goes on and brings its data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobStatus
from adinsights_orchestration.ingestion.ledger.job_rows import VANISHED, JobRow, Place, Placed, as_job_row, job_rows
from adinsights_orchestration.ingestion.ledger.recordset import as_rows, recordset
from adinsights_orchestration.ingestion.ledger.reissued import is_another, set_aside
from adinsights_orchestration.ops_store.compiling import compiled_once
from adinsights_orchestration.ops_store.tables import partition_connection, partition_key, sync_intent, sync_job
from adinsights_orchestration.ops_store.taken_out import note_taken_out
from adinsights_orchestration.tenants.model import Provider

GONE_AFTER = timedelta(minutes=1)  # a job is gone when Airbyte does not know it twice, so far apart at least
_REFRESHED_AFTER = timedelta(minutes=5)  # a running job's row is not written again sooner just to say so

# ------------------------------------------------------------------------------------------------------------- writing

_GIVEN = (
    sync_job.c.job_id,
    sync_job.c.connection_id,
    sync_job.c.partition_key,
    sync_job.c.provider,
    sync_job.c.tenant_id,
    sync_job.c.job_type,
    sync_job.c.status,
    sync_job.c.started_at,
    sync_job.c.ended_at,
    sync_job.c.duration_seconds,
    sync_job.c.rows_synced,
    sync_job.c.bytes_synced,
    sync_job.c.streams,
    sync_job.c.attempts,
    sync_job.c.failure_origin,
    sync_job.c.failure_type,
    sync_job.c.failure_message,
    sync_job.c.airbyte_updated_at,
    sync_job.c.report_state,
)
_FILLED_IN = ("streams", "attempts", "failure_origin", "failure_type", "failure_message", "rows_synced", "bytes_synced")
_now = sa.bindparam("now", type_=sa.DateTime(timezone=True))


def _record_statement() -> sa.Insert:
    rows = recordset("rows", "r", *_GIVEN, sync_job.c.intent_id)
    waiting = (
        sa.select(sync_intent.c.run_id)
        .where(sync_intent.c.job_id == rows.c.job_id, sync_intent.c.run_id.is_not(None))
        .order_by(sync_intent.c.id)
        .limit(1)
        .scalar_subquery()
    )
    started_by = sa.case((rows.c.intent_id.is_not(None), "orchestrator"), else_="external")
    given = (rows.c[column.name] for column in _GIVEN)
    over = sa.case((rows.c.report_state != "none", _now))
    source = sa.select(*given, rows.c.intent_id, started_by, waiting, _now, over, _now)
    names = [column.name for column in _GIVEN]
    names += ["intent_id", "started_by", "run_id", "first_observed_at", "end_observed_at", "observed_at"]
    return _merged(insert(sync_job).from_select(names, source))


def _merged(fresh: Any) -> sa.Insert:
    """What happens to a row that is there already: a running one moves on, a finished one may still gain details.

    A vanished one that Airbyte tells of again starts anew, as nobody's to report but the batches': a run that waited
    for it has told that it is gone. Only one that is just being reported has to wait for the next reading.
    """
    new, old = fresh.excluded, sync_job.c
    back = sa.and_(old.status == VANISHED, old.report_state != "reporting")
    running, ends = sa.or_(old.report_state == "none", back), new.report_state != "none"
    told_again = sa.or_(old.observed_at < _now - sa.literal(_REFRESHED_AFTER), old.missing_since.is_not(None))
    moves = sa.or_(ends, new.status != old.status, sa.and_(old.intent_id.is_(None), new.intent_id.is_not(None)))

    def kept(name: str) -> sa.ColumnElement[Any]:
        return sa.case((back, new[name]), else_=sa.func.coalesce(old[name], new[name]))

    def filled_in(name: str) -> sa.ColumnElement[Any]:
        return sa.case((back, new[name]), else_=sa.func.coalesce(new[name], old[name]))

    gains = sa.and_(~running, ends, old.attempts.is_(None), new.attempts.is_not(None))
    unreported = sa.or_(old.report_state == "none", old.report_state == "pending")
    statement: sa.Insert = fresh.on_conflict_do_update(
        index_elements=[old.job_id],
        set_={
            "status": sa.case((running, new.status), else_=old.status),
            **{name: kept(name) for name in ("ended_at", "end_observed_at", "duration_seconds")},
            **{name: filled_in(name) for name in _FILLED_IN},
            "airbyte_updated_at": sa.func.coalesce(new.airbyte_updated_at, old.airbyte_updated_at),
            "report_state": sa.case((running, new.report_state), else_=old.report_state),
            "intent_id": sa.func.coalesce(old.intent_id, new.intent_id),
            "started_by": sa.case((old.intent_id.is_(None), new.started_by), else_=old.started_by),
            "run_id": sa.case(
                (back, sa.null()), (unreported, sa.func.coalesce(old.run_id, new.run_id)), else_=old.run_id
            ),
            "observed_at": new.observed_at,
            "missing_since": sa.null(),
        },
        where=sa.or_(sa.and_(running, sa.or_(moves, told_again)), gains),
    )
    return statement.returning(sync_job.c.job_id, sync_job.c.report_state)


_RECORD = compiled_once(_record_statement())


def record_jobs(connection: sa.Connection, placed: Sequence[Placed], now: datetime) -> set[int]:
    """Writes what is new of the jobs, in one statement, and returns the ids of those that are over.

    A job whose id another one had is a new one; see `reissued`. The caller has its turn.
    """
    if not placed:
        return set()
    by_id = {one.job.job_id: one for one in placed}  # one statement may touch a row once
    rows = as_rows(_record_row(by_id[job_id]) for job_id in sorted(by_id))
    set_aside(connection, [one.job for one in by_id.values()], now)
    written = connection.execute(_RECORD, {"rows": rows, "now": now})
    over = {job_id for job_id, state in written if state != "none"}
    cleared = [one for job_id in sorted(over) if _takes_out(one := by_id[job_id])]
    note_taken_out(connection, {one.place.provider: one.job.job_id for one in cleared}, now)
    return over


def _takes_out(placed: Placed) -> bool:
    return not placed.job.type.brings_data and placed.job.status is JobStatus.SUCCEEDED


def _record_row(placed: Placed) -> dict[str, Any]:
    job, place = placed.job, placed.place
    streams = [{"name": s.name, "namespace": s.namespace, "rows": s.rows, "bytes": s.bytes} for s in job.streams]
    return {
        "job_id": job.job_id,
        "connection_id": job.connection_id,
        "partition_key": place.partition_key,
        "provider": place.provider.value,
        "tenant_id": place.tenant_id,
        "job_type": job.type.value,
        "status": job.status.value,
        "started_at": job.created_at,
        "ended_at": job.ended_at,
        "duration_seconds": None if job.duration is None else job.duration.total_seconds(),
        "rows_synced": job.rows,
        "bytes_synced": job.bytes,
        "streams": streams or None,
        "attempts": job.attempts if job.status.terminal else None,
        "failure_origin": job.failure.origin if job.failure else None,
        "failure_type": job.failure.type if job.failure else None,
        "failure_message": job.failure.message if job.failure else None,
        "airbyte_updated_at": job.updated_at,
        "report_state": _report_state(job),
        "intent_id": placed.intent_id,
    }


def _report_state(job: AirbyteJob) -> str:
    if not job.status.terminal:
        return "none"
    return "pending" if job.type.brings_data else "skipped"


def touch_running(connection: sa.Connection, job_ids: Collection[int], now: datetime) -> None:
    """Notes that these jobs were seen running."""
    if job_ids:
        seen = sa.and_(sync_job.c.job_id.in_(job_ids), sync_job.c.report_state == "none")
        connection.execute(sa.update(sync_job).where(seen).values(observed_at=now, missing_since=None))


def note_missing(connection: sa.Connection, job_id: int, now: datetime) -> bool:
    """Notes that Airbyte does not know a job; ends it, so that nothing waits for it, when that was so before.

    Its end is when it was last seen running: what its connection did since then is newer.

    Returns:
        Whether the job counts as gone from now on. One answer is not enough: see `GONE_AFTER`.
    """
    running = sa.and_(sync_job.c.job_id == job_id, sync_job.c.report_state == "none")
    first = sa.update(sync_job).where(running, sync_job.c.missing_since.is_(None))
    connection.execute(first.values(missing_since=now))
    brings_data = sync_job.c.job_type.in_(("sync", "refresh"))
    ended = sa.update(sync_job).where(running, sync_job.c.missing_since <= now - GONE_AFTER)
    gone = connection.execute(
        ended.values(
            status=VANISHED,
            ended_at=sync_job.c.observed_at,
            end_observed_at=now,
            attempts=0,
            failure_message="Airbyte does not know this job any more",
            report_state=sa.case((brings_data, "pending"), else_="skipped"),
            observed_at=now,
        )
    )
    return gone.rowcount > 0


# ------------------------------------------------------------------------------------------------------------- reading


def nothing_new(connection: sa.Connection, jobs: Collection[AirbyteJob], now: datetime, *, detailed: bool) -> set[int]:
    """Returns the ids of those jobs of which the ledger knows as much: as far, as detailed, and seen lately.

    Args:
        connection: The caller's transaction.
        jobs: As Airbyte tells them now.
        now: The moment.
        detailed: Whether the jobs carry the configuration API's details.
    """
    columns = (
        sync_job.c.job_id,
        sync_job.c.status,
        sync_job.c.report_state,
        sync_job.c.attempts,
        sync_job.c.observed_at,
        sync_job.c.missing_since,
        sync_job.c.connection_id,
        sync_job.c.started_at,
    )
    told = {job.job_id: job for job in jobs}
    rows = connection.execute(sa.select(*columns).where(sync_job.c.job_id.in_(told)))
    return {
        job_id
        for job_id, status, report_state, attempts, observed_at, missing_since, connection_id, started_at in rows
        if not is_another(told[job_id], connection_id, started_at)
        and (
            (attempts is not None or not detailed) and status != VANISHED
            if report_state != "none"
            else status == told[job_id].status and now - observed_at < _REFRESHED_AFTER and missing_since is None
        )
    }


def jobs_by_id(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, JobRow]:
    """Returns the rows of these jobs."""
    if not job_ids:
        return {}
    found = connection.execute(job_rows().where(sync_job.c.job_id.in_(job_ids)))
    return {row.job_id: as_job_row(row) for row in found}


def stale_running_jobs(connection: sa.Connection, before: datetime, limit: int) -> list[JobRow]:
    """Returns jobs that run as far as is known, but were not seen since the moment; the longest unseen first."""
    stale = job_rows().where(sync_job.c.report_state == "none", sync_job.c.observed_at < before)
    return [as_job_row(row) for row in connection.execute(stale.order_by(sync_job.c.observed_at).limit(limit))]


def jobs_without_details(connection: sa.Connection, since: datetime, limit: int) -> list[int]:
    """Returns failed jobs that ended since the moment and whose reason was not read yet, newest first."""
    bare = sa.select(sync_job.c.job_id).where(
        sync_job.c.attempts.is_(None),
        sync_job.c.report_state != "none",
        sync_job.c.ended_at >= since,
        sync_job.c.status != "succeeded",
    )
    return list(connection.execute(bare.order_by(sync_job.c.ended_at.desc()).limit(limit)).scalars())


def places_of(connection: sa.Connection, connection_ids: Iterable[UUID]) -> Mapping[UUID, Place]:
    """Returns where connections belong that the registry does not name any more, by what it named before."""
    ids = list(connection_ids)
    if not ids:
        return {}
    query = (
        sa.select(
            partition_connection.c.connection_id,
            partition_key.c.key,
            partition_key.c.provider,
            partition_key.c.tenant_id,
        )
        .join(partition_key, partition_key.c.key == partition_connection.c.key)
        .where(partition_connection.c.connection_id.in_(ids))
    )
    return {
        found: Place(key, Provider(provider), tenant_id)
        for found, key, provider, tenant_id in connection.execute(query)
    }
