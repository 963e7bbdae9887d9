"""Statements on `sync_intent`: planning, asking, recording what became of a start.

Belongs here: SQL. Does not belong here: taking intents to start (`claims`), what should become of them (`intents`). A
change is compared with what it was decided on, so that whoever comes second changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.ingestion.airbyte_models import DATA_TYPES, JobStatus, JobType
from adinsights_orchestration.ingestion.due import CLOCK_SKEW, Activity
from adinsights_orchestration.ingestion.intents import Change, Intent, IntentState, Reason
from adinsights_orchestration.ingestion.ledger.job_rows import VANISHED
from adinsights_orchestration.ingestion.ledger.recordset import as_rows, recordset
from adinsights_orchestration.ingestion.ledger.turns import take_turn
from adinsights_orchestration.ops_store.tables import sync_intent, sync_job


def is_busy(intent: sa.FromClause = sync_intent) -> sa.ColumnElement[bool]:
    """Whether something is being done for an intent; constants, since a prepared plan of parameters knows no index."""
    states = (IntentState.STARTING, IntentState.RUNNING)
    return intent.c.state.in_([sa.literal_column(f"'{state.value}'") for state in states])


# Statements are made once: making one costs several times what sending it does.
_now = sa.bindparam("now", type_=sa.DateTime(timezone=True))
INTENT_COLUMNS = (
    sync_intent.c.id,
    sync_intent.c.connection_id,
    sync_intent.c.partition_key,
    sync_intent.c.due_slot,
    sync_intent.c.reason,
    sync_intent.c.job_type,
    sync_intent.c.state,
    sync_intent.c.attempt,
    sync_intent.c.refusals,
    sync_intent.c.job_id,
    sync_intent.c.run_id,
    sync_intent.c.not_before,
    sync_intent.c.posted_at,
    sync_intent.c.last_error,
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A connection that should start for a slot."""

    connection_id: UUID
    partition_key: str
    slot: datetime


@dataclass(frozen=True, slots=True)
class Ask:
    """A connection that a person wants to run now."""

    connection_id: UUID
    partition_key: str
    job_type: JobType = JobType.SYNC


def as_intent(values: Mapping[str, Any]) -> Intent:
    """The intent of a row of `INTENT_COLUMNS`."""
    kinds = {
        "reason": Reason(values["reason"]),
        "job_type": JobType(values["job_type"]),
        "state": IntentState(values["state"]),
    }
    return Intent(**{**values, **kinds})


# ------------------------------------------------------------------------------------------------------------ planning

_slots = recordset("slots", "s", sync_intent.c.connection_id, sa.column("slot", sa.DateTime(timezone=True)))
_UNPLANNED = sa.select(_slots.c.connection_id).where(
    ~sa.exists().where(
        sync_intent.c.connection_id == _slots.c.connection_id,
        sync_intent.c.due_slot >= _slots.c.slot,
        sync_intent.c.reason == Reason.SCHEDULE.value,
    )
)


def unplanned(connection: sa.Connection, slots: Mapping[UUID, datetime]) -> set[UUID]:
    """Returns the connections for whose slot nothing was planned yet."""
    if not slots:
        return set()
    rows = as_rows({"connection_id": key, "slot": slot} for key, slot in slots.items())
    return set(connection.execute(_UNPLANNED, {"slots": rows}).scalars())


# What failed elsewhere satisfies no slot: taking it for the slot's own would leave the data as old as it was.
_may_satisfy = sync_job.c.status.not_in((JobStatus.FAILED.value, JobStatus.CANCELLED.value, VANISHED))
_asked_about = recordset("ids", "a", sync_intent.c.connection_id)
_newest_sync = (
    sa.select(sync_job.c.started_at)
    .where(
        sync_job.c.connection_id == _asked_about.c.connection_id,
        sync_job.c.job_type.in_(DATA_TYPES),
        _may_satisfy,
    )
    .order_by(sync_job.c.started_at.desc())
    .limit(1)
    .scalar_subquery()
)
_job_runs = sa.exists().where(
    sync_job.c.connection_id == _asked_about.c.connection_id, sync_job.c.report_state == "none"
)
_intent_runs = sa.exists().where(sync_intent.c.connection_id == _asked_about.c.connection_id, is_busy())
_ACTIVITY = sa.select(_asked_about.c.connection_id, _newest_sync, sa.or_(_job_runs, _intent_runs))


