"""The journal of what was done to the audit log and its archive, and the audit rows that are owed for it.

Belongs here: opening and closing a run's entry, with one audit row for every tenant that it affected. Does not belong
here: delivering those rows (`backend.audit`). Rows are counted from the ledger, so that a run that died half-way is
accounted for by the next one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log.source import NOBODY
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.audit_tables import audit_chunk, audit_day, audit_run
from adinsights_orchestration.ops_store.store import OpsStore

ARCHIVED = "audit_log_archived"
RESOURCE = "audit_log"
_FROM_UI = "dagster/from_ui"  # on whatever the UI starts, backfills and what is executed again included
_BY_ITSELF = frozenset(("dagster/schedule_name", "dagster/sensor_name"))


def actor_of(tags: Mapping[str, str]) -> str:
    """Who asked for a Dagster run, by its tags: a person, or a schedule.

    The person first: a run that somebody executes again keeps the tags of the one that the schedule had started.
    """
    return tags.get("user") or tags.get("dagster/schedule_name") or "the Dagster UI"


def asked_in_the_ui(tags: Mapping[str, str]) -> bool:
    """Whether a person chose in the UI what a run is about; what began by itself and is executed again, nobody did."""
    return _FROM_UI in tags and _BY_ITSELF.isdisjoint(tags)


def open_run(
    store: OpsStore,
    source: str,
    kind: str,
    *,
    actor: str,
    now: datetime,
    run_id: str | None = None,
) -> UUID:
    """Opens a run's entry in the journal and returns its id."""
    run = uuid.uuid4()
    with store.begin() as connection:
        connection.execute(
            sa.insert(audit_run).values(id=run, source=source, kind=kind, actor=actor, run_id=run_id, started_at=now)
        )
    return run


def close_run(
    ops: OpsStore, source: str, run: UUID, now: datetime, summary: Mapping[str, Any], error: str | None
) -> None:
    """Closes an archive run's entry, and journals one audit row for each tenant of whose rows it sealed some."""
    with ops.begin() as connection:
        opened = connection.execute(sa.select(audit_run).where(audit_run.c.id == run)).one()
        where = {"source": source, "run": str(run), "dagster_run": opened.run_id}
        entries = [
            AuditEntry(
                tenant_id=None if tenant == NOBODY else tenant,
                action=ARCHIVED,
                resource_type=RESOURCE,
                resource_id=source[:64],
                actor=opened.actor,
                created_at=now,
                detail={"days": days, "rows": rows, **where},
                id=uuid.uuid5(run, str(tenant)),
            )
            for tenant, (days, rows) in _rows_of_run(connection, source, run).items()
        ]
        record(connection, *entries)
        end_run(connection, run, now, summary, error)


def note(ops: OpsStore, source: str, kind: str, *, actor: str, now: datetime, summary: Mapping[str, Any]) -> None:
    """Journals what changed nothing: that somebody verified the archive, or read it."""
    run = open_run(ops, source, kind, actor=actor, now=now)
    with ops.begin() as connection:
        end_run(connection, run, now, summary)


def close_dead_runs(ops: OpsStore, source: str, now: datetime) -> None:
    """Closes the entries of archive runs that died; the caller holds the table's lock, so none of them is alive."""
    for row in open_runs(ops, source, "archive"):
        close_run(ops, source, row.id, now, {}, "the run died; what it had sealed stays, the rest was done again")


@contextmanager
def unless_failing(error: str | None) -> Iterator[None]:
    """For the body's time, a failure of the ops store does not hide the one that is under way."""
    if error is None:
        yield
        return
    with suppress(OpsStoreError):
        yield


def end_run(
    connection: sa.Connection, run: UUID, now: datetime, summary: Mapping[str, Any], error: str | None = None
) -> None:
    """Closes a run's entry in the caller's transaction."""
    connection.execute(
        sa.update(audit_run)
        .where(audit_run.c.id == run, audit_run.c.finished_at.is_(None))
        .values(finished_at=now, summary=dict(summary), error=error)
    )


def open_runs(store: OpsStore, source: str, kind: str) -> Sequence[sa.Row[Any]]:
    """Runs whose end nobody wrote down: with the lock on their kind of work in hand, they have died."""
    with store.begin() as connection:
        return open_runs_in(connection, source, kind)


def open_runs_in(connection: sa.Connection, source: str, kind: str) -> Sequence[sa.Row[Any]]:
    """The same in the caller's transaction, oldest first."""
    query = sa.select(audit_run).where(
        audit_run.c.source == source, audit_run.c.kind == kind, audit_run.c.finished_at.is_(None)
    )
    return connection.execute(query.order_by(audit_run.c.started_at)).all()


def last_summary(store: OpsStore, source: str, kind: str) -> Mapping[str, Any]:
    """What the last run of a kind told that did not fail; nothing before there was one."""
    table = audit_run.c
    done = sa.and_(table.source == source, table.kind == kind, table.finished_at.is_not(None), table.error.is_(None))
    query = sa.select(table.summary).where(done).order_by(table.started_at.desc()).limit(1)
    with store.begin() as connection:
        return connection.execute(query).scalar_one_or_none() or {}


def _rows_of_run(connection: sa.Connection, source: str, run: UUID) -> dict[UUID, tuple[int, int]]:
    """Days and rows that a run archived, by tenant."""
    day, chunk = audit_day, audit_chunk
    same = sa.and_(chunk.c.source == day.c.source, chunk.c.day == day.c.day, chunk.c.revision == day.c.revision)
    query = (
        sa.select(chunk.c.tenant_id, sa.func.count(), sa.func.sum(chunk.c.rows))
        .select_from(day.join(chunk, same))
        .where(day.c.source == source, day.c.run_id == str(run), day.c.sequence.is_not(None))
        .group_by(chunk.c.tenant_id)
    )
    return {tenant: (int(days), int(rows)) for tenant, days, rows in connection.execute(query)}
