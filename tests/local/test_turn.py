"""One command at a time on a state folder: the second is told who is at work, and `down` can ask it to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from adinsights_orchestration.local.turn import Holder, Turn, TurnError

PROGRAM = """
import sys, time
from pathlib import Path
from adinsights_orchestration.local.turn import Turn
with Turn(Path(sys.argv[1])).taken("up"):
    print("taken", flush=True)
    time.sleep(60)
"""


@contextmanager
def somebody_at_work(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the turn."""
    other = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        yield other
    finally:
        other.kill()
        other.wait()
        assert other.stdout is not None
        other.stdout.close()


def test_the_second_is_told_who_is_at_work(tmp_path: Path) -> None:
    with somebody_at_work(tmp_path) as other:
        for _ in range(2):  # asking in vain does not wipe out the name
            with pytest.raises(TurnError, match=rf"`adinsights local up` \(pid {other.pid}\) is at work"):
                Turn(tmp_path).taken("demo").__enter__()


def test_a_killed_command_gives_its_turn_back(tmp_path: Path) -> None:
    with somebody_at_work(tmp_path) as other:
        other.kill()
        other.wait()
        with Turn(tmp_path).taken("demo"):
            pass
    assert json.loads((tmp_path / "lock").read_text())["command"] == "demo"


def test_taking_over_asks_the_holder_once_and_waits_until_it_is_done(tmp_path: Path) -> None:
    asked: list[Holder] = []

    def ask(holder: Holder) -> None:
        asked.append(holder)
        holder.process.terminate()

    with somebody_at_work(tmp_path) as other, Turn(tmp_path).taken_over("down", ask):
        assert other.wait() != 0
        assert [(holder.command, holder.process.pid) for holder in asked] == [("up", other.pid)]


def test_nobody_is_asked_when_it_is_free(tmp_path: Path) -> None:
    asked: list[Holder] = []
    with Turn(tmp_path / "new folder").taken_over("down", asked.append):
        assert asked == []


@pytest.mark.parametrize("signature", ["", "{", '{"pid": 1}', '{"command": "up", "pid": "x", "created": 1}'])
def test_a_half_written_signature_names_nobody(tmp_path: Path, signature: str) -> None:
    (tmp_path / "lock").write_text(signature)
    assert Turn(tmp_path).holder() is None


def test_a_recycled_pid_is_not_taken_for_the_holder(tmp_path: Path) -> None:
    created = psutil.Process(os.getppid()).create_time() - 100
    (tmp_path / "lock").write_text(json.dumps({"command": "up", "pid": os.getppid(), "created": created}))
    assert Turn(tmp_path).holder() is None
