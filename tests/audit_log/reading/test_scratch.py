"""Private folders for objects: readable by nobody else, and gone with their process however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from adinsights_orchestration.audit_log.reading.scratch import PREFIX, private_folder, remove_left_behind

HOLD_ONE = """
import sys, time
from adinsights_orchestration.audit_log.reading.scratch import private_folder
with private_folder() as folder:
    (folder / "0.parquet").write_bytes(b"what people did")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_for_this_user_alone_and_gone_after_the_body(temporary: Path) -> None:
    with private_folder() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "0.parquet").write_bytes(b"x")
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_not_before_it_died(temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_ONE], env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        held = Path(child.stdout.readline().strip())
        with private_folder():
            assert (held / "0.parquet").exists()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (held / "0.parquet").exists()
    with private_folder():
        assert not held.exists()


def test_another_folder_and_a_link_of_the_same_name_stay(temporary: Path) -> None:
    other = temporary / "mine"
    other.mkdir()
    (other / "kept").touch()
    (temporary / f"{PREFIX}link").symlink_to(other)
    assert remove_left_behind() == []
    assert (other / "kept").exists()


def test_readers_that_begin_at_once_do_not_take_each_other_s_folder(temporary: Path) -> None:
    seen: list[bool] = []

    def read() -> None:
        for _ in range(50):
            with private_folder() as folder:
                (folder / "0.parquet").write_bytes(b"x")
                seen.append((folder / "0.parquet").exists())

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 200
    assert list(temporary.iterdir()) == []
