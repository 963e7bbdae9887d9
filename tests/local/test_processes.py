"""Background processes are found again, stopped with their children, and never confused with strangers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from adinsights_orchestration.local.processes import BackgroundProcess, ProcessError
from tests.conftest import HANG_SECONDS

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {DEAF!r}]); time.sleep(60)"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[BackgroundProcess]:
    """A process that sleeps."""
    it = BackgroundProcess("sleeper", SLEEP, tmp_path, tmp_path)
    yield it
    it.stop(grace_seconds=0.2)


def _started(process: BackgroundProcess) -> psutil.Process:
    process.start({})
    process.wait_until(lambda: "up" in process.tail(), timeout_seconds=HANG_SECONDS)
    found = process.find()
    assert found is not None
    return found


def test_a_second_look_finds_the_same_process_and_starts_no_other(process: BackgroundProcess) -> None:
    first = _started(process)
    again = BackgroundProcess(process.name, process.command, process.folder, process.cwd)
    again.start({})
    found = again.find()
    assert found is not None
    assert found.pid == first.pid


def test_a_stopped_process_is_gone_and_stopping_it_again_does_nothing(process: BackgroundProcess) -> None:
    running = _started(process)
    assert process.stop()
    assert not running.is_running() or running.status() == psutil.STATUS_ZOMBIE
    assert process.find() is None
    assert not process.stop()


def test_a_recycled_pid_is_not_taken_for_our_process(process: BackgroundProcess, tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP)
    try:
        created = psutil.Process(stranger.pid).create_time()
        (tmp_path / "sleeper.json").write_text(json.dumps({"pid": stranger.pid, "created": created - 100}))
        assert process.find() is None
        assert not process.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("record", ["", "{", "{}", '{"pid": "x", "created": 1}'])
def test_a_record_that_a_kill_left_half_written_means_not_running(
    process: BackgroundProcess, tmp_path: Path, record: str
) -> None:
    (tmp_path / "sleeper.json").write_text(record)
    assert process.find() is None
    assert _started(process).is_running()


def test_children_that_ignore_a_polite_stop_are_killed_too(tmp_path: Path) -> None:
    process = BackgroundProcess("parent", [sys.executable, "-c", PARENT], tmp_path, tmp_path)
    parent = _started(process)
    (child,) = parent.children()
    assert process.stop(grace_seconds=0.5)
    deadline = time.monotonic() + HANG_SECONDS
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_ends_while_starting_says_so_with_its_last_words(tmp_path: Path) -> None:
    process = BackgroundProcess("brief", [sys.executable, "-c", "raise SystemExit('no such file')"], tmp_path, tmp_path)
    process.start({})
    with pytest.raises(ProcessError, match=r"brief ended while starting: no such file.*brief\.log"):
        process.wait_until(lambda: False, timeout_seconds=HANG_SECONDS)


def test_a_process_that_never_gets_ready_is_a_clear_error(process: BackgroundProcess) -> None:
    process.start({})
    with pytest.raises(ProcessError, match="not ready after 0 s"):
        process.wait_until(lambda: False, timeout_seconds=0.2)


def test_the_given_environment_reaches_the_process_on_top_of_ours(tmp_path: Path) -> None:
    program = "import os; print(os.environ['GREETING'], 'PATH' in os.environ)"
    process = BackgroundProcess("env", [sys.executable, "-c", program], tmp_path, tmp_path)
    process.start({"GREETING": "hello"})
    deadline = time.monotonic() + HANG_SECONDS
    while "hello" not in process.tail() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.tail() == f"hello {'PATH' in os.environ}"


# A parent that is killed cannot end its child; the child says who it is.
CHILD = "import os, time; print('child', os.getpid(), flush=True); time.sleep(60)"
FAMILY = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); time.sleep(60)"


def _killed_with_a_child_left(folder: Path) -> tuple[BackgroundProcess, psutil.Process]:
    """A process that was killed, and the child that lives on."""
    process = BackgroundProcess("family", [sys.executable, "-c", FAMILY], folder, folder)
    process.start({})
    process.wait_until(lambda: "child" in process.tail(), timeout_seconds=HANG_SECONDS)
    child = psutil.Process(int(process.tail().split()[1]))
    parent = process.find()
    assert parent is not None
    parent.kill()
    parent.wait(timeout=HANG_SECONDS)
    return process, child


def _ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_what_a_killed_process_left_behind_is_ended_by_the_next_stop(tmp_path: Path) -> None:
    process, child = _killed_with_a_child_left(tmp_path)
    assert process.find() is None
    assert [left.pid for left in process.leftovers()] == [child.pid]
    assert process.stop()
    assert _ended(child)
    assert not process.stop()


def test_what_a_killed_process_left_behind_is_ended_before_it_is_started_again(tmp_path: Path) -> None:
    process, child = _killed_with_a_child_left(tmp_path)
    process.start({})
    try:
        assert _ended(child)
        assert process.find() is not None
    finally:
        process.stop(grace_seconds=0.5)


def test_a_process_whose_starter_was_killed_before_it_was_written_down_is_ended_too(process: BackgroundProcess) -> None:
    running = _started(process)
    (process.folder / "sleeper.json").unlink()
    assert [left.pid for left in process.leftovers()] == [running.pid]
    assert process.stop()
    assert _ended(running)


def test_another_folder_s_process_of_the_same_name_is_left_alone(process: BackgroundProcess, tmp_path: Path) -> None:
    running = _started(process)
    other = tmp_path / "other"
    stranger = BackgroundProcess(process.name, SLEEP, other, tmp_path)
    assert not stranger.stop()
    assert not _ended(running)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own service, which only Linux has")
def test_a_process_that_lives_for_one_command_dies_with_it_however_it_dies(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from adinsights_orchestration.local.processes import BackgroundProcess;"
        f"p = BackgroundProcess('brief', {SLEEP!r}, Path({str(tmp_path)!r}), Path('/'), die_with_parent=True);"
        "p.start({}); p.wait_until(lambda: 'up' in p.tail(), timeout_seconds=45); print(p.find().pid, flush=True);"
        "time.sleep(60)"
    )
    command = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    started = psutil.Process(int(command.stdout.readline()))
    command.kill()
    command.wait()
    command.stdout.close()
    _, alive = psutil.wait_procs([started], timeout=HANG_SECONDS)
    assert [each for each in alive if not _ended(each)] == []
