"""The ledger's side of telling the backend: which finished jobs are due to be told, and what became of each.

Belongs here: statements on `webhook_post` and `webhook_told`, and on `sync_job` as far as telling needs it. Does not
belong here: deciding (`webhook_rules`), HTTP and the backend's table (`webhook`). A job is considered until its telling
is settled; jobs older than a connection's newest settled one never are again, so each tick reads one or a few rows a
connection, however long the ledger is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as PG_UUID

from adinsights_orchestration.ingestion.airbyte_models import DATA_TYPES
from adinsights_orchestration.ingestion.webhook_rules import FinishedJob, State
from adinsights_orchestration.ops_store.tables import sync_job, webhook_post, webhook_told


@dataclass(frozen=True, slots=True)
class Audience:
    """Where a connection belongs now, whatever it was when a job of it ran."""

    connection_id: UUID
    tenant_id: UUID
    partition_key: str


def due_jobs(
    connection: sa.Connection,
    audience: Collection[Audience],
    *,
    statuses: Collection[str],
    ended_by: datetime,
    now: datetime,
    per_connection: int,
    limit: int,
) -> list[FinishedJob]:
    """Returns the finished jobs that are to be told, oldest end first.

    Args:
        connection: A transaction on the ops store.
        audience: The connections whose jobs count: those that the registry has.
        statuses: The ends that count.
        ended_by: Jobs that ended later are not due yet.
        now: Connections with a post that waits for a later moment are left out as a whole: no job overtakes another.
        per_connection: So many of a connection's newest jobs, beside those whose telling has begun.
        limit: Jobs returned at most, beside those whose telling has begun.
    """
    under_way, waiting = _open_posts(connection, now)
    places = {each.connection_id: each for each in audience if each.connection_id not in waiting}
    fresh = connection.execute(_unsettled(list(places), statuses, ended_by, per_connection).limit(limit)).all()
    rows = {row.job_id: row for row in (*fresh, *under_way) if row.connection_id in places}
    return [_finished_job(row, places[row.connection_id]) for row in sorted(rows.values(), key=lambda row: row.ended)]


def mark_posting(connection: sa.Connection, job: FinishedJob, not_before: datetime, now: datetime) -> None:
    """Commits to a post before it is made: from here on it may have arrived."""
    _write(connection, [job], state=State.POSTING, attempts=job.attempts + 1, not_before=not_before, decided_at=now)


def put_off(
    connection: sa.Connection, job: FinishedJob, attempts: int, not_before: datetime, reason: str, now: datetime
) -> None:
    """Records that a post did not settle the job, how many may have arrived, and when the backend is asked again."""
    values = {"attempts": attempts, "not_before": not_before, "decided_at": now, "last_error": reason}
    _write(connection, [job], state=State.POSTING, **values)


def settle(
    connection: sa.Connection, jobs: Sequence[FinishedJob], state: State, now: datetime, reason: str | None = None
) -> None:
    """Ends the telling of these jobs, and of all older ones of their connections."""
    _write(connection, jobs, state=state, not_before=None, decided_at=now, last_error=reason)
    if jobs:
        fresh = insert(webhook_told)
        later = fresh.on_conflict_do_update(
            index_elements=[webhook_told.c.connection_id],
            set_={"job_id": fresh.excluded.job_id, "started_at": fresh.excluded.started_at},
            where=webhook_told.c.job_id < fresh.excluded.job_id,
        )
        names = ("connection_id", "job_id", "started_at")
        connection.execute(later, [{name: getattr(job, name) for name in names} for job in jobs])


def _write(connection: sa.Connection, jobs: Sequence[FinishedJob], state: State, **values: object) -> None:
    if not jobs:
        return
    rows = [{"job_id": job.job_id, "state": state.value, "attempts": job.attempts, **values} for job in jobs]
    fresh = insert(webhook_post)
    changed = {name: fresh.excluded[name] for name in ("state", *values)}
    connection.execute(fresh.on_conflict_do_update(index_elements=[webhook_post.c.job_id], set_=changed), rows)


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_ENDED = sa.func.coalesce(sync_job.c.ended_at, sync_job.c.observed_at).label("ended")
_COLUMNS = (
    sync_job.c.job_id,
    sync_job.c.connection_id,
    sync_job.c.job_type,
    sync_job.c.status,
    sync_job.c.started_at,
    _ENDED,
    sync_job.c.rows_synced,
    sync_job.c.bytes_synced,
    sync_job.c.failure_message,
)


def _open_posts(connection: sa.Connection, now: datetime) -> tuple[list[sa.Row[Any]], set[UUID]]:
    query = sa.select(*_COLUMNS, webhook_post.c.attempts, webhook_post.c.not_before).join(webhook_post)
    rows = connection.execute(query.where(webhook_post.c.state == State.POSTING.value)).all()
    waiting = {row.connection_id for row in rows if row.not_before is not None and row.not_before > now}
    return [row for row in rows if row.connection_id not in waiting], waiting


def _unsettled(
    connection_ids: list[UUID], statuses: Collection[str], ended_by: datetime, per_connection: int
) -> sa.Select[Any]:
    ids = sa.cast(connection_ids, ARRAY(PG_UUID(as_uuid=True)))
    wanted = sa.func.unnest(ids).table_valued("id").render_derived(name="wanted")
    newest = (
        sa.select(*_COLUMNS)
        .where(
            sync_job.c.connection_id == wanted.c.id,
            sync_job.c.job_type.in_(DATA_TYPES),
            sync_job.c.status.in_(statuses),
            ended_by >= _ENDED,
            # The moment bounds what of the index is read; the id decides.
            sync_job.c.started_at >= sa.func.coalesce(webhook_told.c.started_at, _LONG_AGO),
            sync_job.c.job_id > sa.func.coalesce(webhook_told.c.job_id, -1),
        )
        .order_by(sync_job.c.started_at.desc(), sync_job.c.job_id.desc())
        .limit(per_connection)
        .lateral("newest")
    )
    joined = wanted.outerjoin(webhook_told, webhook_told.c.connection_id == wanted.c.id).join(newest, sa.true())
    # A newer job without an open post has no attempts: its row, if any, would be settled, and it would not be newer.
    query = sa.select(newest, sa.literal(0).label("attempts")).select_from(joined)
    return query.order_by(newest.c.ended, newest.c.job_id)


def _finished_job(row: sa.Row[Any], place: Audience) -> FinishedJob:
    return FinishedJob(
        job_id=row.job_id,
        connection_id=row.connection_id,
        tenant_id=place.tenant_id,
        partition_key=place.partition_key,
        job_type=row.job_type,
        status=row.status,
        started_at=row.started_at,
        ended_at=row.ended,
        rows_synced=row.rows_synced,
        bytes_synced=row.bytes_synced,
        failure_message=row.failure_message,
        attempts=row.attempts,
    )
