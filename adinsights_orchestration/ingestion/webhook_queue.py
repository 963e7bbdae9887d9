"""The ledger's side of telling the backend: which finished jobs are due to be told, and what became of each.

Belongs here: statements on `webhook_post` and `webhook_told`, on `sync_job` as far as telling needs it, and since when
the sender is who it is. Does not belong here: deciding (`webhook_rules`), HTTP and the backend's table (`webhook`). A
job is considered until its telling is settled; jobs older than a connection's newest settled one never are again, so
each tick reads one or a few rows a connection, however long the ledger is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as PG_UUID

from adinsights_orchestration.ingestion.airbyte_models import DATA_TYPES
from adinsights_orchestration.ingestion.webhook_rules import FinishedJob, Settled, State
from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.tables import cursor, sync_job, webhook_post, webhook_told

_SENDER = "webhook_sender"


@dataclass(frozen=True, slots=True)
class Audience:
    """Where a connection belongs now, whatever it was when a job of it ran."""

    connection_id: UUID
    tenant_id: UUID
    partition_key: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which finished jobs are to be told.

    Attributes:
        audience: The connections whose jobs count: those that the registry has.
        statuses: The ends that count.
        ended_by: Jobs that ended later are not due yet.
        started_after: Where a connection's jobs begin of which none is settled.
        every: All jobs of a connection, oldest first; else only its newest.
    """

    audience: Collection[Audience]
    statuses: Collection[str]
    ended_by: datetime
    started_after: datetime
    every: bool


def due_jobs(
    connection: sa.Connection, wanted: Wanted, *, now: datetime, per_connection: int, limit: int
) -> list[FinishedJob]:
    """Returns finished jobs that are to be told, oldest first; of a connection always the next ones.

    Args:
        connection: A transaction on the ops store.
        wanted: Which jobs count.
        now: Connections with a post that waits for a later moment are left out as a whole: no job overtakes another.
        per_connection: Jobs of one connection at most, where every one is to be told.
        limit: Jobs returned at most, beside those whose telling has begun.
    """
    under_way, waiting = _open_posts(connection, now)
    places = {each.connection_id: each for each in wanted.audience if each.connection_id not in waiting}
    fresh = _unsettled(list(places), wanted, per_connection if wanted.every else 1)
    rows = {row.job_id: row for row in connection.execute(fresh.limit(limit))}
    rows |= {row.job_id: row for row in under_way if row.connection_id in places}
    return [_finished_job(row, places[row.connection_id]) for row in sorted(rows.values(), key=_in_turn)]


def count_due(connection: sa.Connection, wanted: Wanted) -> int:
    """Returns how many jobs are to be told, those included whose connection waits for a later moment."""
    jobs = _unsettled([each.connection_id for each in wanted.audience], wanted, None if wanted.every else 1)
    return int(connection.execute(sa.select(sa.func.count()).select_from(jobs.order_by(None).subquery())).scalar_one())


def sender_since(connection: sa.Connection, sender: str, now: datetime) -> datetime:
    """Returns since when the setting has named this sender; a change is noted with the first round after it."""
    query = sa.select(cursor.c.value).where(cursor.c.name == _SENDER)
    last = connection.execute(query).scalar_one_or_none()
    if last is not None and last["sender"] == sender:
        return datetime.fromisoformat(last["since"])
    value = {"sender": sender, "since": now.isoformat()}
    keep_cursor(connection, _SENDER, value, now)
    return now


def taken_around(connection: sa.Connection, moment: datetime, within: timedelta) -> bool:
    """Whether the backend took posts shortly before that moment and again after it: it was well at that time."""
    decided = webhook_post.c.decided_at
    posted = sa.select(webhook_post.c.job_id).where(webhook_post.c.state == State.POSTED.value)
    before = posted.where(decided > moment - within, decided <= moment).exists()
    after = posted.where(decided > moment).exists()
    return bool(connection.execute(sa.select(sa.and_(before, after))).scalar_one())


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
        names = ("connection_id", "job_id", "started_at")
        _move_mark(connection, [{name: getattr(job, name) for name in names} for job in jobs])


