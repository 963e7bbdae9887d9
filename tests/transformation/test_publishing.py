"""The published file: whole at every moment, the old one kept when a new one cannot be written, mended by the next."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.transformation.invocations import record_end
from adinsights_orchestration.transformation.publishing import PublishError, publish, replace_whole
from tests.transformation.support import in_another_process
from tests.transformation.test_invocations import A, B, ended
from tests.transformation.test_run_results import result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where results are published; its folder does not exist yet."""
    return tmp_path / "published" / "run_results.json"


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _statuses(path: Path) -> dict[str, str]:
    return {r["unique_id"]: r["status"] for r in _content(path)["results"]}


@contextmanager
def _no_file_over(size: int) -> Iterator[None]:
    """As a full disk: writing past `size` bytes fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_before_the_first_completed_build_there_is_no_file(ops_store: OpsStore, path: Path) -> None:
    record_end(ops_store, ended(result(A), completed=False), {A})
    assert publish(ops_store, path, {A}) is False
    assert not path.exists()


def test_a_build_is_published_with_what_was_known_of_other_models(ops_store: OpsStore, path: Path) -> None:
    record_end(ops_store, ended(result(A, "error"), minute=1), {A, B})
    record_end(ops_store, ended(result(B), minute=2), {A, B})
    assert publish(ops_store, path, {A, B}) is True
    assert _statuses(path) == {A: "error", B: "success"}
    assert _content(path)["metadata"]["generated_at"].startswith("2026-01-01T00:02")


def test_a_file_that_is_current_is_left_alone(ops_store: OpsStore, path: Path) -> None:
    record_end(ops_store, ended(result(A)), {A})
    publish(ops_store, path, {A})
    before = path.stat()
    assert publish(ops_store, path, {A}) is False
    after = path.stat()  # it was read, so its time of access may be another
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_model_that_left_the_project_leaves_the_file_without_a_build(ops_store: OpsStore, path: Path) -> None:
    record_end(ops_store, ended(result(A, "error"), result(B)), {A, B})
    publish(ops_store, path, {A, B})
    assert publish(ops_store, path, {B}) is True
    assert _statuses(path) == {B: "success"}


def test_a_file_that_somebody_lost_or_spoilt_is_written_again(ops_store: OpsStore, path: Path) -> None:
    record_end(ops_store, ended(result(A)), {A})
    publish(ops_store, path, {A})
    path.write_text("{")
    assert publish(ops_store, path, {A}) is True
    path.unlink()
    assert publish(ops_store, path, {A}) is True
    assert _statuses(path) == {A: "success"}


def test_the_backend_s_user_may_read_it_whatever_the_umask(ops_store: OpsStore, path: Path) -> None:
    record_end(ops_store, ended(result(A)), {A})
    old = os.umask(0o077)
    try:
        path.parent.mkdir(mode=0o755)
        publish(ops_store, path, {A})
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_full_disk_leaves_the_old_file_whole_and_the_next_attempt_publishes(ops_store: OpsStore, path: Path) -> None:
    record_end(ops_store, ended(result(A), minute=1), {A})
    publish(ops_store, path, {A})
    old = path.read_bytes()
    record_end(ops_store, ended(result(A, "error"), minute=2), {A})
    with _no_file_over(100), pytest.raises(PublishError) as caught:
        publish(ops_store, path, {A})
    assert "File too large" in str(caught.value)
    assert "the next build or tick publishes them" in str(caught.value)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]
    assert publish(ops_store, path, {A}) is True
    assert _statuses(path) == {A: "error"}


def test_a_folder_that_cannot_be_is_named_in_the_error(ops_store: OpsStore, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    record_end(ops_store, ended(result(A)), {A})
    with pytest.raises(PublishError, match=r"a file/run_results\.json"):
        publish(ops_store, tmp_path / "a file" / "run_results.json", {A})


def test_a_link_stays_a_link(ops_store: OpsStore, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(path)
    record_end(ops_store, ended(result(A)), {A})
    publish(ops_store, link, {A})
    assert link.is_symlink()
    assert _statuses(path) == {A: "success"}


def test_what_a_killed_publisher_left_is_swept_by_the_next(path: Path) -> None:
    path.parent.mkdir()
    (path.parent / f".{path.name}.0badcafe.new").write_text("half")
    (path.parent / "another.json").write_text("of somebody else")
    replace_whole(path, b"{}")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["another.json", path.name]


def test_a_kill_at_any_moment_of_many_publishes_leaves_a_whole_file(path: Path) -> None:
    code = f"""
import itertools, json, pathlib
from adinsights_orchestration.transformation.publishing import replace_whole
for number in itertools.count():
    content = {{"number": number, "filling": [number] * 20_000, "last": number}}
    replace_whole(pathlib.Path({str(path)!r}), json.dumps(content).encode())
    print(number, flush=True)
"""
    for round_ in range(5):
        process = in_another_process(code)
        assert process.stdout is not None
        for _ in range(3 + round_):
            process.stdout.readline()
        time.sleep(0.003 * round_)  # another moment of the cycle each round
        process.send_signal(signal.SIGKILL)
        process.communicate()
        content = _content(path)
        assert content["number"] == content["last"] == content["filling"][19_999] >= 2 + round_
    replace_whole(path, b"{}")
    assert _content(path) == {}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_reader_never_sees_a_part_of_a_file_that_is_being_replaced(path: Path) -> None:
    replace_whole(path, json.dumps([0] * 50_000).encode())
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            replace_whole(path, json.dumps([number] * 50_000).encode())
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        content = json.loads(path.read_bytes())
        assert len(content) == 50_000
        assert content[0] == content[-1]
    writer.join()


def test_publishers_at_once_leave_the_newest_state(ops_store: OpsStore, path: Path) -> None:
    def build_and_publish(minute: int) -> None:
        record_end(ops_store, ended(result(A, "error" if minute % 2 else "success"), minute=minute), {A})
        publish(ops_store, path, {A})

    threads = [threading.Thread(target=build_and_publish, args=(minute,)) for minute in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _statuses(path) == {A: "success"}
    assert _content(path)["metadata"]["invocation_id"] == "i6"
