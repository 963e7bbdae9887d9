"""What a run leaves on the disk goes with it, and nothing else does."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.storage.runs.schema import RunsTable

from adinsights_orchestration.dagster_internals.history import Pruned, prune_history

NOW = datetime.now(UTC)


@dg.op
def speak() -> str:
    """An op with output on both of its streams, whose result is stored."""
    print("a line")  # noqa: T201
    return "stored"


@dg.job
def speaking() -> None:
    """A job whose runs leave files."""
    speak()


def _run(instance: dg.DagsterInstance, age: timedelta) -> str:
    with dg.execute_job(dg.reconstructable(_job), instance=instance) as result:
        run_id = result.run_id
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        moment = (NOW - age).replace(tzinfo=None)
        connection.execute(RunsTable.update().where(RunsTable.c.run_id == run_id).values(update_timestamp=moment))
    return run_id


def _job() -> dg.JobDefinition:
    return speaking


def _folders(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    manager: Any = instance.compute_log_manager
    roots = (Path(instance.storage_directory()), Path(manager._base_dir))
    return sorted({folder for root in roots if (folder := root / run_id).is_dir()})


def _prune(instance: dg.DagsterInstance, **options: Any) -> Pruned:
    moment = NOW - timedelta(days=30)
    return prune_history(instance, runs_before=moment, events_before=moment, **options)


def test_a_runs_captured_output_and_stored_results_go_with_it_and_a_younger_ones_stay(
    postgres_instance: dg.DagsterInstance,
) -> None:
    old, young = _run(postgres_instance, timedelta(days=60)), _run(postgres_instance, timedelta(days=1))
    files = [each.name for folder in _folders(postgres_instance, old) for each in folder.rglob("*") if each.is_file()]
    assert "result" in files, "what the op returned"
    assert any(name.endswith(".out") for name in files), "what it printed"
    assert _prune(postgres_instance).output == 1
    assert _folders(postgres_instance, old) == []
    assert _folders(postgres_instance, young) != []


def test_what_runs_left_that_are_gone_already_goes_too_and_nothing_that_no_run_made(
    postgres_instance: dg.DagsterInstance,
) -> None:
    gone, alive = _run(postgres_instance, timedelta(days=60)), _run(postgres_instance, timedelta())
    postgres_instance.delete_run(gone)
    strange = Path(postgres_instance.storage_directory()) / "of_somebody_else"
    strange.mkdir()
    assert _prune(postgres_instance, batch=1).output == 1
    assert _folders(postgres_instance, gone) == []
    assert _folders(postgres_instance, alive) != []
    assert strange.is_dir()


def test_what_cannot_be_deleted_is_named_and_holds_up_nothing(
    postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn, other = sorted(str(uuid4()) for _ in range(2))
    for run_id in (stubborn, other):
        (Path(postgres_instance.storage_directory()) / run_id).mkdir(parents=True)
    remove = shutil.rmtree

    def refuse(folder: Path) -> None:
        if folder.name == stubborn:
            raise PermissionError(13, "Permission denied", str(folder))
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    pruned = _prune(postgres_instance)
    assert pruned.output == 1
    (problem,) = pruned.undeletable
    assert problem.startswith(f"{stubborn}: PermissionError: ")
    assert "Permission denied" in problem
