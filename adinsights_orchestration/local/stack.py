"""The local stack's life: Postgres, the loopback service, Dagster; started in that order, stopped in the other.

Belongs here: what is started, when it counts as ready, and where it is. Does not belong here: what one cycle does
(`cycle`) and how processes are kept (`processes`). Everything can be started again after a kill at any point: what
runs is found and kept, what was half made is made again.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.local import environment
from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.local.processes import BackgroundProcess
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.settings import PROJECT_ROOT

_SERVICE_TIMEOUT_SECONDS = 60.0
_DAGSTER_TIMEOUT_SECONDS = 180.0
# dbt is given 25 s to end its statements, and Dagster waits for it.
_DAGSTER_GRACE_SECONDS = 40.0

_LOCATIONS = (
    "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError "
    "{ ... on PythonError { message } } } } } }"
)

Say = Callable[[str], None]


class StackError(AdinsightsError):
    """The local stack could not be started as asked."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the stack, for people."""

    name: str
    running: bool
    where: str


class Stack:
    """The local stack below one state folder.

    Args:
        local: Ports, folders and sizes.
        say: Where progress goes, one line at a time.
    """

    def __init__(self, local: LocalSettings, say: Say) -> None:
        self.local = local
        self.state_dir = local.state_dir
        self.variables = environment.stack_environment(local)
        self._say = say
        run = self.state_dir / "run"
        self.postgres = EmbeddedPostgres(self.state_dir / "postgres", local.postgres_port)
        self.service = BackgroundProcess(
            "service", _python("adinsights_orchestration.local.service"), run, PROJECT_ROOT
        )
        # Not in the project's folder: Dagster would take the home of bare `dagster dev` from the `.env` there.
        self.dagster = BackgroundProcess("dagster", _dagster_command(local), run, run)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps a second `up`, `down` or `demo` on the same folder away while this one works."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StackError(
                    "another `adinsights local` command is at work", place=str(self.state_dir), next_step="Wait for it."
                ) from None
            yield

    def start_data_plane(self) -> None:
        """Starts Postgres and the loopback service, with databases, schemas and seed data in place."""
        self._refuse_taken_ports()
        if not self.postgres.is_ready():
            self._say("starting Postgres")
        self.postgres.start()
        for name in environment.DATABASES:
            self.postgres.create_database(name)
        self._migrate()
        if not self._service_answers():
            self._say("starting the loopback service: ad platforms, Airbyte, backend")
        self.service.start(self.variables)
        self.service.wait_until(self._service_answers, timeout_seconds=_SERVICE_TIMEOUT_SECONDS)
        environment.write_environment_file(self.state_dir / "stack.env", self.variables)

    def start_dagster(self) -> None:
        """Starts Dagster's webserver, daemon and code servers, with the stack's automation running."""
        if self.dagster.find() is None:
            self._say("starting Dagster (half a minute on two cores)")
        self.dagster.start(self.variables)
        self.dagster.wait_until(self._ui_answers, timeout_seconds=_DAGSTER_TIMEOUT_SECONDS)
        self._refuse_broken_locations()

    def stop(self) -> list[str]:
        """Stops what runs, Dagster first, and returns the names of what was stopped."""
        stopped = []
        if self.dagster.find() is not None:
            self._say("stopping Dagster (running syncs go on in Airbyte and are adopted next time)")
        if self.dagster.stop(grace_seconds=_DAGSTER_GRACE_SECONDS):
            stopped.append("dagster")
        if self.service.stop():
            stopped.append("service")
        if self.postgres.is_ready():
            self.postgres.stop()
            stopped.append("postgres")
        (self.state_dir / "stack.env").unlink(missing_ok=True)
        return stopped

    def parts(self) -> list[Part]:
        """What belongs to the stack, whether it runs, and where it is."""
        return [
            Part("Dagster UI", self.dagster.find() is not None, environment.ui_url(self.local)),
            Part("loopback service", self.service.find() is not None, environment.service_url(self.local)),
            Part("Postgres", self.postgres.is_ready(), f"127.0.0.1:{self.local.postgres_port}"),
        ]

    def prepare_dagster_home(self) -> None:
        """Puts `dagster.yaml` into DAGSTER_HOME and makes Dagster's tables once, before several processes would."""
        home = Path(self.variables["DAGSTER_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
        import dagster as dg

        with dg.DagsterInstance.get() as instance:
            instance.all_asset_keys()

    def _migrate(self) -> None:
        from adinsights_orchestration.local.backend import prepare_backend
        from adinsights_orchestration.ops_store.store import OpsStore
        from adinsights_orchestration.settings import load_settings

        store = OpsStore(load_settings().ops_store)
        store.migrate()
        store.dispose()
        prepare_backend(self.local, environment.database_url(self.local, "backend"))

    def _refuse_taken_ports(self) -> None:
        # Postgres checks its own port: it can tell its own server from a stranger.
        for process, port, name in (
            (self.service, self.local.service_port, "SERVICE_PORT"),
            (self.dagster, self.local.ui_port, "UI_PORT"),
        ):
            if process.find() is None and _is_taken(port):
                raise StackError(
                    f"port {port} on 127.0.0.1 is taken",
                    next_step=f"Stop what uses it, or set ADINSIGHTS_LOCAL_{name}.",
                )

    def _refuse_broken_locations(self) -> None:
        url = environment.ui_url(self.local) + "/graphql"
        answer = httpx.post(url, json={"query": _LOCATIONS}, timeout=_DAGSTER_TIMEOUT_SECONDS).json()
        for entry in answer["data"]["workspaceOrError"]["locationEntries"]:
            problem = (entry["locationOrLoadError"] or {}).get("message")
            if problem:
                self.dagster.stop()  # it would go on without the location; the next `up` shall load what was mended
                raise StackError(
                    f"code location {entry['name']} does not load: {problem.strip().splitlines()[-1]}",
                    next_step=f"See {self.dagster.log}.",
                )

    def _service_answers(self) -> bool:
        return _answers(environment.service_url(self.local) + "/knobs")

    def _ui_answers(self) -> bool:
        return _answers(environment.ui_url(self.local) + "/server_info")


def _python(module: str) -> list[str]:
    return _logged("local-service", [sys.executable, "-m", module])


def _dagster_command(local: LocalSettings) -> list[str]:
    dagster = str(Path(sys.executable).with_name("dagster"))
    listen = ["-h", "127.0.0.1", "-p", str(local.ui_port)]
    workspace = str(PROJECT_ROOT / "workspace.yaml")
    return _logged("dagster", [dagster, "dev", "-w", workspace, *listen])


def _logged(component: str, command: list[str]) -> list[str]:
    """The command with its output as the project's log lines."""
    return [sys.executable, "-m", "adinsights_orchestration.cli", "exec", "--component", component, "--", *command]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).is_success
    except httpx.HTTPError:
        return False


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
