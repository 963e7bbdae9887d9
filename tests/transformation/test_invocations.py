"""The rows that builds leave: one per command, the newest result per node, coverage that moves when it is earned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.invocations import (
    Ended,
    coverage,
    latest_build,
    node_results,
    node_statuses,
    record_end,
    record_start,
)
from adinsights_orchestration.transformation.run_results import parse_artifact
from tests.transformation.test_run_results import artifact, result

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B = "model.p.a", "model.p.b"
META, GOOGLE = Provider.META, Provider.GOOGLE_ADS


def ended(*results: dict[str, Any], minute: int = 0, **fields: Any) -> Ended:
    """A build that came to its end with these results."""
    invocation = f"i{minute}"
    completed = fields.pop("completed", True)
    return Ended(
        invocation_id=invocation,
        run_id="run",
        command="dbt build",
        full_refresh=False,
        started_at=NOW,
        ended_at=NOW + timedelta(minutes=minute),
        completed=completed,
        succeeded=completed,
        artifact=parse_artifact(artifact(*results, minute=minute, invocation=invocation)),
        **fields,
    )


def _statuses(store: OpsStore) -> dict[str, str]:
    with store.begin() as connection:
        return {uid: node.status for uid, node in node_results(connection).items()}


def _generated_minute(store: OpsStore) -> str | None:
    with store.begin() as connection:
        build = latest_build(connection)
    return None if build is None else str(build.metadata["generated_at"])[14:16]


def _rows(store: OpsStore) -> list[Any]:
    with store.begin() as connection:
        return list(connection.execute(sa.select(dbt_invocation)))


def test_a_build_that_nobody_ended_stays_as_not_completed(ops_store: OpsStore) -> None:
    record_start(ops_store, "i", "run", "dbt build", False, NOW)
    [row] = _rows(ops_store)
    assert (row.completed, row.succeeded, row.started_at) == (False, False, NOW)


def test_its_end_completes_the_row_of_its_start(ops_store: OpsStore) -> None:
    record_start(ops_store, "i5", "run", "dbt build", False, NOW)
    record_end(ops_store, ended(result(A), minute=5), {A})
    [row] = _rows(ops_store)
    assert (row.completed, row.succeeded, row.models, row.elapsed_seconds) == (True, True, 1, 12.5)


def test_a_later_build_changes_only_the_models_that_it_built(ops_store: OpsStore) -> None:
    record_end(ops_store, ended(result(A, "error"), result(B), minute=1), {A, B})
    record_end(ops_store, ended(result(B), minute=2), {A, B})
    assert _statuses(ops_store) == {A: "error", B: "success"}


def test_a_build_that_is_recorded_late_does_not_undo_a_newer_one(ops_store: OpsStore) -> None:
    record_end(ops_store, ended(result(A), minute=2), {A})
    record_end(ops_store, ended(result(A, "error"), minute=1), {A})
    assert _statuses(ops_store) == {A: "success"}
    assert _generated_minute(ops_store) == "02"


def test_a_build_that_was_stopped_keeps_its_results_and_does_not_count_as_the_latest(ops_store: OpsStore) -> None:
    record_end(ops_store, ended(result(A), minute=1), {A, B})
    record_end(ops_store, ended(result(B, "error"), minute=2, completed=False), {A, B})
    assert _statuses(ops_store) == {A: "success", B: "error"}
    assert _generated_minute(ops_store) == "01"


def test_a_result_that_skips_or_fails_a_node_leaves_when_it_was_built(ops_store: OpsStore) -> None:
    def built(store: OpsStore) -> dict[str, datetime | None]:
        with store.begin() as connection:
            return {uid: node.built_at for uid, node in node_results(connection).items()}

    began = NOW.replace(hour=0)
    record_end(ops_store, ended(result(A), result(B, "error"), minute=1), {A, B})
    record_end(ops_store, ended(result(A, "skipped"), result(B, "error"), minute=2), {A, B})
    assert built(ops_store) == {A: began + timedelta(minutes=1), B: None}
    record_end(ops_store, ended(result(A, "no-op"), result(B), minute=3), {A, B})
    assert built(ops_store) == dict.fromkeys((A, B), began + timedelta(minutes=3))


def test_a_command_that_ran_no_model_does_not_make_the_results_look_fresh(ops_store: OpsStore) -> None:
    record_end(ops_store, ended(result(A), minute=1), {A})
    record_end(ops_store, ended(result(A, "skipped"), result("seed.p.s"), minute=2), {A, "seed.p.s"})
    assert _generated_minute(ops_store) == "01"


def test_before_the_first_completed_build_there_is_no_latest(ops_store: OpsStore) -> None:
    assert _generated_minute(ops_store) is None
    record_start(ops_store, "i", "run", "dbt build", False, NOW)
    assert _generated_minute(ops_store) is None


def test_results_of_nodes_that_left_the_project_are_forgotten(ops_store: OpsStore) -> None:
    record_end(ops_store, ended(result(A, "error"), result(B), minute=1), {A, B})
    record_end(ops_store, ended(result(B), minute=2), {B})
    assert node_statuses(ops_store) == {B: "success"}


def test_coverage_moves_for_the_providers_that_a_build_covered_only(ops_store: OpsStore) -> None:
    assert coverage(ops_store) == {}
    record_end(ops_store, ended(result(A), minute=1, covered={META: 10, GOOGLE: 11}), {A})
    record_end(ops_store, ended(result(A), minute=2, covered={GOOGLE: 20}), {A})
    record_end(ops_store, ended(result(A), minute=3), {A})
    assert coverage(ops_store) == {META: 10, GOOGLE: 20}
