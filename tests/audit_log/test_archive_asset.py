"""The archive in Dagster: ranges in one run, days reported one by one, checks, and the nightly schedule."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from adinsights_orchestration.audit_log.archive_automation import ALL_ARCHIVED, CHAIN_INTACT, KEY, build_archive
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.verify import verify_range
from tests.audit_log.conftest import DAYS, LAST, Place
from tests.audit_log.rows import FIRST, moment


@pytest.fixture
def settled(place: Place) -> Place:
    place.now = moment(LAST + timedelta(days=1)) + timedelta(hours=3)
    return place


def run_range(place: Place, instance: dg.DagsterInstance, first: str, last: str) -> dg.ExecuteInProcessResult:
    definitions = build_archive(place.settings, place.ops, clock=lambda: place.now)
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    job = definitions.get_repository_def().get_job("audit_log_archive")
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def test_a_range_is_one_run_that_reports_every_day_and_both_checks(
    settled: Place, postgres_instance: dg.DagsterInstance
) -> None:
    result = run_range(settled, postgres_instance, str(FIRST), str(LAST))
    assert result.success
    assert len(postgres_instance.get_materialized_partitions(KEY)) == DAYS
    assert checks_of(result) == {ALL_ARCHIVED: True, CHAIN_INTACT: True}
    assert verify_range(settled.store, AUDIT_LOG, FIRST, LAST).rows == len(settled.rows)


def test_metadata_counts_and_shows_no_row(settled: Place, postgres_instance: dg.DagsterInstance) -> None:
    run_range(settled, postgres_instance, str(FIRST), str(LAST))
    event = postgres_instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert "data:image/svg+xml" in str(metadata["rows per day"].value)
    assert str(settled.rows[-1].id) not in str(metadata)


def test_a_gap_fails_its_check(settled: Place, postgres_instance: dg.DagsterInstance) -> None:
    result = run_range(settled, postgres_instance, str(LAST), str(LAST))
    assert checks_of(result) == {ALL_ARCHIVED: False, CHAIN_INTACT: True}


def test_a_day_that_is_not_closed_fails_with_when_it_can_be_archived(
    place: Place, postgres_instance: dg.DagsterInstance
) -> None:
    place.now = moment(LAST + timedelta(days=1)) + timedelta(minutes=10)
    result = run_range(place, postgres_instance, str(FIRST), str(LAST))
    assert not result.success
    assert "not closed yet" in str(result.get_run_failure_event().event_specific_data)


def test_the_nightly_run_takes_every_gap_and_looks_at_the_newest_days_again(settled: Place) -> None:
    definitions = build_archive(settled.settings, settled.ops, clock=lambda: settled.now)
    schedule = definitions.get_repository_def().get_schedule_def("audit_log_archive_nightly")

    def asked() -> tuple[str, str]:
        requests = schedule.evaluate_tick(dg.build_schedule_context()).run_requests
        assert requests
        request = requests[0]
        return request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"]

    assert asked() == (str(FIRST), str(LAST))
    settled.archive()
    assert asked() == (str(LAST - timedelta(days=2)), str(LAST))