def settle_older(connection: sa.Connection, connection_id: UUID, statuses: Collection[str], settled: Settled) -> None:
    """Ends the telling of these jobs of a connection in one step."""
    wanted = [
        sync_job.c.connection_id == connection_id,
        sync_job.c.status.in_(statuses),
        sync_job.c.job_id <= settled.job_id,
    ]
    if settled.ended_by is not None:
        wanted.append(settled.ended_by >= _ENDED)
    if settled.started_by is not None:
        wanted.append(settled.started_by >= sync_job.c.started_at)
    newest = sa.select(sync_job.c.connection_id, sync_job.c.job_id, sync_job.c.started_at).where(*wanted)
    row = connection.execute(newest.order_by(sync_job.c.started_at.desc(), sync_job.c.job_id.desc()).limit(1)).first()
    if row is not None:
        _move_mark(connection, [row._asdict()])


def _move_mark(connection: sa.Connection, marks: Sequence[dict[str, Any]]) -> None:
    fresh = insert(webhook_told)
    later = fresh.on_conflict_do_update(
        index_elements=[webhook_told.c.connection_id],
        set_={"job_id": fresh.excluded.job_id, "started_at": fresh.excluded.started_at},
        where=_place(webhook_told.c) < _place(fresh.excluded),
    )
    connection.execute(later, marks)


def _place(columns: Any) -> sa.Tuple:
    """Where a job stands among those of its connection: ids alone begin anew with a restored Airbyte."""
    return sa.tuple_(columns.started_at, columns.job_id)


def _write(connection: sa.Connection, jobs: Sequence[FinishedJob], state: State, **values: object) -> None:
    if not jobs:
        return
    rows = [{"job_id": job.job_id, "state": state.value, "attempts": job.attempts, **values} for job in jobs]
    fresh = insert(webhook_post)
    changed = {name: fresh.excluded[name] for name in ("state", *values)}
    connection.execute(fresh.on_conflict_do_update(index_elements=[webhook_post.c.job_id], set_=changed), rows)


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
    columns = (webhook_post.c.attempts, webhook_post.c.decided_at, webhook_post.c.not_before)
    query = sa.select(*_COLUMNS, *columns).join(webhook_post)
    rows = connection.execute(query.where(webhook_post.c.state == State.POSTING.value)).all()
    waiting = {row.connection_id for row in rows if row.not_before is not None and row.not_before > now}
    return [row for row in rows if row.connection_id not in waiting], waiting


def _unsettled(connection_ids: list[UUID], wanted: Wanted, per_connection: int | None) -> sa.Select[Any]:
    """The jobs beyond what is settled of each connection: its oldest or its newest ones, as many as are wanted."""
    ids = sa.cast(connection_ids, ARRAY(PG_UUID(as_uuid=True)))
    audience = sa.func.unnest(ids).table_valued("id").render_derived(name="audience")
    order = (sync_job.c.started_at, sync_job.c.job_id)
    jobs = (
        sa.select(*_COLUMNS)
        .where(
            sync_job.c.connection_id == audience.c.id,
            sync_job.c.job_type.in_(DATA_TYPES),
            sync_job.c.status.in_(wanted.statuses),
            wanted.ended_by >= _ENDED,
            sync_job.c.job_id > 0,  # a job whose id Airbyte gave to another one has none that the backend could know
            # The moment alone bounds what of the index is read.
            sync_job.c.started_at >= sa.func.coalesce(webhook_told.c.started_at, wanted.started_after),
            sa.or_(webhook_told.c.job_id.is_(None), _place(sync_job.c) > _place(webhook_told.c)),
        )
        .order_by(*(order if wanted.every else (column.desc() for column in order)))
        .limit(per_connection)
        .lateral("jobs")
    )
    joined = audience.outerjoin(webhook_told, webhook_told.c.connection_id == audience.c.id).join(jobs, sa.true())
    # A newer job without an open post has no attempts: its row, if any, would be settled, and it would not be newer.
    query = sa.select(jobs, sa.literal(0).label("attempts"), sa.null().label("decided_at")).select_from(joined)
    # In the order of each connection's jobs, so that a limit never takes one and leaves an older one of its connection.
    return query.order_by(jobs.c.started_at, jobs.c.job_id)


def _in_turn(row: sa.Row[Any]) -> tuple[datetime, int]:
    return row.started_at, row.job_id


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
        tried_at=row.decided_at,
    )
