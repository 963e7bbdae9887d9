"""The embedded Postgres starts, stops, survives kills and names what is in its way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from adinsights_orchestration.local.postgres import EmbeddedPostgres, PostgresError
from tests.conftest import free_port


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that root's service user can reach."""
    path = tmp_path_factory.mktemp("pg")
    for parent in (path, *path.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    return path


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server that was never started."""
    it = EmbeddedPostgres(folder / "cluster", free_port(), settings={"fsync": "off"}, die_with_parent=True)
    yield it
    it.stop()


def _pid(server: EmbeddedPostgres) -> int:
    return int((server.data_dir / "postmaster.pid").read_text().splitlines()[0])


def test_what_was_written_is_there_after_a_stop_and_a_start(server: EmbeddedPostgres) -> None:
    server.start()
    dsn = server.create_database("kept")
    with psycopg.connect(dsn) as connection:
        connection.execute("create table t as select 41 + 1 as answer")
    server.stop()
    assert not server.is_ready()
    server.start()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select answer from t").fetchone() == (42,)


def test_starting_a_running_server_keeps_it(server: EmbeddedPostgres) -> None:
    server.start()
    pid = _pid(server)
    server.start()
    EmbeddedPostgres(server.data_dir, server.port).start()
    assert _pid(server) == pid


def test_a_killed_server_starts_again_with_its_committed_data(server: EmbeddedPostgres) -> None:
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("create table t as select generate_series(1, 100) as n")
        connection.execute("checkpoint")
    os.kill(_pid(server), signal.SIGKILL)
    assert server._process is not None
    server._process.wait()
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (100,)


def test_a_cluster_whose_making_was_killed_is_made_anew(server: EmbeddedPostgres) -> None:
    server.data_dir.mkdir()
    (server.data_dir / "PG_VERSION").write_text("16\n")
    server.start()
    assert server.is_ready()


def test_a_taken_port_is_named_with_the_setting_that_changes_it(server: EmbeddedPostgres) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.port))
        other.listen()
        with pytest.raises(PostgresError, match=rf"port {server.port} .*ADINSIGHTS_LOCAL_POSTGRES_PORT"):
            server.start()


def test_another_cluster_on_the_same_port_is_not_taken_for_ours(server: EmbeddedPostgres, folder: Path) -> None:
    server.start()
    other = EmbeddedPostgres(folder / "other", server.port)
    assert not other.is_ready()
    with pytest.raises(PostgresError, match="taken"):
        other.start()


def test_a_password_is_needed_even_on_loopback(server: EmbeddedPostgres) -> None:
    server.start()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.dsn().replace(server.password, "wrong"))
    assert not list(server.data_dir.parent.glob("*.pw"))


def test_stopping_a_stopped_server_does_nothing(server: EmbeddedPostgres) -> None:
    server.stop()


def test_a_server_that_is_still_starting_is_waited_for_instead_of_refused(server: EmbeddedPostgres) -> None:
    server._make_cluster()
    server._launch()  # and whoever did that was killed
    again = EmbeddedPostgres(server.data_dir, server.port)
    again.start()
    assert again.is_ready()


def test_a_server_that_is_still_starting_is_stopped_too(server: EmbeddedPostgres) -> None:
    server._make_cluster()
    server._launch()
    server.stop()
    assert server.find() is None


def test_a_server_killed_under_busy_sessions_starts_again_at_once(server: EmbeddedPostgres) -> None:
    server.start()
    sessions = [psycopg.connect(server.dsn(), autocommit=True) for _ in range(5)]
    busy = threading.Thread(target=_until_the_server_is_gone, args=(sessions[0],))
    busy.start()
    os.kill(_pid(server), signal.SIGKILL)
    server.start()
    busy.join(timeout=30)
    assert not busy.is_alive()
    assert server.is_ready()
    for session in sessions:
        session.close()


def _until_the_server_is_gone(session: psycopg.Connection) -> None:
    with suppress(psycopg.OperationalError):
        session.execute("select count(*) from generate_series(1, 20000000)")


def test_a_pid_file_whose_pid_is_somebody_else_s_by_now_neither_stops_them_nor_the_start(
    server: EmbeddedPostgres,
) -> None:
    server.start()
    server.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (server.data_dir / "postmaster.pid").write_text(f"{stranger.pid}\n{server.data_dir}\n")
        server.stop()
        assert stranger.poll() is None
        server.start()
        assert server.is_ready()
    finally:
        stranger.kill()
        stranger.wait()


def test_an_initdb_that_outlived_its_killed_parent_does_not_spoil_the_next_cluster(server: EmbeddedPostgres) -> None:
    orphaned = server.data_dir.with_name(f"{server.data_dir.name}.new-orphan")
    orphaned.mkdir()
    (orphaned / "PG_VERSION").write_text("16\n")
    server.start()
    assert server.is_ready()
    assert [path.name for path in server.data_dir.parent.iterdir()] == [server.data_dir.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_a_clone_that_roots_service_user_cannot_reach_still_runs_and_is_reset_with_its_folder(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    asked = closed / "cluster"
    server = EmbeddedPostgres(asked, free_port(), settings={"fsync": "off"}, die_with_parent=True)
    place = server.data_dir.parent
    assert closed not in server.data_dir.parents
    assert not place.exists()  # nothing is made before it is needed
    try:
        server.start()
        server.create_database("kept")
        again = EmbeddedPostgres(asked, server.port)
        assert again.is_ready()
        server.stop()
        assert asked.readlink() == again.data_dir == server.data_dir
        again.start()
        assert "kept" in _databases(again)
        again.stop()
        asked.unlink()  # as removing the whole state folder does
        again.start()
        assert "kept" not in _databases(again)
        again.stop()
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)


def _databases(server: EmbeddedPostgres) -> set[str]:
    with psycopg.connect(server.dsn()) as connection:
        return {row[0] for row in connection.execute("select datname from pg_database")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_a_root_whose_new_folders_are_closed_to_others_gets_a_server_too(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        server = EmbeddedPostgres(folder / "state" / "cluster", free_port(), die_with_parent=True)
        server.start()
        assert server.is_ready()
        assert EmbeddedPostgres(folder / "state" / "cluster", server.port).is_ready()
    finally:
        os.umask(before)
        server.stop()
        shutil.rmtree(server.data_dir.parent)
