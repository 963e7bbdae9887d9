"""A disk that takes nothing more, at every point of a build: what is said, what stays whole, that the next build works.

The disk is a real one of a few megabytes where the tests may mount it (root), and a limit on the size of files, which
refuses the same writes with another reason, everywhere.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation import manifest
from adinsights_orchestration.transformation.builds import Build, Outcome, Request, is_building
from adinsights_orchestration.transformation.command import Command
from adinsights_orchestration.transformation.invocations import coverage
from adinsights_orchestration.transformation.process import DbtError
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.source_freshness import _run
from adinsights_orchestration.transformation.targets import PARSE_FILE, TargetError, Targets
from tests.transformation.support import Warehouse
from tests.transformation.test_builds import META, NEWEST

KB = 1024
_REQUEST = Request("test", "run-0123456789", Command(("build",)), newest=lambda: NEWEST)


class Disk:
    """The disk under dbt's folder.

    Args:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def leave(self, size: int) -> None:
        """Fills it up to so many bytes."""
        self._filling.unlink(missing_ok=True)
        at = os.statvfs(self.path)
        self._filling.write_bytes(b"x" * (at.f_bavail * at.f_frsize - size))

    def clear(self) -> None:
        """Somebody made room."""
        self._filling.unlink()


@pytest.fixture
def disk(project_dir: Path, tmp_path: Path) -> Iterator[Disk]:
    """The project's `target` on a disk of its own, with everything prepared on it."""
    target, kept = project_dir / "target", tmp_path / "kept"
    target.rename(kept)
    target.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(target)], check=False).returncode:
        pytest.skip("only root may mount a disk")
    shutil.copytree(kept, target, dirs_exist_ok=True)
    yield Disk(target)
    subprocess.run(["umount", str(target)], check=True)


def _build(settings: Settings, store: OpsStore, project: Project) -> Outcome:
    return Build(settings, store, project, _REQUEST).run()


# What no longer finds room: the folder's copy of the parse; dbt's manifest; its log and compiled SQL; its results.
@pytest.mark.parametrize(
    "left",
    [
        0,
        pytest.param(200 * KB, marks=pytest.mark.soak),
        pytest.param(700 * KB, marks=pytest.mark.soak),
        pytest.param(1150 * KB, marks=pytest.mark.soak),
        pytest.param(1400 * KB, marks=pytest.mark.soak),
    ],
)
def test_a_build_on_a_full_disk_says_where_and_what_to_do_publishes_nothing_and_the_next_one_works(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse, disk: Disk, left: int
) -> None:
    assert _build(settings, ops_store, project).succeeded
    shutil.rmtree(disk.path / "runs")
    before = settings.dbt.run_results_path.read_bytes()
    disk.leave(left)
    try:
        error: Exception | None = _build(settings, ops_store, project).error()
    except TargetError as raised:
        error = raised
    assert error is not None
    assert str(error).startswith(str(disk.path / "runs" / "test-run-0123-"))
    assert "No space left on device" in str(error)
    assert "Make room on its disk" in str(error)
    assert settings.dbt.run_results_path.read_bytes() == before
    assert not is_building(ops_store)

    disk.clear()
    assert _build(settings, ops_store, project).succeeded
    assert settings.dbt.run_results_path.read_bytes() != before
    assert coverage(ops_store) == NEWEST


def test_what_could_not_be_made_is_not_left_behind(tmp_path: Path, disk: Disk) -> None:
    disk.leave(100 * KB)
    targets = Targets(disk.path.parent)
    parse = next(targets.prepared.glob("parse-*.msgpack"))
    with pytest.raises(TargetError), targets.fresh("full", parse.stem.removeprefix("parse-")):
        pass
    assert list(targets.runs.iterdir()) == []


def test_old_folders_are_pruned_from_a_full_disk(settings: Settings, disk: Disk) -> None:
    targets = Targets(disk.path.parent)
    for name in ("locked", "never-locked"):
        (targets.runs / name).mkdir(parents=True)
    (targets.runs / "locked" / ".in-use").touch()
    disk.leave(0)
    assert targets.prune(datetime.now(UTC) + timedelta(days=2), timedelta(days=1)) == 2


def test_a_parse_that_cannot_be_kept_costs_nobody_a_build(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse, disk: Disk
) -> None:
    targets = Targets(disk.path.parent)
    [kept] = targets.prepared.glob("parse-*.msgpack")
    before = kept.read_bytes()
    with targets.fresh("better", kept.stem.removeprefix("parse-")) as folder:
        (folder / PARSE_FILE).write_bytes(before + b"better")
        disk.leave(10 * KB)
    assert kept.read_bytes() == before
    assert [path.name for path in targets.prepared.glob(".parse*")] == []


def test_source_freshness_on_a_full_disk_names_the_folder(
    settings: Settings, project: Project, warehouse: Warehouse, disk: Disk
) -> None:
    disk.leave(700 * KB)
    with pytest.raises(DbtError, match="could not write into its folder") as caught:
        _run(settings, ["source:raw_meta.ads"])
    assert str(disk.path / "runs") in str(caught.value)


def test_preparing_on_a_full_disk_names_the_folder_and_works_when_there_is_room(
    settings: Settings, project_dir: Path, disk: Disk
) -> None:
    (project_dir / "models" / "more.sql").write_text("select 1 as id")
    disk.leave(600 * KB)
    with pytest.raises(TargetError, match="Make room on its disk") as caught:
        manifest.prepare(settings)
    assert str(disk.path) in str(caught.value)
    disk.clear()
    manifest.prepare(settings)
    assert manifest.staleness(settings) is None


@contextmanager
def _no_file_over(size: int) -> Iterator[None]:
    """Writing past `size` bytes fails, here and in every process started here."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("too_large", ["parse-*.msgpack", pytest.param("manifest.json", marks=pytest.mark.soak)])
def test_a_file_that_may_not_grow_is_told_as_a_full_disk_is(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse, too_large: str
) -> None:
    [path] = Targets(settings.dbt.project_dir).prepared.glob(too_large)
    with _no_file_over(path.stat().st_size - KB):
        try:
            error: Exception | None = _build(settings, ops_store, project).error()
        except TargetError as raised:
            error = raised
    assert "File too large" in str(error)
    assert str(settings.dbt.project_dir / "target" / "runs") in str(error)
    assert _build(settings, ops_store, project).succeeded


def test_a_folder_that_may_not_be_written_is_named(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    (settings.dbt.project_dir / "target" / "runs").write_text("a file where the folder should be")
    with pytest.raises(TargetError, match="Make room on its disk, or give write permission"):
        _build(settings, ops_store, project)


def test_a_full_disk_of_the_warehouse_is_not_taken_for_dbt_s_own(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    warehouse.execute(
        "create function raw_meta.full_disk() returns int language plpgsql as $$ begin raise exception"
        " 'could not extend file \"base/1/2\": No space left on device' using errcode = '53100'; end $$;"
        "alter table raw_meta.ads rename to ads_rows;"
        "create view raw_meta.ads as select r.* from raw_meta.ads_rows r where raw_meta.full_disk() = 1"
    )
    outcome = _build(settings, ops_store, project)
    assert outcome.unwritable is None
    assert "dbt failed" in str(outcome.error())
    assert coverage(ops_store).get(META) is None
