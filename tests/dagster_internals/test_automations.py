"""What Dagster's own daemon writes of schedules and sensors, and how it reads cron."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster._time import get_current_datetime

from adinsights_orchestration.dagster_internals.automations import (
    Automation,
    Tick,
    automations,
    due_after,
    failing_since,
    newest_ticks,
)
from tests.conftest import PostgresServer, dagster_instance_on

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
CRON, BERLIN = "30 2 * * *", "Europe/Berlin"
NAME = "nightly_schedule"
MENDED = NOON + 10 * MINUTE


@dg.job
def nightly() -> None:
    """Nothing is ever to be done."""


@dg.schedule(
    name=NAME,
    job=nightly,
    cron_schedule=CRON,
    execution_timezone=BERLIN,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def skips(context: dg.ScheduleEvaluationContext) -> dg.SkipReason:
    if context.scheduled_execution_time.month == 7:
        raise RuntimeError("it is too hot")
    return dg.SkipReason("nothing to do")


@dg.sensor(name="watching", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def watching() -> dg.SkipReason:
    return dg.SkipReason("nothing to do")


@dg.sensor(name="mended", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def mended() -> dg.SkipReason:
    if get_current_datetime() < MENDED:
        raise ValueError("no such account\nnor any other")
    return dg.SkipReason("nothing to do")


defs = dg.Definitions(jobs=[nightly], schedules=[skips], sensors=[watching, mended])


class Daemon:
    """Dagster's daemon at moments that a test chooses."""

    def __init__(self, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> None:
        self.instance, self._workspace = instance, workspace

    def schedules(self, now: datetime) -> Automation:
        logger = logging.getLogger("scheduler of a test")
        list(
            launch_scheduled_runs(self._workspace, logger, end_datetime_utc=now, iteration_times={}, max_catchup_runs=1)
        )
        return automations(self.instance)[NAME]

    def watches(self, now: datetime, name: str = "watching") -> Automation:
        """An iteration of the sensor daemon."""
        with freeze_time(now):
            list(execute_sensor_iteration(self._workspace, logging.getLogger("sensors of a test"), None, None))
        return automations(self.instance)[name]


@contextmanager
def daemon_on(instance: dg.DagsterInstance) -> Iterator[Daemon]:
    target = LoadableTargetOrigin(executable_path=sys.executable, python_file=__file__, attribute="defs")
    origin = InProcessCodeLocationOrigin(target, location_name="pipelines")
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace:
        yield Daemon(instance, workspace)


def test_what_was_switched_off_and_when_a_sensor_ticked_last_is_known(postgres_server: PostgresServer) -> None:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("monitoring"), "__repository__")
    earlier = (NOON - HOUR).timestamp()
    tick = SensorInstigatorData(last_tick_timestamp=NOON.timestamp(), last_sensor_start_timestamp=earlier)
    cron = ScheduleInstigatorData(CRON, start_timestamp=earlier, last_iteration_timestamp=NOON.timestamp())
    with dagster_instance_on(postgres_server) as instance:
        assert automations(instance) == {}
        for name, kind, status, data in (
            ("health_probe", InstigatorType.SENSOR, InstigatorStatus.RUNNING, tick),
            ("alert_deliver", InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData()),
            (NAME, InstigatorType.SCHEDULE, InstigatorStatus.DECLARED_IN_CODE, cron),
        ):
            origin = RemoteInstigatorOrigin(repository, name)
            instance.add_instigator_state(InstigatorState(origin, kind, status, data))
        found = automations(instance)
        assert found == {
            "health_probe": Automation("health_probe", False, last_tick_at=NOON, started_at=NOON - HOUR),
            "alert_deliver": Automation("alert_deliver", True),
            NAME: Automation(NAME, False, started_at=NOON - HOUR, passed_at=NOON),
        }
        assert [found[name].last_sign for name in ("health_probe", "alert_deliver", NAME)] == [NOON, None, NOON]


def test_of_one_that_moved_to_another_location_the_state_with_the_later_sign_of_life_counts(
    postgres_server: PostgresServer,
) -> None:
    with dagster_instance_on(postgres_server) as instance:
        for location, at, status in (
            ("new", NOON, InstigatorStatus.RUNNING),
            ("old", NOON - HOUR, InstigatorStatus.STOPPED),
            ("unborn", None, InstigatorStatus.STOPPED),
        ):
            repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
            data = SensorInstigatorData(last_tick_timestamp=at.timestamp() if at else None)
            origin = RemoteInstigatorOrigin(repository, "health_probe")
            instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, status, data))
        assert automations(instance) == {"health_probe": Automation("health_probe", False, last_tick_at=NOON)}


