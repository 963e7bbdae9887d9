"""Dagster's own run queue, configured by our `dagster.yaml`, runs as many at once as the table of automations says.

Runs are asked for as the UI does, over GraphQL, of the real location. Only starting a process is left out: what the
queue lets through stays "starting" until a test ends it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import instance_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

from adinsights_orchestration.build import build_pipelines
from adinsights_orchestration.cli.runs import _LAUNCH
from adinsights_orchestration.environments import UNATTENDED, Automation, Environment
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation import manifest

CONFIGURED = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text(encoding="utf-8"))
MOCKED = {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"}
ACTIVE = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)


@pytest.fixture(scope="module", autouse=True)
def prepared_manifest() -> None:
    """As an image has it: staging and production never parse the project."""
    manifest.prepare(Settings())


@dataclass
class Queue:
    """A run queue, and everybody who puts runs into it."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext
    daemon: QueuedRunCoordinatorDaemon
    first: dict[str, dg.DagsterRun] = field(default_factory=dict)

    def ask(self, job: str, *, schedule: str = "", config: Mapping[str, object] | None = None) -> str:
        """Asks for a run as a person does in the UI, or as a schedule does, whose runs carry its name.

        What Dagster makes of a job is the same each time, and takes seconds for a job of all models; so a second run
        of a job is a copy of its first.
        """
        tags = {"dagster/schedule_name": schedule} if schedule else {}
        if job not in self.first:
            run_id = self._launch(job, tags, config or {})
            run = self.instance.get_run_by_id(run_id)
            assert run is not None
            self.first[job] = run.with_tags({name: run.tags[name] for name in run.tags.keys() - tags.keys()})
            return run_id
        first = self.first[job]
        again = first._replace(
            run_id=make_new_run_id(), status=dg.DagsterRunStatus.NOT_STARTED, tags={**first.tags, **tags}
        )
        self.instance.add_run(again)
        self.instance.submit_run(again.run_id, self.workspace.create_request_context())
        return again.run_id

    def _launch(self, job: str, tags: Mapping[str, str], config: Mapping[str, object]) -> str:
        execution = {
            "selector": {
                "repositoryLocationName": "pipelines",
                "repositoryName": "__repository__",
                "jobName": job,
            },
            "runConfigData": config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        context = self.workspace.create_request_context()
        launched = execute_dagster_graphql(context, _LAUNCH, variables={"execution": execution}).data["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def turn(self) -> None:
        """One look of the daemon that starts what may start."""
        for _ in self.daemon.run_iteration(self.workspace):
            pass

    def running(self, *jobs: str) -> list[str]:
        """The runs of these jobs that are under way."""
        found = self.instance.get_runs(dg.RunsFilter(statuses=list(ACTIVE)))
        return [run.run_id for run in found if run.job_name in jobs]

    def end(self, run_id: str) -> None:
        """A run is over, however it went."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        self.instance.report_run_failed(run)


@contextmanager
def a_queue(environment: Environment) -> Iterator[Queue]:
    """The queue of our `dagster.yaml` with nothing in it, beside the environment's location."""
    origin = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="tests.environments.location", attribute=environment.value
    )
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(origin, location_name="pipelines"))
    overrides = {name: CONFIGURED[name] for name in ("run_coordinator", "concurrency")} | {"run_launcher": MOCKED}
    with (
        instance_for_test(overrides={**overrides, "telemetry": {"enabled": False}}) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
        QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon,
    ):
        yield Queue(instance, workspace, daemon)


@pytest.fixture(scope="module")
def queues(prepared_manifest: None) -> Iterator[Callable[[Environment], Queue]]:
    """The queue of an environment: loading its location takes seconds, so all tests have the same one."""
    with ExitStack() as stack:
        yield cache(lambda environment: stack.enter_context(a_queue(environment)))


