"""The orchestrator's own history: what is settled and old goes, what is open or newest stays."""

from __future__ import annotations

import importlib
import inspect
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.own_history import OWN_HISTORY, PRUNED_BY_THEIR_OWN, STANDING
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import Archive, Source
from adinsights_orchestration.ops_store.alert_tables import alert_incident, alert_silence
from adinsights_orchestration.ops_store.audit_tables import audit_hold
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import (
    audit_entry,
    dbt_invocation,
    dbt_model_result,
    finding,
    metadata,
    report_batch,
    sync_intent,
    sync_job,
    webhook_post,
)
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


def test_every_table_is_declared_pruned_by_its_own_or_bounded_and_each_once() -> None:
    declared = {source.table.removeprefix("adinsights_ops.") for source in OWN_HISTORY}
    named = [*declared, *PRUNED_BY_THEIR_OWN, *STANDING]
    assert sorted(named) == sorted(table.name for table in metadata.tables.values())


@pytest.mark.parametrize("table", list(PRUNED_BY_THEIR_OWN))
def test_a_table_that_its_own_prunes_is_deleted_from_there(table: str) -> None:
    module = importlib.import_module(f"adinsights_orchestration.{PRUNED_BY_THEIR_OWN[table]}")
    source = inspect.getsource(module)
    assert "sa.delete(" in source
    assert table in source


def test_every_declaration_has_a_name_of_its_own_and_comes_after_what_refers_to_its_rows() -> None:
    assert len(BY_NAME) == len(OWN_HISTORY)
    order = {source.table: number for number, source in enumerate(OWN_HISTORY)}
    for table in metadata.tables.values():
        for key in table.foreign_keys:
            referred = str(key.column.table)
            if str(table) in order and referred in order:
                assert order[str(table)] < order[referred]


def test_jobs_and_intents_go_when_a_later_success_stands_and_nothing_refers_to_them(ops_store: OpsStore) -> None:
    connection = uuid4()

    def intent(number: int) -> dict[str, object]:
        slot = {"due_slot": OLD + timedelta(hours=number), "created_at": OLD, "updated_at": OLD}
        state = "planned" if number == 6 else "succeeded"
        return {"connection_id": connection, "partition_key": "p", "reason": "schedule", "state": state, **slot}

    def job(number: int, status: str, **more: object) -> dict[str, object]:
        who = {"connection_id": connection, "partition_key": "p", "provider": "meta", "tenant_id": UUID(int=1)}
        what = {"job_type": "sync", "status": status, "started_by": "orchestrator", "report_state": "reported"}
        at = OLD + timedelta(hours=number)
        when = {"started_at": at, "ended_at": at, "first_observed_at": at, "observed_at": at}
        return {"job_id": number, "intent_id": number, **who, **what, **when, **more}

    put(ops_store, sync_intent, *(intent(number) for number in range(1, 7)))
    put(
        ops_store,
        sync_job,
        job(1, "succeeded"),
        job(2, "succeeded"),  # the backend was never told of it
        job(3, "failed"),
        job(4, "succeeded"),  # the newest success: how old the data is
        job(5, "failed"),  # and how it has failed since
    )
    put(ops_store, webhook_post, {"job_id": 2, "state": "posting", "decided_at": OLD})
    assert prune(ops_store, BY_NAME["own_sync_job"]) == 2
    assert ids(ops_store, sync_job.c.job_id) == {2, 4, 5}
    assert prune(ops_store, BY_NAME["own_sync_intent"]) == 2
    assert ids(ops_store, sync_intent.c.id) == {2, 4, 5, 6}


def test_the_webhooks_of_old_jobs_go_at_last_but_not_while_one_is_under_way(ops_store: OpsStore) -> None:
    at = {"started_at": OLD, "ended_at": OLD, "first_observed_at": OLD, "observed_at": OLD}
    who = {"connection_id": uuid4(), "partition_key": "p", "provider": "meta", "tenant_id": UUID(int=1), **at}
    what = {"job_type": "sync", "status": "succeeded", "started_by": "external"}
    put(ops_store, sync_job, *({"job_id": number, **who, **what} for number in range(4)))
    states = ("posting", "posted", "not_needed", "failed")
    put(
        ops_store,
        webhook_post,
        *({"job_id": number, "state": state, "decided_at": OLD} for number, state in enumerate(states)),
    )
    assert prune(ops_store, BY_NAME["own_webhook_post"]) == 2
    assert ids(ops_store, webhook_post.c.state) == {"posting", "failed"}
    assert prune(ops_store, BY_NAME["own_webhook_post_failed"]) == 1


def test_the_journal_and_what_the_backend_can_never_take_stay_for_seven_years(ops_store: OpsStore) -> None:
    older, old = NOW - timedelta(days=2600), NOW - timedelta(days=2500)
    common = {"action": "a", "resource_type": "r", "resource_id": "x", "detail": {}}
    for number, tenant, created, refused in (
        (1, None, older, None),
        (2, None, old, None),
        (3, UUID(int=9), older, older),
        (4, UUID(int=9), old, old),
        (5, UUID(int=9), older, None),  # still owed
    ):
        row = {**common, "id": UUID(int=number), "tenant_id": tenant}
        put(ops_store, audit_entry, {**row, "created_at": created, "refused_at": refused})
    assert prune(ops_store, BY_NAME["own_journal"]) == 1
    assert prune(ops_store, BY_NAME["own_audit_entry_refused"]) == 1
    assert {UUID(int=2), UUID(int=4), UUID(int=5)} <= ids(ops_store, audit_entry.c.id)
    assert not {UUID(int=1), UUID(int=3)} & ids(ops_store, audit_entry.c.id)


def test_what_was_well_for_a_year_is_forgotten_and_what_is_open_or_untold_is_not(ops_store: OpsStore) -> None:
    common = {"rule": "r", "resource": "x", "group_key": "g", "finding": {}, "episode": 3, "severity": "warn"}
    common |= {"recent": [], "suppressed_by": ""}
    put(
        ops_store,
        alert_incident,
        {**common, "fingerprint": "well", "state": "ok", "since": OLD, "told": False},
        {**common, "fingerprint": "well of late", "state": "ok", "since": YOUNG, "told": False},
        {**common, "fingerprint": "its end is not told", "state": "ok", "since": OLD, "told": True},
        {**common, "fingerprint": "still firing", "state": "firing", "since": OLD, "told": True},
    )
    assert prune(ops_store, BY_NAME["own_alert_incident"]) == 1
    assert ids(ops_store, alert_incident.c.fingerprint) == {"well of late", "its end is not told", "still firing"}


def test_what_is_over_by_its_own_end_goes_by_that(ops_store: OpsStore) -> None:
    words = {"author": "a", "reason": "r"}
    for end in (OLD, NOW + timedelta(days=9)):
        silence = {"matchers": ["rule=x"], "starts_at": OLD, "ends_at": end, "created_at": OLD, **words}
        put(ops_store, alert_silence, silence)
        hold = {"source": "accounts_auditlog", "first_day": OLD.date(), "last_day": OLD.date(), "ends_at": end}
        put(ops_store, audit_hold, {**hold, **words, "created_at": OLD})
    batch = {"provider": "meta", "event_cursor": 1, "started_at": OLD}
    put(ops_store, report_batch, {**batch, "id": uuid4(), "finished_at": OLD})
    put(ops_store, report_batch, {**batch, "id": uuid4(), "finished_at": None})
    for name in ("own_alert_silence", "own_audit_hold", "own_report_batch"):
        assert prune(ops_store, BY_NAME[name]) == 1
