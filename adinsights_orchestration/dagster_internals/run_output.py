"""What runs leave outside Dagster's database: captured output, and results that ops stored for each other.

Belongs here: deleting both, of a run that is deleted and of runs that are gone already. Dagster's own `delete_run`
deletes rows and leaves the files for ever.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import dagster as dg
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager


@dataclass
class Dropped:
    """What was deleted.

    Attributes:
        runs: Of how many runs that had left something.
        problems: What could not be deleted, and why.
    """

    runs: int = 0
    problems: list[str] = field(default_factory=list)


def drop_of_run(instance: dg.DagsterInstance, run_id: str, dropped: Dropped) -> None:
    """Deletes what one run left; what cannot be deleted is noted and holds up nothing."""
    found = [folder for folder in (root / run_id for root in _roots(instance)) if folder.is_dir()]
    try:
        if not isinstance(instance.compute_log_manager, LocalComputeLogManager):
            instance.compute_log_manager.delete_logs(prefix=[run_id])  # in a bucket: by what their keys begin with
        for folder in found:
            shutil.rmtree(folder)
    except Exception as error:  # noqa: BLE001  (a bucket's client raises what it likes)
        dropped.problems.append(f"{run_id}: {type(error).__name__}: {error}")
    else:
        dropped.runs += bool(found)


def drop_orphans(
    instance: dg.DagsterInstance, dropped: Dropped, keep_going: Callable[[], bool], batch: int = 500
) -> bool:
    """Deletes what is left in folders of runs that do not exist; returns whether it got to the end.

    A run exists before its folder does, so a folder that was there before the question and has no run never gets one.
    """
    folders = _run_folders(instance)
    for first in range(0, len(folders), batch):
        if not keep_going():
            return False
        names = folders[first : first + batch]
        records = instance.get_run_records(dg.RunsFilter(run_ids=names))
        alive = {record.dagster_run.run_id for record in records}
        for run_id in names:
            if run_id not in alive:
                drop_of_run(instance, run_id, dropped)
    return True


def _run_folders(instance: dg.DagsterInstance) -> list[str]:
    names = {each.name for root in _roots(instance) if root.is_dir() for each in root.iterdir() if each.is_dir()}
    return [name for name in sorted(names) if _is_run_id(name)]


def _roots(instance: dg.DagsterInstance) -> set[Path]:
    """Where runs have folders; where nothing else is configured, both are the same."""
    logs = instance.compute_log_manager
    results = {Path(instance.storage_directory())}
    return results | {Path(logs._base_dir)} if isinstance(logs, LocalComputeLogManager) else results  # noqa: SLF001


def _is_run_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
