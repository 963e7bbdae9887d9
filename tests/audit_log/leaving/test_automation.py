"""Expiry and compaction in Dagster: by hand a dry run, by schedule done, and a check that sees what stayed."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from adinsights_orchestration.audit_log.leaving.automation import LET_GO, build_archive_life
from adinsights_orchestration.audit_log.store.errors import RefusedError
from adinsights_orchestration.dead_runs import WORKER_TAG
from adinsights_orchestration.environments import Automation, Environment
from tests.audit_log.conftest import NOW, Place
from tests.audit_log.living import MUCH_LATER, leave_the_table, objects, register, verified
from tests.audit_log.restoring import audit_rows
from tests.audit_log.rows import FIRST


@pytest.fixture
def old(place: Place) -> Place:
    place.now = NOW + timedelta(days=30)
    place.archive(FIRST, FIRST.replace(day=31))
    leave_the_table(place)
    register(place)
    return place


def run(place: Place, automation: Automation, how: str, *, scheduled: bool = True) -> dg.ExecuteInProcessResult:
    """A run as the schedule starts it in production, or as somebody does in the UI."""
    settings = place.settings.model_copy(update={"environment": Environment.PRODUCTION})
    definitions = build_archive_life(settings, place.ops, clock=lambda: MUCH_LATER)
    config: dict[str, object] = {}
    if scheduled:
        schedule = definitions.resolve_schedule_def(f"{automation.value}_{how}")
        data = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=MUCH_LATER))
        assert data.run_requests is not None
        config = dict(data.run_requests[0].run_config)
    return definitions.resolve_job_def(automation.value).execute_in_process(run_config=config)


def metadata(result: dg.ExecuteInProcessResult, node: str, *, dry_run: bool = False) -> dict[str, object]:
    """What the run left: a materialization, and an observation alone where it was a dry one."""
    made, told = result.asset_materializations_for_node(node), result.asset_observations_for_node(node)
    assert (len(made), len(told)) == ((0, 1) if dry_run else (1, 0))
    events: list[dg.AssetMaterialization | dg.AssetObservation] = [*made, *told]
    (event,) = events
    return {name: value.value for name, value in event.metadata.items()}


def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    return next(each for each in result.get_asset_check_evaluations() if each.check_name == LET_GO)


def test_months_are_compacted_and_then_expire_by_schedule_and_only_told_by_hand(old: Place) -> None:
    before = objects(old)
    told = metadata(run(old, Automation.COMPACTION, "", scheduled=False), "audit_log__compaction", dry_run=True)
    assert (objects(old), told["objects before"], told["months"]) == (before, len(before), "2024-01")
    run(old, Automation.COMPACTION, "monthly")
    assert len(objects(old)) == len(old.tenants)
    told = metadata(run(old, Automation.EXPIRY, "", scheduled=False), "audit_log__expiry", dry_run=True)
    assert (len(objects(old)), told["rows that left"]) == (len(old.tenants), len(old.rows))
    result = run(old, Automation.EXPIRY, "nightly")
    assert (objects(old), check(result).passed, verified(old).problems) == (set(), True, [])
    assert metadata(result, "audit_log__expiry")["oldest day that left"] == str(FIRST)
    assert all(str(row.id) not in str(metadata(result, "audit_log__expiry")) for row in old.rows[:20])
    assert {row.detail["rows"] for row in audit_rows(old, "audit_log_archive_compacted")} == {0}


def test_what_the_store_keeps_for_now_is_a_warning_until_it_lets_go(
    old: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object, key: str) -> None:
        raise RefusedError("it is locked", place=key)

    with monkeypatch.context() as patched:
        patched.setattr("adinsights_orchestration.audit_log.store.folder.Folder.delete", refuse)
        result = run(old, Automation.EXPIRY, "nightly")
    kept = check(result)
    assert (kept.passed, kept.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "it is locked" in str(kept.metadata["what it says"].value)
    assert check(run(old, Automation.EXPIRY, "nightly")).passed


@pytest.mark.parametrize("automation", [Automation.EXPIRY, Automation.COMPACTION])
def test_a_run_proves_that_its_process_lives(
    old: Place, postgres_instance: dg.DagsterInstance, automation: Automation
) -> None:
    definitions = build_archive_life(old.settings, old.ops, clock=lambda: MUCH_LATER)
    result = definitions.resolve_job_def(automation.value).execute_in_process(instance=postgres_instance)
    made = postgres_instance.get_run_by_id(result.run_id)
    assert made is not None
    assert WORKER_TAG in made.tags
