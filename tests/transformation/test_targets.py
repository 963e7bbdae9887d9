"""The folders dbt writes into: apart, locked while in use, pruned when old, the saved parse passed on."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adinsights_orchestration.transformation.targets import PARSE_FILE, Targets
from tests.transformation.support import in_another_process

NOW = datetime(2026, 1, 10, tzinfo=UTC)
KEEP = timedelta(hours=24)


def _age(folder: Path, hours: float) -> None:
    moment = (NOW - timedelta(hours=hours)).timestamp()
    for path in (*folder.iterdir(), folder):
        os.utime(path, (moment, moment))


def test_two_processes_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    with targets.fresh("nightly", "k") as first, targets.fresh("nightly", "k") as second:
        assert first != second
        assert first.parent == second.parent == tmp_path / "target" / "runs"


def test_old_folders_are_pruned_and_young_ones_are_not(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    with targets.fresh("old", "k") as old, targets.fresh("young", "k") as young:
        pass
    _age(old, 25)
    _age(young, 23)
    assert targets.prune(NOW, KEEP) == 1
    assert (old.exists(), young.exists()) == (False, True)


def test_a_folder_that_was_written_to_lately_is_young_however_old_it_is(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    with targets.fresh("long", "k") as folder:
        log = folder / "dbt.log"
        log.write_text("old")
    _age(folder, 48)
    os.utime(log, (NOW.timestamp(), NOW.timestamp()))
    assert targets.prune(NOW, KEEP) == 0


def test_the_folder_of_a_running_process_is_never_pruned(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    with targets.fresh("running", "k") as folder:
        _age(folder, 1_000)
        assert targets.prune(NOW, KEEP) == 0
        assert folder.exists()
    _age(folder, 1_000)
    assert targets.prune(NOW, KEEP) == 1


def test_a_killed_process_gives_its_folder_free(tmp_path: Path) -> None:
    code = f"""
import pathlib, sys, time
from adinsights_orchestration.transformation.targets import Targets
with Targets(pathlib.Path({str(tmp_path)!r})).fresh("killed", "k") as folder:
    print(folder, flush=True)
    time.sleep(600)
"""
    process = in_another_process(code)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().decode().strip())
    _age(folder, 1_000)
    assert Targets(tmp_path).prune(NOW, KEEP) == 0
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert Targets(tmp_path).prune(NOW, KEEP) == 1


def test_nothing_to_prune_is_no_error(tmp_path: Path) -> None:
    assert Targets(tmp_path).prune(NOW, KEEP) == 0


def test_a_parse_that_dbt_left_is_lent_to_the_next_process_with_the_same_key_only(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    with targets.fresh("a", "one") as folder:
        assert not (folder / PARSE_FILE).exists()
        (folder / PARSE_FILE).write_bytes(b"parsed")
    with targets.fresh("b", "one") as same, targets.fresh("c", "two") as other:
        assert (same / PARSE_FILE).read_bytes() == b"parsed"
        assert not (other / PARSE_FILE).exists()


def test_a_better_parse_replaces_the_one_that_was_lent(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    for content in (b"first", b"second"):
        with targets.fresh("a", "k") as folder:
            (folder / PARSE_FILE).write_bytes(content)
    with targets.fresh("b", "k") as folder:
        assert (folder / PARSE_FILE).read_bytes() == b"second"


def test_a_process_that_failed_leaves_no_parse_to_others(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    try:
        with targets.fresh("a", "k") as folder:
            (folder / PARSE_FILE).write_bytes(b"half")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with targets.fresh("b", "k") as folder:
        assert not (folder / PARSE_FILE).exists()


def test_prepared_files_lie_where_pruning_never_looks(tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    targets.prepared.mkdir(parents=True)
    (targets.prepared / "manifest.json").write_text("{}")
    _age(targets.prepared, 10_000)
    targets.prune(NOW, KEEP)
    assert (targets.prepared / "manifest.json").exists()
