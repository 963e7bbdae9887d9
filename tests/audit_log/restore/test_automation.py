"""Restoring from the UI: by default only told, and what a run shows holds no row."""

from __future__ import annotations

import logging
from uuid import UUID

import dagster as dg
import pytest

from adinsights_orchestration.audit_log.restore.automation import JOB, OP, build_restore
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.living import expired, leave_the_table, register
from tests.audit_log.restoring import LATER, RESTORED, UNTIL, empty, rows_of
from tests.audit_log.rows import FIRST


@pytest.fixture
def gone(place: Place) -> Place:
    place.archive()
    empty(place)
    return place


def run(place: Place, instance: dg.DagsterInstance | None = None, **config: object) -> dg.ExecuteInProcessResult:
    job = build_restore(place.settings, place.ops, clock=lambda: LATER).resolve_job_def(JOB)
    values = {"first": str(FIRST), "last": str(LAST), **config}
    return job.execute_in_process(run_config={"ops": {OP: {"config": values}}}, raise_on_error=False, instance=instance)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = [each for each in result.all_events if each.event_type_value == "STEP_OUTPUT"]
    found = event.step_output_data.metadata
    return {name: value.value for name, value in found.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [each for each in result.all_events if each.event_type_value == "STEP_FAILURE"]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def test_a_run_by_hand_only_tells(gone: Place) -> None:
    result = run(gone)
    told = metadata(result)
    assert (told["dry run"], told["rows archived"], told["rows restored"]) == ("true", len(gone.rows), 0)
    assert gone.backend.execute(f"select to_regclass('{RESTORED}')") == [(None,)]


def test_a_run_that_is_told_to_restores_and_shows_counts_and_no_row(gone: Place) -> None:
    result = run(gone, dry_run=False, tenants=[str(gone.tenants[0])])
    mine = sum(row.tenant == gone.tenants[0] for row in gone.rows)
    told = metadata(result)
    assert (told["dry run"], told["rows restored"], len(rows_of(gone, RESTORED))) == ("false", mine, mine)
    assert f"| {gone.tenants[0]} | {FIRST:%Y-%m} | {mine:,} | {mine:,} | 0 | 0 |" in str(told["by tenant and month"])
    assert not any(str(row.id) in str(told) for row in gone.rows)


def test_the_live_table_is_restored_to_behind_a_hold(gone: Place) -> None:
    refused = run(gone, dry_run=False, live=True)
    assert "need a hold that ends in the future" in failure(refused)
    assert rows_of(gone) == []
    result = run(gone, dry_run=False, live=True, hold_until=str(UNTIL.date()))
    assert metadata(result)["held until"] == "2025-07-02T00:00:00+00:00"
    assert len(rows_of(gone)) == len(gone.rows)


def test_a_day_that_is_not_archived_fails_the_run_and_the_others_come(gone: Place) -> None:
    result = run(gone, dry_run=False, last="2024-01-07")
    assert "not archived: 2024-01-07" in failure(result)
    assert len(rows_of(gone, RESTORED)) == len(gone.rows)


def test_a_tenant_of_whom_nothing_is_archived_fails_the_run(gone: Place) -> None:
    assert "nothing is archived of tenant" in failure(run(gone, dry_run=False, tenants=[str(UUID(int=7))]))
    assert gone.backend.execute(f"select to_regclass('{RESTORED}')") == [(None,)]


@pytest.mark.parametrize("written", ["yesterday", "20240103", "2024-W01-3"])
@pytest.mark.parametrize("field", ["first", "last", "hold_until"])
def test_what_is_no_day_is_refused_with_how_to_write_one(gone: Place, field: str, written: str) -> None:
    told = failure(run(gone, None, live=True, **{"hold_until": str(UNTIL.date()), field: written}))
    assert f"{field}: '{written}' is neither a day nor a moment. Write it as 2026-01-31" in told


def test_a_run_that_goes_well_says_so_without_a_warning(gone: Place, caplog: pytest.LogCaptureFixture) -> None:
    assert run(gone, dry_run=False).success
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_has_left_the_archive_is_named_and_warned_of(gone: Place, dry_run: bool) -> None:
    leave_the_table(gone)
    register(gone)
    assert sum(expired(gone).rows.values()) == len(gone.rows)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(gone, instance, dry_run=dry_run)
        logged = instance.all_logs(result.run_id)
    assert result.success
    named = metadata(result)["has left the archive"]
    assert f"expired, {len(gone.rows):,} rows of 3 tenants" in str(named)
    (warning,) = [each.user_message for each in logged if each.level == logging.WARNING]
    assert "some of the range has left the archive and does not come back" in warning