@pytest.fixture
def queue_of(queues: Callable[[Environment], Queue]) -> Iterator[Callable[[Environment], Queue]]:
    """The queue of an environment, empty; whatever a test asked for is over afterwards."""
    used: list[Queue] = []

    def found(environment: Environment) -> Queue:
        used.append(queues(environment))
        return used[-1]

    yield found
    for queue in used:
        for run in queue.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, *ACTIVE])):
            queue.end(run.run_id)


@cache
def job_names(environment: Environment) -> frozenset[str]:
    repository = build_pipelines(Settings(environment=environment)).get_repository_def()
    return frozenset(job.name for job in repository.get_all_jobs())


def with_a_job(environment: Environment) -> dict[str, int]:
    """The jobs that the environment's automations run, and how many runs of each at once."""
    table = UNATTENDED[environment]
    return {
        automation.value: one.at_once or 0 for automation, one in table.items() if automation in job_names(environment)
    }


# The queue's rules are the same everywhere; where fewer jobs have a number, fewer are looked at.
_MOST_JOBS_FIRST = [
    Environment.PRODUCTION,
    *(pytest.param(one, marks=pytest.mark.soak) for one in (Environment.STAGING, Environment.LOCAL)),
]


@pytest.mark.parametrize("environment", _MOST_JOBS_FIRST)
def test_no_more_runs_of_an_automations_job_go_on_at_once_than_the_table_says_whoever_asked_for_them(
    environment: Environment, queue_of: Callable[[Environment], Queue]
) -> None:
    jobs = with_a_job(environment)
    assert {Automation.PRUNE, Automation.DBT_FRESHNESS, Automation.DBT_NIGHTLY} <= jobs.keys()
    queue = queue_of(environment)
    for job, at_once in jobs.items():
        asked = [queue.ask(job, schedule=f"{job}_schedule"), *(queue.ask(job) for _ in range(at_once))]
        for left in range(len(asked), 0, -1):
            queue.turn()
            running = queue.running(job)
            assert len(running) == min(at_once, left), job
            queue.end(running[0])


@pytest.mark.parametrize("environment", _MOST_JOBS_FIRST)
def test_builds_are_one_at_a_time_whichever_of_the_jobs_they_belong_to(
    environment: Environment, queue_of: Callable[[Environment], Queue]
) -> None:
    builds = sorted(job_names(environment) & {"dbt_refresh", "dbt_nightly", "dbt_build"})
    queue = queue_of(environment)
    for job in builds:
        queue.ask(job)
    queue.turn()
    assert len(queue.running(*builds)) == 1


def test_one_automation_that_waits_keeps_no_other_waiting(queue_of: Callable[[Environment], Queue]) -> None:
    queue = queue_of(Environment.PRODUCTION)
    jobs = [Automation.PRUNE.value, Automation.DBT_NIGHTLY.value, Automation.DBT_FRESHNESS.value]
    for job in jobs * 2:
        queue.ask(job)
    queue.turn()
    assert [len(queue.running(job)) for job in jobs] == [1, 1, 1]


def test_repairs_of_many_connections_leave_room_in_the_queue(queue_of: Callable[[Environment], Queue]) -> None:
    queue = queue_of(Environment.PRODUCTION)
    for job, op in (("refresh_connection", "refresh"), ("clear_connection", "clear")):
        for _ in range(2):
            queue.ask(job, config={"ops": {op: {"config": {"partition": "acme/meta-1"}}}})
    queue.ask(Automation.DBT_NIGHTLY.value)
    queue.turn()
    assert len(queue.running("refresh_connection", "clear_connection")) == 2
    assert len(queue.running(Automation.DBT_NIGHTLY.value)) == 1


def test_runs_that_no_number_bounds_go_on_side_by_side(queue_of: Callable[[Environment], Queue]) -> None:
    """So that the tests above see the bound at work, and not a queue that is slow."""
    queue = queue_of(Environment.PRODUCTION)
    for _ in range(2):
        queue.ask("sync_connections")
    queue.turn()
    assert len(queue.running("sync_connections")) == 2