@pytest.mark.parametrize(
    ("begins", "due"),
    [
        (datetime(2026, 3, 10, 12, tzinfo=UTC), datetime(2026, 3, 11, 1, 30, tzinfo=UTC)),
        (
            datetime(2026, 3, 28, 12, tzinfo=UTC),
            datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
        ),  # half past two does not exist
        (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),  # it comes twice
    ],
)
def test_a_schedule_is_due_when_dagsters_scheduler_ticks_also_when_the_clocks_change(
    postgres_server: PostgresServer, begins: datetime, due: datetime
) -> None:
    assert due_after(CRON, BERLIN, begins) == due
    with dagster_instance_on(postgres_server) as instance, daemon_on(instance) as daemon:
        one = daemon.schedules(begins)
        assert one.started_at == begins, "the daemon writes down when it saw a schedule first"
        daemon.schedules(due - MINUTE)
        assert newest_ticks(instance, [one]) == {}
        one = daemon.schedules(due + timedelta(seconds=1))
        assert newest_ticks(instance, [one]) == {NAME: Tick(due)}
        assert due_after(CRON, BERLIN, due) - due >= 23 * HOUR


def test_a_moment_at_which_the_daemon_was_down_is_ticked_for_when_it_is_back(postgres_server: PostgresServer) -> None:
    due = due_after(CRON, BERLIN, NOON)
    with dagster_instance_on(postgres_server) as instance, daemon_on(instance) as daemon:
        daemon.schedules(NOON)
        one = daemon.schedules(due + 10 * HOUR)
        assert newest_ticks(instance, [one]) == {NAME: Tick(due)}


def test_up_to_when_a_schedule_was_gone_through_is_written_down_about_once_an_hour(
    postgres_server: PostgresServer,
) -> None:
    with dagster_instance_on(postgres_server) as instance, daemon_on(instance) as daemon:
        daemon.schedules(NOON)
        assert daemon.schedules(NOON + 5 * MINUTE).passed_at == NOON
        assert daemon.schedules(NOON + 61 * MINUTE).passed_at == NOON + 61 * MINUTE


def test_a_sensors_state_says_when_the_daemon_saw_it_first_and_when_it_ticked_last(
    postgres_server: PostgresServer,
) -> None:
    with dagster_instance_on(postgres_server) as instance, daemon_on(instance) as daemon:
        one = daemon.watches(NOON)
        assert (one.started_at, one.last_tick_at, one.stopped) == (NOON, NOON, False)
        one = daemon.watches(NOON + MINUTE)
        assert (one.started_at, one.last_tick_at) == (NOON, NOON + MINUTE)


def test_a_sensor_that_raises_ticks_and_its_newest_tick_says_that_it_failed_and_with_what(
    postgres_server: PostgresServer,
) -> None:
    with dagster_instance_on(postgres_server) as instance, daemon_on(instance) as daemon:
        one = daemon.watches(NOON, "mended")
        for at in (NOON + MINUTE, NOON + 2 * MINUTE):
            one = daemon.watches(at, "mended")
            assert one.last_tick_at == at, "to Dagster it has ticked"
            everything = newest_ticks(instance, automations(instance).values())
            assert everything == {"watching": Tick(at), "mended": Tick(at, True, "ValueError: no such account")}
            assert failing_since(instance, one) == NOON
        assert (one.location, one.started_at) == ("pipelines", NOON)
        one = daemon.watches(MENDED, "mended")
        assert newest_ticks(instance, [one]) == {"mended": Tick(MENDED)}
        assert failing_since(instance, one) is None


def test_of_a_tick_that_is_under_way_or_died_with_its_daemon_the_one_before_still_speaks(
    postgres_server: PostgresServer,
) -> None:
    with dagster_instance_on(postgres_server) as instance, daemon_on(instance) as daemon:
        one = daemon.watches(NOON, "mended")
        (failed,) = instance.get_ticks("", one.selector)
        under_way = failed.tick_data.with_status(TickStatus.STARTED, error=None, timestamp=(NOON + MINUTE).timestamp())
        begun = instance.create_tick(under_way)
        assert newest_ticks(instance, [one])["mended"] == Tick(NOON, True, "ValueError: no such account")
        instance.update_tick(begun.with_status(TickStatus.SKIPPED))  # as the daemon does that finds it
        assert newest_ticks(instance, [one])["mended"] == Tick(NOON + MINUTE, True)


def test_a_schedule_that_raises_has_a_tick_for_its_moment_that_failed_however_often_it_is_tried(
    postgres_server: PostgresServer,
) -> None:
    begins = datetime(2026, 6, 30, 12, tzinfo=UTC)
    first = due_after(CRON, BERLIN, begins)
    with dagster_instance_on(postgres_server) as instance, daemon_on(instance) as daemon:
        daemon.schedules(begins)
        for later in (MINUTE, 2 * MINUTE, 24 * HOUR):
            one = daemon.schedules(first + later)
            due = first if later < HOUR else due_after(CRON, BERLIN, first)
            assert newest_ticks(instance, [one]) == {NAME: Tick(due, True, "RuntimeError: it is too hot")}
            assert failing_since(instance, one) == first
        one = daemon.schedules(datetime(2026, 8, 1, 12, tzinfo=UTC))
        assert not newest_ticks(instance, [one])[NAME].failed
        assert failing_since(instance, one) is None
