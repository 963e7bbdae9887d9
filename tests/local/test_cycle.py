"""What `make demo` makes of one cycle: all well only when all of it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from adinsights_orchestration.local.cycle import CycleResult, Ran, read_result, show
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation, dbt_model_result, sync_job
from adinsights_orchestration.settings import Settings

SINCE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SYNCED, BUILT = Ran("sync_connections", "s", succeeded=True), Ran("dbt_build", "b", succeeded=True)


class Cycle:
    """A cycle of one sync, as the ops store and the published file show it."""

    def __init__(self, store: OpsStore, folder: Path) -> None:
        settings = Settings()
        dbt = settings.dbt.model_copy(update={"run_results_path": folder / "run_results.json"})
        self.store, self.settings = store, settings.model_copy(update={"dbt": dbt})
        self.settings.dbt.run_results_path.write_text("{}")
        ids = {"job_id": 7, "connection_id": UUID(int=2), "partition_key": "acme/meta", "tenant_id": UUID(int=1)}
        kind = {"provider": "meta", "job_type": "sync", "status": "succeeded", "started_by": "orchestrator"}
        moments = dict.fromkeys(("started_at", "ended_at", "first_observed_at", "observed_at"), SINCE + _minutes(1))
        self._insert(sync_job, **ids, **kind, **moments)

    def built(self, minute: int, *, succeeded: bool, completed: bool = True, run_id: str = "b") -> None:
        at = SINCE + _minutes(minute)
        row = {"invocation_id": f"{run_id}{minute}", "run_id": run_id, "command": "build", "full_refresh": False}
        row |= {"completed": completed, "succeeded": succeeded, "elapsed_seconds": 6.0, "models": minute}
        self._insert(dbt_invocation, **row, generated_at=at, started_at=at)

    def model(self, name: str, status: str) -> None:
        row = {"unique_id": name, "invocation_id": "b2", "status": status, "execution_seconds": 1.0, "result": {}}
        self._insert(dbt_model_result, **row, generated_at=SINCE)

    def result(self, *runs: Ran) -> CycleResult:
        return read_result(self.settings, self.store, (), SINCE, runs or (SYNCED, BUILT), 60)

    def _insert(self, table: sa.Table, **values: Any) -> None:
        with self.store.begin() as connection:
            connection.execute(sa.insert(table).values(values))


def _minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


@pytest.fixture
def cycle(ops_store: OpsStore, tmp_path: Path) -> Cycle:
    return Cycle(ops_store, tmp_path)


def test_a_cycle_is_well_when_everything_was_synced_built_tested_and_published(cycle: Cycle) -> None:
    cycle.built(2, succeeded=True)
    cycle.built(1, succeeded=False, run_id="somebody else's")
    cycle.model("model.a.fct_spend", "success")
    assert cycle.result().succeeded


def test_a_build_whose_second_pass_went_well_is_not_well_and_both_passes_are_shown(
    cycle: Cycle, capsys: pytest.CaptureFixture[str]
) -> None:
    cycle.built(3, succeeded=True)
    cycle.built(2, succeeded=False)
    cycle.model("model.a.stg_meta", "skipped")
    result = cycle.result(SYNCED, Ran("dbt_build", "b", succeeded=False))
    assert [row["models"] for row in result.builds] == [2, 3]
    assert not result.succeeded
    assert not cycle.result().succeeded, "whatever the run said"
    show(result)
    said = capsys.readouterr()
    assert "the cycle FAILED" in said.out + said.err
    assert "failed: dbt_build" in said.out + said.err


def test_a_run_that_failed_or_a_model_that_did_or_a_build_that_was_cut_off_is_not_well(cycle: Cycle) -> None:
    assert not cycle.result().succeeded, "nothing was built"
    cycle.built(2, succeeded=True)
    assert cycle.result().succeeded
    assert not cycle.result(SYNCED, Ran("dbt_build", "b", succeeded=False)).succeeded
    assert not cycle.result(Ran("sync_connections", "s", succeeded=False), BUILT).succeeded
    cycle.model("model.a.stg_meta", "error")
    assert not cycle.result().succeeded
