"""Where test servers keep their data."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import pytest

from tests import memory
from tests.memory import scratch_folder


def _stay(where: Path) -> None:
    with scratch_folder("killed", where, enough_bytes=1):
        signal.pause()


def test_a_folder_is_in_memory_where_that_is_large_enough_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder("pg", tmp_path, enough_bytes=1) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o755
    assert not folder.exists()
    with scratch_folder("pg", tmp_path, enough_bytes=1 << 60) as folder:
        assert folder.parent == Path(tempfile.gettempdir())
    with scratch_folder("pg", tmp_path / "no_memory") as folder:
        assert folder.parent == Path(tempfile.gettempdir())


def test_what_a_killed_session_left_is_removed_and_what_a_living_one_has_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_YOUNG_SECONDS", 0.0)
    session = multiprocessing.get_context("fork").Process(target=_stay, args=(tmp_path,))
    session.start()
    while not (locked := list(tmp_path.glob("*/lock"))) or _is_free(locked[0]):
        assert session.is_alive()
    memory.remove_abandoned(tmp_path)
    assert locked[0].exists()

    assert session.pid is not None
    os.kill(session.pid, signal.SIGKILL)
    session.join()
    memory.remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
