"""Where connections sync once a night, the night is what is expected of them, whatever their own schedules say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.automation import build_freshness
from adinsights_orchestration.freshness.evaluate import Rules
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Driver, IngestionSettings, Settings
from adinsights_orchestration.tenants.model import Schedule, ScheduleType
from adinsights_orchestration.tenants.nights import nightly
from tests.freshness.world import HOUR, HOURLY, MINUTE, WORKDAY, World, connection

STAGING = Settings(environment=Environment.STAGING)
NIGHT = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)  # 01:00 in Jamaica, the home timezone
DAY = timedelta(days=1)


@pytest.fixture
def world(ops_store: OpsStore) -> World:
    """Staging, at the moment of a night."""
    return World(ops_store, now=NIGHT, sla=load_sla(Environment.STAGING), nights=nightly(STAGING))


@pytest.mark.parametrize("schedule", [WORKDAY, HOURLY], ids=["6-22", "hourly"])
def test_a_connection_that_syncs_by_day_is_not_late_all_day_where_only_the_night_syncs(
    world: World, schedule: Schedule
) -> None:
    one = connection("meta-ads", schedule=schedule)
    world.serve(one)
    world.now += 10 * MINUTE
    world.sync(one)
    for _ in range(24):  # until 01:10 of the next night
        assert world.evaluate(HOUR).transitions == () or world.now < NIGHT + 2 * HOUR
        assert world.state(one) is Freshness.OK, world.now
    world.sync(one)
    world.evaluate()
    assert world.state(one) is Freshness.OK


def test_a_night_that_brought_nothing_is_late_once_its_pipeline_should_be_through(world: World) -> None:
    one, never = connection("meta-ads"), connection("never")
    world.serve(one, never, seen_at=NIGHT - 12 * HOUR)
    world.sync(one, ended=NIGHT - DAY + 10 * MINUTE)
    world.evaluate(4 * HOUR + 50 * MINUTE)  # 05:50: many connections share a few places, and one may be the last
    assert (world.state(one), world.state(never)) == (Freshness.OK, Freshness.PENDING)
    world.evaluate(25 * MINUTE)  # 06:15
    assert (world.state(one), world.state(never)) == (Freshness.STALE, Freshness.NO_RECENT_SYNC)
    assert "0 1 * * *" in world.states()[one.partition_key].verdict.detail


def test_what_nobody_syncs_by_night_is_expected_as_ever(world: World) -> None:
    manual = connection("by-hand", schedule=Schedule(ScheduleType.MANUAL))
    paused = replace(connection("paused"), is_active=False)
    world.serve(manual, paused)
    world.evaluate(3 * DAY)
    assert (world.state(manual), world.state(paused)) == (Freshness.MANUAL, Freshness.PAUSED)


def test_there_are_nights_only_where_we_plan_them() -> None:
    external = STAGING.model_copy(update={"ingestion": IngestionSettings(driver=Driver.EXTERNAL)})
    assert nightly(STAGING) is not None
    assert nightly(external) is None
    assert [nightly(Settings(environment=each)) for each in (Environment.LOCAL, Environment.PRODUCTION)] == [None] * 2


def test_a_night_has_until_the_pipeline_is_to_be_through() -> None:
    sla = load_sla(Environment.STAGING)
    assert Rules.of(sla, nightly(STAGING)).grace == 5 * HOUR
    assert Rules.of(sla).grace == 15 * MINUTE


def test_staging_s_own_sensor_expects_the_night(world: World, postgres_instance: dg.DagsterInstance) -> None:
    one = connection("meta-ads")
    world.serve(one)
    world.sync(one, ended=NIGHT + 10 * MINUTE)
    world.now = NIGHT + 12 * HOUR
    for environment, cron in ((Environment.STAGING, "0 1 * * *"), (Environment.PRODUCTION, "0 6-22 * * *")):
        definitions = build_freshness(Settings(environment=environment), world.store, clock=world.clock)
        with dg.build_sensor_context(instance=postgres_instance) as context:
            definitions.resolve_sensor_def("freshness_evaluate").evaluate_tick(context)
        assert f"|{cron}|" in world.states()[one.partition_key].expectation
        world.now += MINUTE
