"""Airbyte's own schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from adinsights_orchestration.local.airbyte.model import AirbyteSchedule, ConfigType, ConnectionStatus
from adinsights_orchestration.local.airbyte.scheduler import next_run, run_schedules
from adinsights_orchestration.local.airbyte.simulated import SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from tests.local.airbyte_support import SYNC_TIME, ManualClock, add_connection, add_workspace

HOURLY = AirbyteSchedule("basic", units=1, time_unit="hours")
MORNING = AirbyteSchedule("cron", cron_expression="0 0 6 * * ?", cron_timezone="America/Jamaica")


def world_with(*schedules: AirbyteSchedule) -> tuple[AirbyteWorld, ManualClock]:
    clock = ManualClock()
    world = AirbyteWorld(clock=clock)
    workspace = add_workspace(world)
    for schedule in schedules:
        add_connection(world, workspace, schedule=schedule)
    SimulatedExecutor(world, steady(SYNC_TIME))
    return world, clock


def test_an_interval_starts_at_once_and_then_in_its_rhythm() -> None:
    world, clock = world_with(HOURLY)
    starts = []
    for minute in range(0, 150, 10):
        if run_schedules(world, clock()):
            starts.append(minute)
        clock.advance(600)
    assert starts == [0, 60, 120]


def test_cron_means_its_own_timezone() -> None:
    after = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert next_run(MORNING, after) == datetime(2026, 7, 2, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    "schedule", [AirbyteSchedule(), AirbyteSchedule("cron", cron_expression="every noon", cron_timezone="UTC")]
)
def test_manual_and_unreadable_schedules_are_never_due(schedule: AirbyteSchedule) -> None:
    world, clock = world_with(schedule)
    clock.advance(timedelta(days=30).total_seconds())
    assert run_schedules(world, clock()) == []


def test_a_running_sync_is_not_started_again_and_an_inactive_connection_never() -> None:
    world, clock = world_with(HOURLY)
    connection = world.resources.connections()[0]
    world.start(connection.id, ConfigType.SYNC)
    assert run_schedules(world, clock() + timedelta(hours=5)) == []
    clock.advance(31)
    world.settle()
    object.__setattr__(connection, "status", ConnectionStatus.INACTIVE)
    assert run_schedules(world, clock() + timedelta(hours=5)) == []
