"""A claim costs what it takes, whatever else is under way."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.ledger import Planned
from adinsights_orchestration.ops_store.store import OpsStore

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)


def test_a_claim_looks_up_what_is_under_way_and_does_not_read_all_of_it_for_each_connection(
    ops_store: OpsStore,
) -> None:
    """Of a table that was empty a moment ago Postgres knows nothing, and the plan that it prepares is kept."""
    due = [Planned(uuid4(), f"acme/meta-{number}", NOW) for number in range(5000)]
    with ops_store.begin() as connection:
        # Else Postgres may come to know it meanwhile, and rightly choose another plan.
        connection.execute(sa.text("alter table adinsights_ops.sync_intent set (autovacuum_enabled = off)"))
        ledger.plan(connection, due, NOW)
    before = 0
    for _ in range(8):  # the driver prepares a statement at its fifth execution
        before = _lookups_of_busy(ops_store)
        with ops_store.begin() as connection:
            assert len(ledger.claim(connection, bound=5000, limit=50, now=NOW)) == 50
    assert _lookups_of_busy(ops_store) - before > 2000


def _lookups_of_busy(store: OpsStore) -> int:
    with store.begin() as connection:
        connection.execute(sa.text("select pg_stat_force_next_flush()"))
    with store.begin() as connection:
        used = sa.text("select idx_scan from pg_stat_user_indexes where indexrelname = 'ix_sync_intent_busy'")
        return int(connection.execute(used).scalar_one())
