"""Check results of an op for assets that are not its own: they judge the newest materialization."""

from collections.abc import Iterator

import dagster as dg

from adinsights_orchestration.dagster_internals.checks import evaluations

KEY, OTHER = dg.AssetKey("built"), dg.AssetKey("never_built")


@dg.op
def judge(context: dg.OpExecutionContext) -> Iterator[object]:
    """Judges two assets that it did not make."""
    results = [
        dg.AssetCheckResult(asset_key=key, check_name="rows", passed=False, description="3 rows", metadata={"rows": 3})
        for key in (KEY, OTHER)
    ]
    yield from evaluations(context.instance, results)
    yield dg.Output(None)


@dg.job(executor_def=dg.in_process_executor)
def judging() -> None:
    """One op."""
    judge()


def test_a_result_judges_the_newest_materialization_of_its_asset() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            instance.report_runless_asset_event(dg.AssetMaterialization(KEY))
        found = {e.asset_key: e for e in judging.execute_in_process(instance=instance).get_asset_check_evaluations()}
        newest = instance.get_latest_materialization_event(KEY)
        record = instance.get_asset_records([KEY])[0].asset_entry.last_materialization_record
        stored = instance.event_log_storage.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(KEY, "rows")])
    target = found[KEY].target_materialization_data
    assert target is not None
    assert newest is not None
    assert record is not None
    assert (target.storage_id, target.timestamp) == (record.storage_id, newest.timestamp)
    assert stored[dg.AssetCheckKey(KEY, "rows")].status.value == "FAILED"


def test_a_result_of_an_asset_that_was_never_materialized_judges_none() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        found = {e.asset_key: e for e in judging.execute_in_process(instance=instance).get_asset_check_evaluations()}
    assert found[OTHER].target_materialization_data is None
    assert (found[OTHER].passed, found[OTHER].description) == (False, "3 rows")
