"""One dbt build from start to end: alone, in a folder of its own, recorded and published whatever happens to it.

Belongs here: the order of things around a dbt process that writes to the warehouse. Does not belong here: Dagster
(the `adinsights dbt build` command runs the same builds without it) and when to build (`refresh`). Builds go one at a
time: two incremental builds of one table would each delete what they saw and insert, and leave rows twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import AdinsightsError, OpsStoreError
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.command import (
    Command,
    default_providers,
    parse_key,
    providers_argument,
)
from adinsights_orchestration.transformation.invocations import Ended, record_end, record_start
from adinsights_orchestration.transformation.process import DbtError, DbtProcess, Event
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.publishing import publish
from adinsights_orchestration.transformation.run_results import Artifact, read_artifact
from adinsights_orchestration.transformation.targets import Targets
from adinsights_orchestration.transformation.warehouse import missing_tables

BUILD_LOCK = "dbt:build"
_POLL_SECONDS = 2.0
_NAMED = 5  # how many failed nodes an error names

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a build.

    Args:
        name: What started it; names its target folder.
        run_id: The Dagster run, or what else to record.
        command: What dbt shall do; the providers that take part are added here.
        newest: Reads the newest materialization's storage id of each provider; called after the wait for other builds
            and before dbt starts, so that whatever is reported later is not taken for built.
    """

    name: str
    run_id: str
    command: Command = field(default_factory=lambda: Command(("build",)))
    newest: Callable[[], Mapping[Provider, int]] = dict


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a build.

    `missing` are the raw tables of providers that were left out.
    """

    completed: bool
    succeeded: bool
    artifact: Artifact | None
    errors: tuple[str, ...]
    target: Path
    missing: Mapping[Provider, tuple[str, ...]]

    def error(self) -> DbtError | None:
        """What to raise; None for a build that succeeded."""
        if self.succeeded:
            return None
        see = f"dbt's log and compiled SQL are in {self.target}."
        if not self.completed or self.artifact is None:
            reason = self.errors[-1].strip() if self.errors else "it was stopped"
            return DbtError(f"the dbt build was not carried out: {reason}", next_step=see)
        failed = [*self.artifact.failed_nodes, *self.artifact.failed_tests]
        named = ", ".join(failed[:_NAMED]) + (f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")
        return DbtError(f"dbt built what it could; failed: {named or self.errors[-1:] or 'a hook'}", next_step=see)


@dataclass(frozen=True, slots=True)
class _Plan:
    command: Command
    newest: Mapping[Provider, int]
    missing: Mapping[Provider, tuple[str, ...]]


class Build:
    """One build; read `events` to its end, then look at `outcome`.

    Args:
        settings: Where the project, the warehouse and the published file are.
        store: The ops store.
        project: The dbt project.
        request: What to build.
        clock: The time.
        wait: Sleeps between two looks at whether another build has ended, for so many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: OpsStore,
        project: Project,
        request: Request,
        *,
        clock: Clock = utc_now,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._store, self._project = settings, store, project
        self._request = request
        self._clock = clock
        self._wait = wait
        self._targets = Targets(settings.dbt.project_dir)
        self._begun: tuple[str, datetime] | None = None
        self.outcome: Outcome | None = None

    def events(self) -> Generator[Event, None, None]:
        """Runs the build and yields dbt's events as they come.

        When it ends, however it ends, it is recorded, and the run results are published. Stopping to read stops dbt.

        Raises:
            WarehouseError: The warehouse does not answer; nothing was started.
            OpsStoreError: The ops store does not answer; nothing was started, or what was done could not be recorded.
            PublishError: The results are recorded, but the published file could not be replaced.
        """
        self._targets.prune(self._clock(), timedelta(hours=self._settings.dbt.keep_target_hours))
        with _alone(self._store, self._wait):
            plan = self._plan()
            folder_name = f"{self._request.name}-{self._request.run_id[:8]}"
            with self._targets.fresh(folder_name, parse_key(self._settings, plan.command.providers)) as folder:
                yield from self._run(plan, folder)

    def run(self) -> Outcome:
        """Runs the build to its end."""
        for _event in self.events():
            pass
        assert self.outcome is not None
        return self.outcome

    def _plan(self) -> _Plan:
        missing = missing_tables(self._settings, self._project)
        for provider, tables in missing.items():
            logger.warning("provider left out: raw tables do not exist yet", provider=str(provider), tables=tables)
        ready = [provider for provider in self._settings.dbt.enabled_providers if provider not in missing]
        providers = providers_argument(default_providers(self._settings.dbt.project_dir), ready)
        return _Plan(replace(self._request.command, providers=providers), dict(self._request.newest()), missing)

    def _run(self, plan: _Plan, folder: Path) -> Iterator[Event]:
        process = DbtProcess(self._settings, plan.command, folder)
        try:
            for event in process.events():
                self._note_begin(event, plan.command)
                yield event
        except BaseException:
            process.stop()
            self._end_quietly(process, plan, folder)
            raise
        self._end(process, plan, folder, came_to_end=True)

    def _note_begin(self, event: Event, command: Command) -> None:
        if self._begun is None:
            self._begun = (str(event["info"]["invocation_id"]), self._clock())
            invocation_id, at = self._begun
            record_start(self._store, invocation_id, self._request.run_id, str(command), command.full_refresh, at)

    def _end_quietly(self, process: DbtProcess, plan: _Plan, folder: Path) -> None:
        """Records an interrupted build; the interruption is the error that matters."""
        try:
            self._end(process, plan, folder, came_to_end=False)
        except AdinsightsError:
            logger.exception("an interrupted build could not be recorded")

    def _end(self, process: DbtProcess, plan: _Plan, folder: Path, *, came_to_end: bool) -> None:
        artifact = read_artifact(folder)
        completed = came_to_end and artifact is not None and process.exit_code in (0, 1)
        succeeded = completed and process.exit_code == 0
        self.outcome = Outcome(completed, succeeded, artifact, tuple(process.errors), folder, plan.missing)
        if self._begun is None:
            return
        invocation_id, started_at = self._begun
        ended = Ended(
            invocation_id,
            self._request.run_id,
            str(plan.command),
            plan.command.full_refresh,
            started_at,
            self._clock(),
            completed,
            succeeded,
            artifact,
            self._covered(plan, artifact, folder) if completed and artifact else {},
        )
        record_end(self._store, ended, self._project.nodes.keys())
        publish(self._store, self._settings.dbt.run_results_path, self._project.nodes.keys())

    def _covered(self, plan: _Plan, artifact: Artifact, folder: Path) -> dict[Provider, int]:
        """The providers whose nodes this build built, all of them."""
        existing = _nodes_of(folder) if plan.missing else self._project.nodes.keys()
        return {
            provider: storage_id
            for provider, storage_id in plan.newest.items()
            if provider not in plan.missing and self._project.downstream_of((provider,)) & existing <= artifact.built
        }


def _nodes_of(folder: Path) -> Set[str]:
    """The nodes that existed for one dbt process: without a provider, those that need it are not there."""
    nodes: Mapping[str, object] = json.loads((folder / "manifest.json").read_bytes())["nodes"]
    return nodes.keys()


@contextmanager
def _alone(store: OpsStore, wait: Callable[[float], None]) -> Iterator[None]:
    """Holds the build lock; waits for it as long as another build takes."""
    with ExitStack() as stack:
        waited = False
        while not stack.enter_context(store.exclusive(BUILD_LOCK)):
            stack.close()
            if not waited:
                logger.info("waiting for another dbt build to end")
            waited = True
            wait(_POLL_SECONDS)
        yield
        _release(stack)


def _release(stack: ExitStack) -> None:
    try:
        stack.close()
    except OpsStoreError:
        # The server restarted during the build and dropped the lock with the connection: the build itself is done.
        logger.warning("the dbt build lock was lost before the build ended")


def is_building(store: OpsStore) -> bool:
    """Whether a build holds the lock at this moment, whoever started it."""
    with store.exclusive(BUILD_LOCK) as free:
        return not free