def activity(connection: sa.Connection, connection_ids: Collection[UUID]) -> dict[UUID, Activity]:
    """Returns what each of the connections last did or does, whoever started it; what failed is left out."""
    if not connection_ids:
        return {}
    rows = as_rows({"connection_id": key} for key in connection_ids)
    found = connection.execute(_ACTIVITY, {"ids": rows})
    return {key: Activity(started_at=started, running=running) for key, started, running in found}


_due = recordset("due", "d", sync_intent.c.connection_id, sync_intent.c.partition_key, sync_intent.c.due_slot)
_PLAN = (
    insert(sync_intent)
    .from_select(
        ["connection_id", "partition_key", "due_slot", "reason", "state", "created_at", "updated_at"],
        sa.select(
            _due.c.connection_id,
            _due.c.partition_key,
            _due.c.due_slot,
            sa.literal(Reason.SCHEDULE.value),
            sa.literal(IntentState.PLANNED.value),
            _now,
            _now,
        ),
    )
    .on_conflict_do_nothing()
    .returning(sync_intent.c.id)
)
_SUPERSEDE = (
    sa.update(sync_intent)
    .where(
        sync_intent.c.connection_id == _due.c.connection_id,
        sync_intent.c.due_slot < _due.c.due_slot,
        sync_intent.c.state == IntentState.PLANNED.value,
        sync_intent.c.reason == Reason.SCHEDULE.value,
    )
    .values(
        state=IntentState.ABANDONED.value,
        last_error="superseded by a newer slot",
        updated_at=_now,
    )
)


def plan(connection: sa.Connection, due: Sequence[Planned], now: datetime) -> int:
    """Plans a start per slot, gives up older ones that never started, and returns how many are new."""
    if not due:
        return 0
    take_turn(connection)
    rows = as_rows(
        {"connection_id": one.connection_id, "partition_key": one.partition_key, "due_slot": one.slot} for one in due
    )
    connection.execute(_SUPERSEDE, {"due": rows, "now": now})
    return len(connection.execute(_PLAN, {"due": rows, "now": now}).all())


def ask(
    connection: sa.Connection, wanted: Iterable[Ask], *, run_id: str, requested_by: str, now: datetime
) -> list[Intent]:
    """Records what a person asked for in this run, once: asking again in the same run returns the same intents.

    The moment of asking stands in for the due slot, so two runs that ask for one connection have two intents.
    """
    existing = {(intent.connection_id, intent.job_type) for intent in intents_of_run(connection, run_id)}
    for one in wanted:
        if (one.connection_id, one.job_type) not in existing:
            _ask_one(connection, one, run_id, requested_by, now)
    return intents_of_run(connection, run_id)


def _ask_one(connection: sa.Connection, one: Ask, run_id: str, requested_by: str, now: datetime) -> None:
    values = {
        "connection_id": one.connection_id,
        "partition_key": one.partition_key,
        "reason": Reason.MANUAL.value,
        "job_type": one.job_type.value,
        "state": IntentState.PLANNED.value,
        "run_id": run_id,
        "requested_by": requested_by,
        "created_at": now,
        "updated_at": now,
    }
    fresh = insert(sync_intent).values(values).on_conflict_do_nothing().returning(sync_intent.c.id)
    slot = now
    while connection.execute(fresh.values(due_slot=slot)).first() is None:
        slot += timedelta(microseconds=1)


def adopt_satisfied(connection: sa.Connection, now: datetime) -> int:
    """Lets planned scheduled intents follow a sync that somebody else started meanwhile; returns how many do.

    A retry is satisfied by what started after the failure, a first attempt by what started at or after its slot.
    """
    take_turn(connection)
    return connection.execute(_ADOPT_SATISFIED, {"now": now}).rowcount


