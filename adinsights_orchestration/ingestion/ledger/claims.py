"""Claiming: which intents are started now, under the bound that all processes share.

Belongs here: that one transaction, and the count that it decides on. Does not belong here: how places are divided
(`shares`), planning and recording (`ledger.intents`), sending (`starter`). The bound on running syncs holds for all
processes together because claims take one lock after another; an intent is `starting` in a committed transaction before
its request leaves, so a request that nobody remembers cannot exist.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.ingestion.intents import Intent, IntentState
from adinsights_orchestration.ingestion.ledger.intents import INTENT_COLUMNS, as_intent, is_busy
from adinsights_orchestration.ingestion.shares import Demand, Shares
from adinsights_orchestration.ops_store.tables import sync_intent

# A person's intents keep places for so long after the run that waits last asked for them.
PERSON_WAITS = timedelta(minutes=2)
# Scheduled ones keep places for so long after they could have started: where nobody starts them, people need not wait.
SCHEDULE_WAITS = timedelta(days=1)
_Counts = tuple[int, int, int, int]
_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended("adinsights_ops:claim", 0)))
_now = sa.bindparam("now", type_=sa.DateTime(timezone=True))


def claim(
    connection: sa.Connection, *, bound: int, limit: int, now: datetime, run_id: str | None = None
) -> list[Intent]:
    """Takes intents to start now: at most `limit`, and never more than the bound leaves room for.

    Args:
        connection: A transaction of its own, committed before any request is sent.
        bound: Syncs that may run at once, of all processes together.
        limit: How many to take.
        now: The moment, which becomes `posted_at`.
        run_id: Only what this run asked for; None takes what no run waits for. Each leaves the other side its share.

    Returns:
        The intents, `starting`, oldest first.
    """
    connection.execute(_LOCK)
    others = _OF_PEOPLE if run_id is None else _OF_SCHEDULES
    room = min(_shares(connection, others, bound, now).room(people=run_id is not None), limit)
    if room <= 0:
        return []
    if run_id is None:
        found = connection.execute(_CLAIM_FREE, {"now": now, "room": room})
    else:
        found = connection.execute(_CLAIM_OF_RUN, {"now": now, "room": room, "run": run_id})
    return sorted((as_intent(row._asdict()) for row in found), key=lambda intent: (intent.due_slot, intent.id))


def shares(connection: sa.Connection, bound: int, now: datetime) -> Shares:
    """Returns who runs and who waits, of all processes together."""
    return _shares(connection, _OF_BOTH, bound, now)


def _shares(connection: sa.Connection, statement: sa.Select[_Counts], bound: int, now: datetime) -> Shares:
    moments = {"now": now, "asked_since": now - PERSON_WAITS, "ready_since": now - SCHEDULE_WAITS}
    people_run, schedules_run, people_wait, schedules_wait = connection.execute(statement, moments).one()
    last = connection.execute(_NEWEST_IS_PEOPLES).scalar_one_or_none() if bound == 1 else None
    return Shares(bound, Demand(people_run, people_wait), Demand(schedules_run, schedules_wait), bool(last))


_may_start = sa.or_(sync_intent.c.not_before.is_(None), sync_intent.c.not_before <= _now)


def _shares_statement(*, people: bool = True, schedules: bool = True) -> sa.Select[_Counts]:
    """Connections that run and that could start, of people and of schedules; who could start only of those asked about.

    A claim asks only about the other side, so that the trigger's does not count thousands of its own each time. A
    person who follows a scheduled sync takes no place beside it. What waits for its own connection could not start.
    """
    per_connection = (
        sa.select(sync_intent.c.connection_id, sa.func.bool_and(sync_intent.c.run_id.is_not(None)).label("only_people"))
        .where(is_busy())
        .group_by(sync_intent.c.connection_id)
        .cte("per_connection")
    )
    idle = ~sa.exists().where(per_connection.c.connection_id == sync_intent.c.connection_id)
    connections = sa.func.count(sa.distinct(sync_intent.c.connection_id))
    ready = sa.select(connections).where(sync_intent.c.state == IntentState.PLANNED.value, _may_start, idle)
    running = sa.select(sa.func.count()).select_from(per_connection)
    asked = sync_intent.c.updated_at > sa.bindparam("asked_since", type_=sa.DateTime(timezone=True))
    since = sa.func.greatest(sync_intent.c.updated_at, sync_intent.c.not_before)
    due = since > sa.bindparam("ready_since", type_=sa.DateTime(timezone=True))
    return sa.select(
        running.where(per_connection.c.only_people).scalar_subquery(),
        running.where(~per_connection.c.only_people).scalar_subquery(),
        # A run that waits says so every few seconds.
        ready.where(sync_intent.c.run_id.is_not(None), asked).scalar_subquery() if people else sa.literal(0),
        ready.where(sync_intent.c.run_id.is_(None), due).scalar_subquery() if schedules else sa.literal(0),
    )


_OF_BOTH = _shares_statement()
_OF_PEOPLE = _shares_statement(schedules=False)
_OF_SCHEDULES = _shares_statement(people=False)
_NEWEST_IS_PEOPLES = (
    sa.select(sync_intent.c.run_id.is_not(None))
    .where(sync_intent.c.posted_at.is_not(None))
    .order_by(sync_intent.c.posted_at.desc())
    .limit(1)
)


def _claim_statement(whose: sa.ColumnElement[bool]) -> sa.UpdateBase:
    """Takes intents that may start: one per connection, none of a connection that something is being done with."""
    other = sync_intent.alias("other")
    busy = sa.exists().where(other.c.connection_id == sync_intent.c.connection_id, is_busy(other))
    # A common table expression is evaluated once; as a subquery the limited selection could be run again per row.
    ready = (
        sa.select(sync_intent.c.id)
        .where(sync_intent.c.state == IntentState.PLANNED.value, whose, _may_start, ~busy)
        .order_by(sync_intent.c.due_slot, sync_intent.c.id)
        .limit(sa.bindparam("room", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("ready")
    )
    return (
        sa.update(sync_intent)
        .where(sync_intent.c.id == ready.c.id)
        .values(
            state=IntentState.STARTING.value,
            attempt=sync_intent.c.attempt + 1,
            posted_at=_now,
            updated_at=_now,
        )
        .returning(*INTENT_COLUMNS)
    )


_CLAIM_FREE = _claim_statement(sync_intent.c.run_id.is_(None))
_CLAIM_OF_RUN = _claim_statement(sync_intent.c.run_id == sa.bindparam("run", type_=sa.Text))
