"""One dbt build from start to end: alone, in a folder of its own, recorded and published whatever happens to it.

Belongs here: the order of things around a dbt process that writes to the warehouse. Does not belong here: Dagster
(the `adinsights dbt build` command runs the same builds without it) and when to build (`refresh`). Builds go one at a
time: two incremental builds of one table would each delete what they saw and insert, and leave rows twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import AdinsightsError
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
from adinsights_orchestration.transformation.full_refresh import refuse_losses
from adinsights_orchestration.transformation.invocations import Ended, held, record_end, record_start
from adinsights_orchestration.transformation.isolation import second_pass
from adinsights_orchestration.transformation.process import DbtError, DbtProcess, Event
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.publishing import publish
from adinsights_orchestration.transformation.run_results import Artifact, read_artifact
from adinsights_orchestration.transformation.targets import MAKE_ROOM, Targets
from adinsights_orchestration.transformation.turn import BUILD_LOCK, PACE, Pace, Turn
from adinsights_orchestration.transformation.warehouse import end_leftovers, missing_tables

_TO_ITS_END = (0, 1)  # exit codes of a dbt that came to its own end
_NAMED = 5  # how many failed nodes an error names

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a build.

    Args:
        name: What started it; names its target folder.
        run_id: The Dagster run, or what else to record.
        command: What dbt shall do; the providers that take part are added here.
        newest: Reads how far each provider's data has come (`newest`); called after the wait for other builds
            and before dbt starts, so that whatever is reported later is not taken for built.
        let_go: Providers whose rows a full refresh may drop, where it goes without them.
    """

    name: str
    run_id: str
    command: Command = field(default_factory=lambda: Command(("build",)))
    newest: Callable[[], Mapping[Provider, int]] = dict
    let_go: frozenset[Provider] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a build.

    Args:
        completed: dbt came to its own end.
        succeeded: Nothing failed.
        artifacts: The results of each pass.
        errors: dbt's own error messages.
        target: The folder of the last pass.
        missing: Raw tables that do not exist; their providers were left out.
        failing: Providers that failed by themselves and were left out of a second pass.
        unwritable: Why dbt could not write into its folder; None when it could.
        full_refresh: Whether it was to rebuild incremental models; a second pass does not.
    """

    completed: bool
    succeeded: bool
    artifacts: tuple[Artifact, ...]
    errors: tuple[str, ...]
    target: Path
    missing: Mapping[Provider, tuple[str, ...]]
    failing: tuple[Provider, ...] = ()
    unwritable: str | None = None
    full_refresh: bool = False

    @property
    def failed_nodes(self) -> tuple[str, ...]:
        """Nodes that could not be built in any pass, by name."""
        built = {node for artifact in self.artifacts for node in artifact.built}
        return tuple(sorted({node for artifact in self.artifacts for node in artifact.failed_nodes} - built))

    @property
    def failed_tests(self) -> tuple[str, ...]:
        """Tests that failed in any pass, by name."""
        return tuple(sorted({test for artifact in self.artifacts for test in artifact.failed_tests}))

    def error(self) -> DbtError | None:
        """What to raise; None for a build that succeeded."""
        if self.succeeded:
            return None
        see = f"dbt's log and compiled SQL are in {self.target}."
        if self.unwritable is not None:
            what = "failed" if self.completed else "was not carried out"
            problem = f"the dbt build {what}: dbt could not write into its folder ({self.unwritable})"
            return DbtError(problem, place=str(self.target), next_step=MAKE_ROOM)
        if not self.completed:
            reason = self.errors[-1].strip() if self.errors else "it was stopped"
            return DbtError(f"the dbt build was not carried out: {reason}", next_step=see)
        failed = [*self.failed_nodes, *self.failed_tests]
        named = ", ".join(failed[:_NAMED]) + (f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")
        return DbtError(f"dbt failed: {named or 'a hook'}.{self._without()}", next_step=see)

    def _without(self) -> str:
        if not self.failing:
            return ""
        kept = " as it stood, not from nothing: ask for the full refresh again" if self.full_refresh else ""
        return f" The rest was built without {', '.join(p.label for p in self.failing)}{kept}."


@dataclass(frozen=True, slots=True)
class _Pass:
    """One dbt process of a build."""

    command: Command
    left_out: frozenset[Provider] = frozenset()
    built_before: frozenset[str] = frozenset()
    after_failure: bool = False  # the rest of a build of which something failed: it does not make it a success


class Build:
    """One build; read `events` to its end, then look at `outcome`.

    Args:
        settings: Where the project, the warehouse and the published file are.
        store: The ops store.
        project: The dbt project.
        request: What to build.
        clock: The time.
        wait: Sleeps between two looks at whether another build has ended, for so many seconds.
        pace: How long taking and keeping the build lock may take.
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
        pace: Pace = PACE,
    ) -> None:
        self._settings, self._store, self._project = settings, store, project
        self._request = request
        self._clock = clock
        self._turn = Turn(store, request.run_id, wait, pace)
        self._targets = Targets(settings.dbt.project_dir)
        self._newest: Mapping[Provider, int] = {}
        self._missing: Mapping[Provider, tuple[str, ...]] = {}
        self.outcome: Outcome | None = None

    def events(self) -> Generator[Event, None, None]:
        """Runs the build and yields dbt's events as they come.

        When it ends, however it ends, it is recorded, and the run results are published. Stopping to read stops dbt.

        Raises:
            WarehouseError: The warehouse does not answer; nothing was started.
            FullRefreshError: It would drop a provider's rows; nothing was started.
            TargetError: dbt's folder cannot be made; this pass was not started.
            OpsStoreError: The ops store does not answer; nothing was started, or what was done could not be recorded.
            PublishError: The results are recorded, but the published file could not be replaced.
            TurnLostError: The build lock was lost with its session and not had back in time; dbt was stopped.
        """
        with self._turn:
            self._targets.prune(self._clock(), timedelta(hours=self._settings.dbt.keep_target_hours))
            self._turn.begin()
            if left := end_leftovers(self._settings, self._request.command):
                logger.warning("ended statements that a build before this one left at work", statements=left)
            first = self._first_pass()
            outcome = yield from self._carry_out(first)
            second = self._second_pass(first, outcome)
            if second is not None:
                outcome = _together(outcome, (yield from self._carry_out(second)), second.left_out)
            self.outcome = outcome
            self._publish()

    def run(self) -> Outcome:
        """Runs the build to its end."""
        for _event in self.events():
            pass
        assert self.outcome is not None
        return self.outcome

    def _first_pass(self) -> _Pass:
        self._missing = missing_tables(self._settings, self._project)
        for provider, tables in self._missing.items():
            logger.warning("provider left out: raw tables do not exist yet", provider=str(provider), tables=tables)
        refuse_losses(
            self._project,
            self._request.command,
            held(self._store),
            self._settings.dbt.enabled_providers,
            self._missing,
            self._request.let_go,
        )
        self._newest = dict(self._request.newest())
        left_out = frozenset(self._missing)
        return _Pass(self._without(self._request.command, left_out), left_out)

    def _second_pass(self, first: _Pass, outcome: Outcome) -> _Pass | None:
        # With tests selected by name somebody wants exactly these nodes and tests.
        if outcome.succeeded or not outcome.completed or outcome.unwritable or first.command.direct_tests_only:
            return None
        [artifact] = outcome.artifacts
        again = second_pass(self._project, artifact, first.left_out)
        if again is None:
            return None
        names = tuple(sorted(self._project.fqns[node] for node in again.nodes))
        logger.warning("building again without the providers that failed", without=sorted(map(str, again.without)))
        # Not from nothing, whatever was asked for: the shared models would lose the rows of who is left out.
        rest = replace(first.command, select=names, full_refresh=False)
        command = self._without(rest, again.without)
        return _Pass(command, again.without, artifact.built, after_failure=True)

    def _without(self, command: Command, left_out: Set[Provider]) -> Command:
        ready = [provider for provider in self._settings.dbt.enabled_providers if provider not in left_out]
        return replace(command, providers=providers_argument(default_providers(self._settings.dbt.project_dir), ready))

    def _carry_out(self, one: _Pass) -> Generator[Event, None, Outcome]:
        self._turn.check()
        name = f"{self._request.name}-{self._request.run_id[:8]}"
        with self._targets.fresh(name, parse_key(self._settings, one.command)) as folder:
            process = DbtProcess(self._settings, one.command, folder)
            begun: _Begun | None = None
            try:
                with self._turn.guarding(process.interrupt):
                    for event in process.events():
                        begun = begun or self._begin(event, one.command)
                        yield event
                if process.exit_code not in _TO_ITS_END:
                    self._turn.check()
            except BaseException:
                process.stop()
                self._end_quietly(process, one, folder, begun)
                raise
            return self._end(process, one, folder, begun, came_to_end=True)

    def _begin(self, event: Event, command: Command) -> _Begun:
        begun = _Begun(str(event["info"]["invocation_id"]), self._clock())
        record_start(
            self._store, begun.invocation_id, self._request.run_id, str(command), command.full_refresh, begun.at
        )
        return begun

    def _end_quietly(self, process: DbtProcess, one: _Pass, folder: Path, begun: _Begun | None) -> None:
        """Records an interrupted build; the interruption is the error that matters."""
        try:
            self._end(process, one, folder, begun, came_to_end=False)
            self._publish()
        except AdinsightsError:
            logger.exception("an interrupted build could not be recorded")

    def _end(
        self, process: DbtProcess, one: _Pass, folder: Path, begun: _Begun | None, *, came_to_end: bool
    ) -> Outcome:
        artifact = read_artifact(folder)
        completed = came_to_end and artifact is not None and process.exit_code in _TO_ITS_END
        succeeded = completed and process.exit_code == 0 and not one.after_failure
        if begun is not None:
            ended = Ended(
                begun.invocation_id,
                self._request.run_id,
                str(one.command),
                one.command.full_refresh,
                begun.at,
                self._clock(),
                completed,
                succeeded,
                artifact,
                self._covered(one, artifact, folder) if completed and artifact else {},
            )
            record_end(self._store, ended, self._project.nodes.keys())
        artifacts = (artifact,) if artifact else ()
        return Outcome(
            completed,
            succeeded,
            artifacts,
            tuple(process.errors),
            folder,
            self._missing,
            unwritable=process.unwritable,
            full_refresh=self._request.command.full_refresh,
        )

    def _covered(self, one: _Pass, artifact: Artifact, folder: Path) -> dict[Provider, int]:
        """The providers whose nodes this build built, all of them."""
        existing = _nodes_of(folder) if one.left_out else self._project.nodes.keys()
        built = artifact.built | one.built_before
        return {
            provider: storage_id
            for provider, storage_id in self._newest.items()
            if provider not in one.left_out and self._project.downstream_of((provider,)) & existing <= built
        }

    def _publish(self) -> None:
        publish(self._store, self._settings.dbt.run_results_path, self._project.nodes.keys())


@dataclass(frozen=True, slots=True)
class _Begun:
    invocation_id: str
    at: datetime


def _together(first: Outcome, second: Outcome, left_out: Set[Provider]) -> Outcome:
    """A build of two passes; it failed, or there would have been no second one."""
    return replace(
        second,
        completed=first.completed and second.completed,
        succeeded=False,
        artifacts=first.artifacts + second.artifacts,
        errors=first.errors + second.errors,
        failing=tuple(provider for provider in Provider if provider in left_out - first.missing.keys()),
    )


def _nodes_of(folder: Path) -> Set[str]:
    """The nodes that existed for one dbt process: without a provider, those that need it are not there."""
    nodes: Mapping[str, object] = json.loads((folder / "manifest.json").read_bytes())["nodes"]
    return nodes.keys()


def is_building(store: OpsStore) -> bool:
    """Whether a build holds the lock at this moment, whoever started it."""
    return bool(store.held([BUILD_LOCK]))
