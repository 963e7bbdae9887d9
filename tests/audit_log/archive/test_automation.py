"""The archive in Dagster: ranges in one run, days reported one by one, checks, and the nightly schedule."""

from __future__ import annotations

import base64
import importlib.metadata
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from adinsights_orchestration.audit_log.archive import automation as archive_automation
from adinsights_orchestration.audit_log.archive.automation import ALL_ARCHIVED, CHAIN_INTACT, build_archive
from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.archive.showing import KEY
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.journal import _FROM_UI
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.unattended import Quietly, as_ever
from tests.audit_log.conftest import DAYS, LAST, Place
from tests.audit_log.rows import FIRST, moment
from tests.quiet import Windows


@pytest.fixture
def settled(place: Place) -> Place:
    place.now = moment(LAST + timedelta(days=1)) + timedelta(hours=3)
    return place


def run_range(
    place: Place,
    instance: dg.DagsterInstance,
    first: str,
    last: str,
    quietly: Quietly = as_ever,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    definitions = build_archive(place.settings, place.ops, clock=lambda: place.now, quietly=quietly)
    days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    job = definitions.get_repository_def().get_job("audit_log_archive")
    return job.execute_in_process(instance=instance, tags={**days, **(tags or {})}, raise_on_error=False)


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


def test_while_days_are_archived_nobody_is_told_that_they_are_late_to_be(
    settled: Place, postgres_instance: dg.DagsterInstance
) -> None:
    windows = Windows()
    run_range(settled, postgres_instance, str(FIRST), str(LAST), quietly=windows)
    assert windows.cover(rule="audit_log_late", resource="audit_log/archive")
    assert windows.cover(rule="audit_log_failed", resource=f"audit_log/archive:{ALL_ARCHIVED}")
    assert not windows.cover(rule="audit_log_late", resource="audit_log/retention")
    assert (len(windows.opened), windows.open_now) == (1, 0)


def test_metadata_counts_and_shows_no_row(settled: Place, postgres_instance: dg.DagsterInstance) -> None:
    run_range(settled, postgres_instance, str(FIRST), str(LAST))
    event = postgres_instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert "data:image/svg+xml" in str(metadata["rows per day"].value)
    assert str(settled.rows[-1].id) not in str(metadata)


def test_the_plot_and_the_totals_are_of_the_whole_archive_and_not_of_the_last_night_alone(
    settled: Place, postgres_instance: dg.DagsterInstance
) -> None:
    run_range(settled, postgres_instance, str(FIRST), str(LAST - timedelta(days=1)))
    run_range(settled, postgres_instance, str(LAST), str(LAST))
    event = postgres_instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (metadata["days in this run"], metadata["archived days"]) == (1, DAYS)
    assert (metadata["archived rows"], metadata["oldest archived day"]) == (len(settled.rows), str(FIRST))
    picture = base64.b64decode(str(metadata["rows per day"]).partition("base64,")[2].rstrip(")")).decode()
    assert picture.count("<rect x=") == DAYS
    assert f">{FIRST}<" in picture
    assert f">{LAST}<" in picture


def test_the_checks_alone_need_no_day_and_archive_nothing(
    settled: Place, postgres_instance: dg.DagsterInstance
) -> None:
    settled.archive()
    definitions = build_archive(settled.settings, settled.ops, clock=lambda: settled.now)
    for chosen in ({ALL_ARCHIVED, CHAIN_INTACT}, {CHAIN_INTACT}):
        selection = dg.AssetSelection.checks(*(dg.AssetCheckKey(KEY, each) for each in chosen))
        only = dg.Definitions(jobs=[dg.define_asset_job("only_checks", selection=selection)])
        job = dg.Definitions.merge(definitions, only).resolve_job_def("only_checks")
        result = job.execute_in_process(instance=postgres_instance)
        assert checks_of(result) == dict.fromkeys(chosen, True)
    assert postgres_instance.get_latest_materialization_event(KEY) is None


def test_an_object_that_was_altered_fails_the_check_of_the_chain_with_its_key(
    settled: Place, postgres_instance: dg.DagsterInstance
) -> None:
    settled.archive()
    altered = next(iter(settled.folder.rglob(f"dt={LAST}/*.parquet")))
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.chmod(0o600)
    altered.write_bytes(content)
    result = run_range(settled, postgres_instance, str(FIRST), str(FIRST))
    assert result.success
    assert checks_of(result) == {ALL_ARCHIVED: True, CHAIN_INTACT: False}
    (broken,) = [each for each in result.get_asset_check_evaluations() if each.check_name == CHAIN_INTACT]
    assert altered.name in str(broken.description)


def test_a_long_run_says_how_far_it_is(
    settled: Place, postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_automation, "_TOLD_EVERY_SECONDS", 0.001)
    slow = Archiver.run

    def run(self: Archiver, *arguments: Any, **named: Any) -> Any:
        report = slow(self, *arguments, **named)
        while not any("days sealed so far" in each.user_message for each in postgres_instance.all_logs(run_id())):
            threading.Event().wait(0.01)
        return report

    def run_id() -> str:
        return postgres_instance.get_runs(limit=1)[0].run_id

    monkeypatch.setattr(Archiver, "run", run)
    assert run_range(settled, postgres_instance, str(FIRST), str(LAST)).success
    said = [each.user_message for each in postgres_instance.all_logs(run_id()) if "so far" in each.user_message]
    assert said[-1] == f"{DAYS} of {DAYS} days sealed so far"


def test_only_days_that_a_person_chose_in_the_ui_are_archived_without_a_column_that_was_dropped(
    settled: Place, postgres_instance: dg.DagsterInstance
) -> None:
    settled.backend.execute("alter table accounts_auditlog add column region text default 'eu'")
    settled.archive()
    settled.backend.execute("alter table accounts_auditlog drop column region")

    def sealed_anew(tags: Mapping[str, str]) -> bool:
        before = ArchiveLedger(settled.ops, AUDIT_LOG.name).head()
        assert run_range(settled, postgres_instance, str(FIRST), str(LAST), tags=tags).success
        return ArchiveLedger(settled.ops, AUDIT_LOG.name).head() != before

    night, ui = {"dagster/schedule_name": "audit_log_archive_nightly"}, {"dagster/from_ui": "true"}
    assert not sealed_anew({}), "a client of the API"
    assert not sealed_anew(night)
    assert not sealed_anew({"dagster/sensor_name": "somebody_s"})
    assert not sealed_anew({**night, **ui}), "the night, executed again"
    assert sealed_anew(ui)


def test_the_ui_of_this_release_marks_what_a_person_starts() -> None:
    scripts = [file for file in importlib.metadata.files("dagster-webserver") or () if file.suffix == ".js"]
    assert any(_FROM_UI in Path(file.locate()).read_text() for file in scripts)


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
