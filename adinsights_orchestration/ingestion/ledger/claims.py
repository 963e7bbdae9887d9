"""Claiming: which intents are started now, under the bound that all processes share.

Belongs here: that one transaction. Does not belong here: planning and recording (`ledger.intents`), sending
(`starter`). The bound on running syncs holds for all processes together because claims take one lock after another; an
intent is `starting` in a committed transaction before its request leaves, so a request that nobody remembers cannot
exist.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.ingestion.intents import Intent, IntentState
from adinsights_orchestration.ingestion.ledger.intents import BUSY, INTENT_COLUMNS, as_intent
from adinsights_orchestration.ops_store.tables import sync_intent

# A person's intents keep their place before scheduled ones for so long after the run that waits last asked for it.
PERSON_WAITS = timedelta(minutes=2)
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
        run_id: Only what this run asked for; None takes what no run waits for, and leaves room for those that do.

    Returns:
        The intents, `starting`, oldest first.
    """
    connection.execute(_LOCK)
    taken, waiting = connection.execute(_TAKEN, {"now": now, "asked_since": now - PERSON_WAITS}).one()
    room = min(bound - taken - (waiting if run_id is None else 0), limit)
    if room <= 0:
        return []
    if run_id is None:
        found = connection.execute(_CLAIM_FREE, {"now": now, "room": room})
    else:
        found = connection.execute(_CLAIM_OF_RUN, {"now": now, "room": room, "run": run_id})
    return sorted((as_intent(row._asdict()) for row in found), key=lambda intent: (intent.due_slot, intent.id))


_may_start = sa.or_(sync_intent.c.not_before.is_(None), sync_intent.c.not_before <= _now)
# What runs, and what people wait for; a run that waits says so every few seconds.
_TAKEN = sa.select(
    sa.select(sa.func.count(sa.distinct(sync_intent.c.connection_id)))
    .where(sync_intent.c.state.in_(BUSY))
    .scalar_subquery(),
    sa.select(sa.func.count())
    .where(
        sync_intent.c.state == IntentState.PLANNED.value,
        sync_intent.c.run_id.is_not(None),
        sync_intent.c.updated_at > sa.bindparam("asked_since", type_=sa.DateTime(timezone=True)),
        _may_start,
    )
    .scalar_subquery(),
)


def _claim_statement(whose: sa.ColumnElement[bool]) -> sa.UpdateBase:
    """Takes intents that may start: one per connection, none of a connection that something is being done with."""
    other = sync_intent.alias("other")
    busy = sa.exists().where(other.c.connection_id == sync_intent.c.connection_id, other.c.state.in_(BUSY))
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
