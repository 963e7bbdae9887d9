"""The local stack's life: Postgres, the loopback service, Dagster; started in that order, stopped in the other.

Belongs here: what is started, when it counts as ready, and where it is. Does not belong here: what one cycle does
(`cycle`), how processes are kept (`processes`) and who may work on them now (`turn`). Everything can be started
again after a kill at any point: what runs is found and kept, what a kill left over is ended, what was half made is made
again.
"""

from __future__ import annotations

import shutil
import socket
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
from pydantic import SecretStr

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.local import environment
from adinsights_orchestration.local.audit_history import keep_first_day, seed_audit_history
from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.local.processes import BackgroundProcess
from adinsights_orchestration.local.progress import Say, telling
from adinsights_orchestration.local.settings import PREFIX, LocalSettings
from adinsights_orchestration.local.turn import Turn
from adinsights_orchestration.settings import PROJECT_ROOT

_SERVICE_TIMEOUT_SECONDS = 60.0
_DAGSTER_TIMEOUT_SECONDS = 180.0
# dbt is given 25 s to end its statements, and Dagster waits for it.
_DAGSTER_GRACE_SECONDS = 40.0

_LOCATIONS = (
    "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError "
    "{ ... on PythonError { message } } } } } }"
)
# One question to each of Dagster's three storages: its webserver keeps a connection to each, and finds out that a
# restart of Postgres has cut it only when it uses it.
_STORAGES = (
    "{ runsOrError(limit: 1) { __typename ... on Runs { results { id } } } "
    "assetRecordsOrError(limit: 1) { __typename ... on AssetRecordConnection { assets { id } } } "
    "autoMaterializeTicks(limit: 1) { id } }"
)


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
        for_one_command: End Postgres and the service when the process that starts them dies, however it dies.
    """

    def __init__(self, local: LocalSettings, say: Say, *, for_one_command: bool = False) -> None:
        self.local = local
        self.state_dir = local.state_dir
        self.variables = environment.stack_environment(local)
        self._say = say
        run = self.state_dir / "run"
        self.turn = Turn(self.state_dir)
        self.postgres = EmbeddedPostgres(
            self.state_dir / "postgres", local.postgres_port, die_with_parent=for_one_command
        )
        service = _python("adinsights_orchestration.local.service")
        self.service = BackgroundProcess("service", service, run, PROJECT_ROOT, die_with_parent=for_one_command)
        # Not in the project's folder: Dagster would take the home of bare `dagster dev` from the `.env` there.
        self.dagster = BackgroundProcess("dagster", _dagster_command(local), run, run)

    def is_up(self) -> bool:
        """Whether Dagster runs, which only `up` starts; without it what runs is a command's own, or left over."""
        return self.dagster.find() is not None

    def make_room(self, *, ui: bool) -> None:
        """Ends what a kill left over, then refuses a port that somebody else has; starts nothing.

        Args:
            ui: Whether the UI's port is needed too.
        """
        self._end_leftovers()
        parts = [
            ("POSTGRES_PORT", self.local.postgres_port, self.postgres.find() is not None),
            ("SERVICE_PORT", self.local.service_port, self.service.find() is not None),
        ]
        parts += [("UI_PORT", self.local.ui_port, self.is_up())] if ui else []
        if any(running for _, _, running in parts):
            self._refuse_other_settings()
        for name, port, running in parts:
            if not running and _is_taken(port):
                raise StackError(
                    f"port {port} on 127.0.0.1 is taken",
                    next_step=f"Stop what uses it, or set ADINSIGHTS_LOCAL_{name}.",
                )

    def start_data_plane(self) -> None:
        """Starts Postgres and the loopback service, with databases, schemas and seed data in place."""
        keep_first_day(self.local, self._first_day)
        environment.write_environment_file(self._environment_file, self.variables)
        if self.postgres.find() is None:
            self._say("starting Postgres")
        with telling(self._say, "Postgres is starting"):
            self.postgres.start()
        for name in environment.DATABASES:
            self.postgres.create_database(name)
        self._migrate()
        if self.service.find() is None:
            self._say("starting the loopback service: ad platforms, Airbyte, backend")
        with telling(self._say, "the loopback service is starting"):
            self.service.start(self.variables)
            self.service.wait_until(self._service_answers, timeout_seconds=_SERVICE_TIMEOUT_SECONDS)

    def start_dagster(self) -> None:
        """Starts Dagster's webserver, daemon and code servers, with the stack's automation running."""
        if self.dagster.find() is None:
            self._say("starting Dagster (half a minute on two cores)")
        with telling(self._say, "Dagster loads the code locations, then its UI and its daemon start"):
            self.dagster.start(self.variables)
            self.dagster.wait_until(self._ui_answers, timeout_seconds=_DAGSTER_TIMEOUT_SECONDS)
            self._refuse_broken_locations()

    def stop(self) -> list[str]:
        """Stops what runs, Dagster first, and returns the names of what was stopped."""
        stopped = []
        if self.dagster.find() is not None:
            self._say("stopping Dagster (running syncs go on in Airbyte and are adopted next time)")
        with telling(self._say, "Dagster lets what it is doing come to an end"):
            if self.dagster.stop(grace_seconds=_DAGSTER_GRACE_SECONDS):
                stopped.append("dagster")
        with telling(self._say, "the service and Postgres are stopping"):
            if self.service.stop():
                stopped.append("service")
            if self.postgres.find() is not None:
                self.postgres.stop()
                stopped.append("postgres")
        self._environment_file.unlink(missing_ok=True)
        return stopped

    def parts(self) -> list[Part]:
        """What belongs to the stack, whether it runs, and where it is."""
        return [
            Part("Dagster UI", self.dagster.find() is not None, environment.ui_url(self.local)),
            Part("loopback service", self.service.find() is not None, environment.service_url(self.local)),
            Part("Postgres", self.postgres.is_ready(), f"127.0.0.1:{self.local.postgres_port}"),
        ]

    def prepare_dagster_home(self) -> None:
        """Puts `dagster.yaml` into DAGSTER_HOME and makes Dagster's tables once, before several processes would.

        While Dagster does not run, no run is at work, whatever the tables say: those that a kill cut off are failed.
        """
        home = Path(self.variables["DAGSTER_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
        import dagster as dg

        from adinsights_orchestration.local.dead_runs import fail_dead_runs

        with dg.DagsterInstance.get() as instance:
            instance.all_asset_keys()
            if not self.is_up() and (dead := fail_dead_runs(instance)):
                self._say(f"{dead} {'run was' if dead == 1 else 'runs were'} cut off by a kill, and marked as failed")

    @property
    def _first_day(self) -> date:
        return date.fromisoformat(self.variables["ADINSIGHTS_AUDIT_LOG__FIRST_DAY"])

    @property
    def _environment_file(self) -> Path:
        return self.state_dir / "stack.env"

    def _refuse_other_settings(self) -> None:
        """What runs keeps the ports that it was started with."""
        began = environment.read_environment_file(self._environment_file)
        names = began.keys() | self.variables.keys() if began else ()
        other = sorted(name for name in names if began.get(name) != self.variables.get(name))
        other = [name for name in other if name.startswith(PREFIX)] or other  # the rest follows from these
        if other:
            raise StackError(
                f"the stack already runs with other settings ({', '.join(other)})",
                place=str(self.state_dir),
                next_step="`make down` first, or take another ADINSIGHTS_LOCAL_STATE_DIR.",
            )

    def _end_leftovers(self) -> None:
        for process in (self.dagster, self.service):
            if left := process.leftovers():
                self._say(f"ending {len(left)} processes that a killed {process.name} left behind")
                with telling(self._say, "they are ending"):
                    process.stop()

    def _migrate(self) -> None:
        from adinsights_orchestration.local.backend import prepare_backend
        from adinsights_orchestration.ops_store.store import OpsStore
        from adinsights_orchestration.settings import OpsStoreSettings

        store = OpsStore(OpsStoreSettings(dsn=SecretStr(environment.database_url(self.local, "dagster"))))
        store.migrate()
        store.dispose()
        backend = environment.database_url(self.local, "backend")
        prepare_backend(self.local, backend)
        if made := seed_audit_history(backend, self._first_day, utc_now()):
            self._say(f"made {made:,} rows of audit log, from {self._first_day} on")

    def _refuse_broken_locations(self) -> None:
        url = environment.ui_url(self.local) + "/graphql"
        try:
            answer = httpx.post(url, json={"query": _LOCATIONS}, timeout=_DAGSTER_TIMEOUT_SECONDS).json()
        except (httpx.HTTPError, ValueError) as error:
            raise StackError(
                f"the Dagster UI does not list its code locations ({type(error).__name__})",
                next_step=f"See {self.dagster.log}.",
            ) from error
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
        url = environment.ui_url(self.local)
        return _answers(url + "/server_info") and _answers_well(url + "/graphql", _STORAGES)


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


def _answers_well(url: str, query: str) -> bool:
    try:
        text = httpx.post(url, json={"query": query}, timeout=30.0).text
    except httpx.HTTPError:
        return False
    return '"data"' in text and '"errors"' not in text and "PythonError" not in text


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
