"""Batched events are what Dagster itself would have written, only faster."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._serdes import deserialize_value

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.dagster_internals.events import CheckResult, MaterializationRef, Materialized

KEY = dg.AssetKey(["airbyte", "meta"])
PARTITIONS = dg.DynamicPartitionsDefinition(name="meta_connections")
ENDED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def _rows(instance: dg.DagsterInstance, table: sa.Table) -> list[Any]:
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        return list(connection.execute(sa.select(table).order_by(table.c.id)).mappings())


def _item(partition: str, job_id: int, at: datetime = ENDED) -> Materialized:
    return Materialized(partition, at, {events.SYNC_ID_KEY: job_id, "rows": 10}, {"tenant": "acme"})


def test_a_batched_materialization_is_stored_as_dagster_stores_a_single_one(
    postgres_instance: dg.DagsterInstance,
) -> None:
    materialization = dg.AssetMaterialization(
        KEY, partition="acme/meta", metadata={events.SYNC_ID_KEY: 7, "rows": 10}, tags={"tenant": "acme"}
    )
    postgres_instance.report_runless_asset_event(materialization)
    events.report_materializations(postgres_instance, KEY, [_item("acme/meta", 7), _item("acme/meta", 7)])

    theirs, *ours = _rows(postgres_instance, SqlEventLogStorageTable)
    for row in ours:
        for column in ("run_id", "dagster_event_type", "step_key", "asset_key", "partition"):
            assert row[column] == theirs[column]
        assert row["timestamp"] == ENDED.replace(tzinfo=None)
        mine, reference = (deserialize_value(r["event"], EventLogEntry) for r in (row, theirs))
        assert mine.get_dagster_event().event_specific_data == reference.get_dagster_event().event_specific_data
        assert mine.job_name == reference.job_name


def test_the_assets_own_row_names_the_event_that_was_stored_last(postgres_instance: dg.DagsterInstance) -> None:
    items = [_item(f"acme/{n}", n, ENDED + timedelta(minutes=n)) for n in range(3)]
    assert events.report_materializations(postgres_instance, KEY, items) == 3
    (row,) = _rows(postgres_instance, AssetKeyTable)
    assert row["last_materialization_timestamp"] == (ENDED + timedelta(minutes=2)).replace(tzinfo=None)
    latest = postgres_instance.get_latest_materialization_event(KEY)
    assert latest is not None
    assert latest.timestamp == (ENDED + timedelta(minutes=2)).timestamp()


def test_more_items_than_one_batch_holds_all_arrive_in_order(postgres_instance: dg.DagsterInstance) -> None:
    items = [_item(f"acme/{n}", n, ENDED + timedelta(seconds=n)) for n in range(1203)]
    assert events.report_materializations(postgres_instance, KEY, iter(items)) == 1203
    stored = [row["partition"] for row in _rows(postgres_instance, SqlEventLogStorageTable)]
    assert stored == [f"acme/{n}" for n in range(1203)]


def test_what_arrived_since_a_cursor_is_found_by_its_job_id(postgres_instance: dg.DagsterInstance) -> None:
    events.report_materializations(postgres_instance, KEY, [_item("acme/a", 1)])
    cursor = events.newest_entry(postgres_instance)
    events.report_materializations(postgres_instance, KEY, [_item("acme/a", 2), _item("acme/b", 3)])
    events.report_materializations(postgres_instance, dg.AssetKey("other"), [_item("acme/a", 4)])
    assert events.materialized_values(postgres_instance, KEY, after=cursor) == {2, 3}


def test_the_latest_materialization_of_each_partition_is_the_one_stored_last(
    postgres_instance: dg.DagsterInstance,
) -> None:
    events.report_materializations(postgres_instance, KEY, [_item("acme/a", 1), _item("acme/b", 2), _item("acme/a", 3)])
    latest = events.latest_materializations(postgres_instance, KEY, ["acme/a", "acme/b", "acme/never"])
    stored = {row["id"]: row for row in _rows(postgres_instance, SqlEventLogStorageTable)}
    assert latest == {
        "acme/a": MaterializationRef(max(stored), RUNLESS_RUN_ID, ENDED.timestamp()),
        "acme/b": MaterializationRef(max(stored) - 1, RUNLESS_RUN_ID, ENDED.timestamp()),
    }
    assert events.latest_materializations(postgres_instance, KEY, []) == {}


def _evaluation_rows(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    ignored = (
        "id",
        "run_id",
        "evaluation_event",
        "evaluation_event_storage_id",
        "create_timestamp",
        "evaluation_event_timestamp",
    )
    rows = _rows(instance, AssetCheckExecutionsTable)
    return [{name: value for name, value in row.items() if name not in ignored} for row in rows]


@pytest.mark.parametrize("passed", [True, False])
def test_a_batched_check_is_stored_as_dagster_stores_a_single_one(
    postgres_instance: dg.DagsterInstance, passed: bool
) -> None:
    events.report_materializations(postgres_instance, KEY, [_item("acme/a", 1)])
    result = CheckResult("acme/a", passed, "the last sync", {"job": 1})
    target = events.latest_materializations(postgres_instance, KEY, ["acme/a"])["acme/a"]
    postgres_instance.report_runless_asset_event(events.check_evaluation(KEY, "sync", result, target))
    events.report_checks(postgres_instance, KEY, "sync", [result], at=ENDED)

    theirs, ours = _evaluation_rows(postgres_instance)
    assert ours == theirs
    mine, reference = (
        deserialize_value(row["evaluation_event"], EventLogEntry).get_dagster_event().event_specific_data
        for row in reversed(_rows(postgres_instance, AssetCheckExecutionsTable))
    )
    assert mine == reference


def test_one_partition_can_be_evaluated_again_and_again(postgres_instance: dg.DagsterInstance) -> None:
    for passed in (True, False, True):
        events.report_checks(postgres_instance, KEY, "sync", [CheckResult("acme/a", passed, "again")], at=ENDED)
    check = dg.AssetCheckKey(KEY, "sync")
    history = postgres_instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    assert [record.status.value for record in history] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]


def test_the_event_row_of_a_batched_check_is_the_one_its_execution_points_at(
    postgres_instance: dg.DagsterInstance,
) -> None:
    results = [CheckResult(f"acme/{n}", n % 2 == 0, f"number {n}") for n in range(7)]
    assert events.report_checks(postgres_instance, KEY, "sync", results, at=ENDED) == 7
    stored = {row["id"]: row for row in _rows(postgres_instance, SqlEventLogStorageTable)}
    for row in _rows(postgres_instance, AssetCheckExecutionsTable):
        event = stored[row["evaluation_event_storage_id"]]
        assert event["dagster_event_type"] == DagsterEventType.ASSET_CHECK_EVALUATION.value
        data = deserialize_value(event["event"], EventLogEntry).get_dagster_event().asset_check_evaluation_data
        assert data.partition == row["partition"]


def test_partition_statuses_in_the_ui_follow_batched_materializations(postgres_instance: dg.DagsterInstance) -> None:
    postgres_instance.add_dynamic_partitions("meta_connections", ["acme/a", "acme/b", "acme/c"])
    events.report_materializations(postgres_instance, KEY, [_item("acme/a", 1), _item("acme/c", 2)])
    status = get_and_update_asset_status_cache_value(postgres_instance, KEY, PARTITIONS)
    assert status is not None
    subset = status.deserialize_materialized_partition_subsets(PARTITIONS)
    assert set(subset.get_partition_keys()) == {"acme/a", "acme/c"}


def test_other_storages_take_the_same_events_one_by_one() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        events.report_materializations(instance, KEY, [_item("acme/a", 1), _item("acme/b", 2)])
        events.report_checks(instance, KEY, "sync", [CheckResult("acme/a", True, "fine")], at=ENDED)
        assert set(events.latest_materializations(instance, KEY, ["acme/a", "acme/b"])) == {"acme/a", "acme/b"}


def test_planned_partitions_that_a_failing_run_did_not_materialize_show_as_failed(
    postgres_instance: dg.DagsterInstance,
) -> None:
    @dg.multi_asset(
        name="sync_meta", can_subset=True, specs=[dg.AssetSpec(KEY, partitions_def=PARTITIONS, skippable=True)]
    )
    def sync(context: dg.AssetExecutionContext) -> Any:
        events.plan_partitions(context, KEY, ["acme/a", "acme/b"])
        yield dg.AssetMaterialization(KEY, partition="acme/a")
        raise dg.Failure("1 of 2 failed", allow_retries=False)

    postgres_instance.add_dynamic_partitions("meta_connections", ["acme/a", "acme/b", "acme/c"])
    defs = dg.Definitions(assets=[sync], jobs=[dg.define_asset_job("job", selection=dg.AssetSelection.all())])
    result = defs.resolve_job_def("job").execute_in_process(instance=postgres_instance, raise_on_error=False)
    assert not result.success
    status = get_and_update_asset_status_cache_value(postgres_instance, KEY, PARTITIONS)
    assert status is not None
    assert set(status.deserialize_materialized_partition_subsets(PARTITIONS).get_partition_keys()) == {"acme/a"}
    assert set(status.deserialize_failed_partition_subsets(PARTITIONS).get_partition_keys()) == {"acme/b"}
