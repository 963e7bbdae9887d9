"""The orchestrator's own history: what is settled and old goes, what is open or newest stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.own_history import OWN_HISTORY
from adinsights_orchestration.audit_log.retention import Retention
from adinsights_orchestration.audit_log.source import Archive, Source
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry, dbt_invocation, dbt_model_result, finding, metadata
from tests.audit_log.archived import NOW, settings_for

OLD, YOUNG = NOW - timedelta(days=3000), NOW - timedelta(days=10)
BY_NAME = {source.name: source for source in OWN_HISTORY}


def prune(store: OpsStore, source: Source, *, apply: bool = True) -> int:
    dsn = store._settings.dsn.get_secret_value()
    return Retention(settings_for(dsn, dsn), store, source, lambda: NOW, "a test", apply=apply).run().rows


def put(store: OpsStore, table: sa.Table, *rows: dict[str, object]) -> None:
    with store.begin() as connection:
        connection.execute(sa.insert(table), list(rows))


def ids(store: OpsStore, column: sa.Column[object]) -> set[object]:
    with store.begin() as connection:
        return set(connection.execute(sa.select(column)).scalars())


@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_declaration_fits_its_table(ops_store: OpsStore, name: str) -> None:
    source = BY_NAME[name]
    table = metadata.tables[source.table]
    assert tuple(column.name for column in table.primary_key) == source.keys
    assert source.archive is Archive.OFF
    assert prune(ops_store, source) == 0


def test_cleared_findings_go_and_open_ones_stay(ops_store: OpsStore) -> None:
    common = {"kind": "k", "detail": {}, "first_seen_at": OLD, "last_seen_at": OLD}
    put(
        ops_store,
        finding,
        {**common, "subject": "old", "cleared_at": OLD},
        {**common, "subject": "open", "cleared_at": None},
        {**common, "subject": "young", "cleared_at": YOUNG},
    )
    assert prune(ops_store, BY_NAME["own_finding"], apply=False) == 1
    assert ids(ops_store, finding.c.subject) == {"old", "open", "young"}
    assert prune(ops_store, BY_NAME["own_finding"]) == 1
    assert ids(ops_store, finding.c.subject) == {"open", "young"}


def test_delivered_audit_entries_go_and_what_is_owed_or_journalled_stays(ops_store: OpsStore) -> None:
    common = {"action": "a", "resource_type": "r", "detail": {}, "created_at": OLD}
    rows = [("00", OLD), ("01", None), ("02", YOUNG)]
    put(
        ops_store,
        audit_entry,
        *(
            {**common, "id": f"00000000-0000-0000-0000-0000000000{n}", "resource_id": n, "delivered_at": at}
            for n, at in rows
        ),
    )
    assert prune(ops_store, BY_NAME["own_audit_entry"]) == 1
    # The run itself is journalled: it concerned no tenant.
    assert ids(ops_store, audit_entry.c.resource_id) == {"01", "02", "own_audit_entry"}


def test_the_invocation_of_a_models_latest_result_stays(ops_store: OpsStore) -> None:
    common = {"run_id": "r", "command": "build", "full_refresh": False, "completed": True, "succeeded": True}
    common |= {"generated_at": OLD, "started_at": OLD, "elapsed_seconds": 1.0, "models": 1}
    put(ops_store, dbt_invocation, {**common, "invocation_id": "old"}, {**common, "invocation_id": "latest"})
    result = {"status": "success", "execution_seconds": 1.0, "result": {}, "generated_at": OLD}
    put(ops_store, dbt_model_result, {**result, "unique_id": "m", "invocation_id": "latest"})
    assert prune(ops_store, BY_NAME["own_dbt_invocation"]) == 1
    assert ids(ops_store, dbt_invocation.c.invocation_id) == {"latest"}
