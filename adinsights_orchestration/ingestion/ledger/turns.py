"""Whose turn it is to write: transactions that move intents and jobs together come one after another.

Belongs here: that lock. Does not belong here: the bound on running syncs (`claims`), which is a lock of its own. An
intent leads to its job and a job to its intents, so two transactions that each hold one of the two and want the other
would wait for each other until Postgres ended one, and a person's run or a tick would fail for nothing.
"""

from __future__ import annotations

import sqlalchemy as sa

_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended("adinsights_ops:ledger", 0)))


def take_turn(connection: sa.Connection) -> None:
    """Waits for the transaction's turn, which ends with it. First in it, before any row is written; again is free."""
    connection.execute(_LOCK)