def _adopt_satisfied_statement() -> sa.Update:
    read = sync_intent.alias("read")
    since = sa.case((read.c.attempt > 0, read.c.updated_at), else_=read.c.due_slot - sa.literal(CLOCK_SKEW))
    serving = (
        sa.select(sync_job.c.job_id)
        .where(
            sync_job.c.connection_id == read.c.connection_id,
            sync_job.c.job_type.in_(DATA_TYPES),
            sync_job.c.started_at >= since,
            sync_job.c.intent_id.is_distinct_from(read.c.id),
            _may_satisfy,  # adopting a failed one would put the slot off again and again
        )
        .order_by(sync_job.c.started_at.desc())
        .limit(1)
        .lateral("serving")
    )
    found = (
        sa.select(read.c.id, serving.c.job_id)
        .join(serving, sa.true())
        .where(
            read.c.state == IntentState.PLANNED.value,
            read.c.reason == Reason.SCHEDULE.value,
        )
        .subquery()
    )
    return (
        sa.update(sync_intent)
        .where(sync_intent.c.id == found.c.id, sync_intent.c.state == IntentState.PLANNED.value)
        .values(state=IntentState.RUNNING.value, job_id=found.c.job_id, updated_at=_now)
    )


_ADOPT_SATISFIED = _adopt_satisfied_statement()


# ------------------------------------------------------------------------------------------------------------- outcome

_changes = recordset(
    "changes",
    "c",
    sync_intent.c.id,
    sa.column("from_state", sa.Text),
    sa.column("from_attempt", sa.Integer),
    sync_intent.c.state,
    sync_intent.c.attempt,
    sync_intent.c.refusals,
    sync_intent.c.job_id,
    sync_intent.c.not_before,
    sync_intent.c.posted_at,
    sync_intent.c.last_error,
)
_APPLY = (
    sa.update(sync_intent)
    .where(
        sync_intent.c.id == _changes.c.id,
        sync_intent.c.state == _changes.c.from_state,
        sync_intent.c.attempt == _changes.c.from_attempt,
    )
    .values(
        state=_changes.c.state,
        attempt=_changes.c.attempt,
        refusals=_changes.c.refusals,
        job_id=_changes.c.job_id,
        not_before=_changes.c.not_before,
        posted_at=_changes.c.posted_at,
        last_error=_changes.c.last_error,
        updated_at=_now,
    )
    .returning(sync_intent.c.id)
)


def apply_changes(connection: sa.Connection, changes: Collection[Change], now: datetime) -> set[int]:
    """Applies the changes whose intent is still as it was, in one statement; returns the ids of those."""
    if not changes:
        return set()
    take_turn(connection)
    rows = as_rows(_change_row(change) for change in changes)
    return set(connection.execute(_APPLY, {"changes": rows, "now": now}).scalars())


def _change_row(change: Change) -> dict[str, object]:
    after = change.after
    return {
        "id": after.id,
        "from_state": change.before.state.value,
        "from_attempt": change.before.attempt,
        "state": after.state.value,
        "attempt": after.attempt,
        "refusals": after.refusals,
        "job_id": after.job_id,
        "not_before": after.not_before,
        "posted_at": after.posted_at,
        "last_error": after.last_error,
    }


def starting_since(
    connection: sa.Connection, before: datetime, limit: int, only: Collection[int] | None = None
) -> list[Intent]:
    """Returns intents, of `only` these, whose start was sent before the moment and never answered, oldest first."""
    lost = (
        sa.select(*INTENT_COLUMNS)
        .where(sync_intent.c.state == IntentState.STARTING.value, sync_intent.c.posted_at <= before)
        .order_by(sync_intent.c.posted_at)
        .limit(limit)
    )
    if only is not None:
        lost = lost.where(sync_intent.c.id.in_(only))
    return [as_intent(row._asdict()) for row in connection.execute(lost)]


def intents_of_run(connection: sa.Connection, run_id: str) -> list[Intent]:
    """Returns what a run asked for, in the order of asking."""
    mine = sa.select(*INTENT_COLUMNS).where(sync_intent.c.run_id == run_id).order_by(sync_intent.c.id)
    return [as_intent(row._asdict()) for row in connection.execute(mine)]


def intents_by_id(connection: sa.Connection, ids: Collection[int]) -> list[Intent]:
    """Returns these intents, in the order of asking."""
    if not ids:
        return []
    wanted = sa.select(*INTENT_COLUMNS).where(sync_intent.c.id.in_(ids)).order_by(sync_intent.c.id)
    return [as_intent(row._asdict()) for row in connection.execute(wanted)]


def keep_waiting(connection: sa.Connection, run_id: str, now: datetime) -> None:
    """Says that the run still waits for its turn, which keeps its place before scheduled syncs."""
    take_turn(connection)
    mine = sa.and_(sync_intent.c.run_id == run_id, sync_intent.c.state == IntentState.PLANNED.value)
    connection.execute(sa.update(sync_intent).where(mine).values(updated_at=now))
