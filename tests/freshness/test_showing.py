"""Freshness in Dagster: checks after each sync and on transitions, watermarks that tell the worst, one table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness_evaluator import FRESHNESS_EVALUATORS_BY_POLICY_TYPE
from dagster._core.events import DagsterEventType
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.test_utils import freeze_time

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.dagster_internals.events import Materialized
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness import rendering, showing
from adinsights_orchestration.freshness.automation import JOB, build_freshness, evaluate_and_show, summary
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.showing import Shown
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection, Provider, Schedule, ScheduleType
from tests.freshness.world import ACME, HOUR, MINUTE, START, World, connection

META, OTHER, GA4 = connection("meta"), connection("other"), connection("ga4", Provider.GA4)
KEY = dg.AssetKey(["airbyte", "meta"])
WATERMARK = rendering.watermark_key(Provider.META)
Show = Callable[..., Shown]


@pytest.fixture
def show(world: World, postgres_instance: dg.DagsterInstance) -> Show:
    """Lets time pass, evaluates and shows."""

    def run(after: timedelta = timedelta()) -> Shown:
        world.now += after
        return evaluate_and_show(postgres_instance, world.store, world.sla, TickClock(world.now, 40.0, lambda: 0.0))[1]

    return run


def materialize(world: World, instance: dg.DagsterInstance, of: Connection) -> None:
    """A sync that succeeded now, and Dagster was told of."""
    world.sync(of)
    key = dg.AssetKey(of.provider.asset_path)
    events.report_materializations(instance, key, [Materialized(of.partition_key, world.now, {})])


def evaluations(instance: dg.DagsterInstance, of: Connection) -> list[AssetCheckExecutionRecord]:
    """All evaluations of the connection's check, newest first."""
    check = dg.AssetCheckKey(dg.AssetKey(of.provider.asset_path), rendering.CHECK)
    records = instance.event_log_storage.get_asset_check_execution_history(check, limit=1000)
    return [record for record in records if record.partition == of.partition_key]


def is_current(instance: dg.DagsterInstance, of: Connection) -> bool:
    """Whether the newest evaluation judges the newest materialization: else the UI shows the check as cleared."""
    key = dg.AssetKey(of.provider.asset_path)
    newest = events.latest_materializations(instance, key, [of.partition_key])[of.partition_key]
    entry = evaluations(instance, of)[0].event
    assert entry is not None
    target = entry.get_dagster_event().asset_check_evaluation_data.target_materialization_data
    return target is not None and target.storage_id == newest.storage_id


def passed(instance: dg.DagsterInstance, of: Connection) -> bool:
    """The newest evaluation's verdict."""
    return bool(evaluations(instance, of)[0].status.value == "SUCCEEDED")


def watermarks(instance: dg.DagsterInstance, provider: Provider = Provider.META) -> list[datetime]:
    """The provider's watermarks in the order in which they were stored."""
    found = instance.fetch_materializations(rendering.watermark_key(provider), limit=1000, ascending=True)
    return [datetime.fromtimestamp(record.timestamp, START.tzinfo) for record in found.records]


def colour(instance: dg.DagsterInstance, world: World) -> str:
    """What Dagster's own freshness evaluation makes of Meta's watermark now."""
    settings = Settings(environment=Environment.PRODUCTION)
    node = build_freshness(settings, world.store).resolve_asset_graph().get(WATERMARK)
    evaluator = FRESHNESS_EVALUATORS_BY_POLICY_TYPE[type(node.freshness_policy)]()  # type: ignore[index]
    with freeze_time(world.now):
        return str(asyncio.run(evaluator.evaluate_freshness(LoadingContextForTest(instance), node)).value)


def test_a_connection_that_stops_turns_its_own_check_red_and_back(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META, OTHER)
    for one in (META, OTHER):
        materialize(world, postgres_instance, one)
    show()
    world.now += HOUR
    materialize(world, postgres_instance, OTHER)
    show(20 * MINUTE)
    assert (passed(postgres_instance, META), passed(postgres_instance, OTHER)) == (False, True)
    newest = evaluations(postgres_instance, META)[0].event
    assert newest is not None
    assert "stale: Last success 2026-11-23 13:00 UTC" in str(newest.dagster_event)
    materialize(world, postgres_instance, META)
    show()
    assert passed(postgres_instance, META)


def test_a_check_is_written_again_after_each_materialization_because_that_clears_it(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META)
    for _ in range(3):
        world.now += HOUR
        materialize(world, postgres_instance, META)
        assert show().checks == 1
        assert is_current(postgres_instance, META)
        assert show(MINUTE).checks == 0
    assert len(evaluations(postgres_instance, META)) == 3


def test_a_sync_that_dagster_was_not_told_of_yet_waits_for_its_materialization(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META)
    job = world.sync(META, reported=False)
    assert show().checks == 1
    events.report_materializations(postgres_instance, KEY, [Materialized(META.partition_key, world.now, {})])
    world.now += MINUTE
    world.report(job)
    assert show().checks == 1
    assert is_current(postgres_instance, META)


def test_ticks_over_idle_connections_write_no_event(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    daily = [connection(f"c{n}", schedule=Schedule(ScheduleType.CRON, cron="0 8 * * *")) for n in range(20)]
    world.serve(*daily)
    for one in daily:
        materialize(world, postgres_instance, one)
    show()
    before = postgres_instance.event_log_storage.get_maximum_record_id()
    for _ in range(20):
        assert show(timedelta(seconds=30)) == Shown()
    assert postgres_instance.event_log_storage.get_maximum_record_id() == before


def test_a_tick_that_died_before_noting_what_it_showed_shows_it_again(
    world: World, postgres_instance: dg.DagsterInstance, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(META)
    materialize(world, postgres_instance, META)
    with monkeypatch.context() as patch:
        patch.setattr(showing.kept, "mark_shown", _die)  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            show()
    assert show().checks == 1
    assert {record.status.value for record in evaluations(postgres_instance, META)} == {"SUCCEEDED"}


def _die(*_: object) -> None:
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------------------------- watermarks


def test_the_watermark_is_as_red_as_the_worst_tenant_and_recovers_with_it(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META, OTHER)
    for one in (META, OTHER):
        materialize(world, postgres_instance, one)
    show()
    assert colour(postgres_instance, world) == "PASS"
    for hour in range(1, 3):
        world.now = START + hour * HOUR
        materialize(world, postgres_instance, OTHER)  # nine of ten tenants being fresh must not hide the tenth
        show(20 * MINUTE)
        assert watermarks(postgres_instance)[-1] == START
        assert colour(postgres_instance, world) == {1: "WARN", 2: "FAIL"}[hour]
    materialize(world, postgres_instance, META)
    show()
    assert colour(postgres_instance, world) == "PASS"


def test_a_connection_that_sleeps_or_syncs_daily_does_not_turn_the_watermark_yellow(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    daily = connection("daily", schedule=Schedule(ScheduleType.CRON, cron="0 8 * * *"))
    world.serve(daily)
    materialize(world, postgres_instance, daily)
    colours = set()
    for _ in range(46):
        show(30 * MINUTE)
        colours.add(colour(postgres_instance, world))
    assert colours == {"PASS"}
    assert len(watermarks(postgres_instance)) <= 46  # a renewal each half hour, never one per tick


def test_no_watermark_is_written_by_ticks_in_between(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META)
    materialize(world, postgres_instance, META)
    show()
    assert sum(show(timedelta(seconds=30)).watermarks for _ in range(59)) == 0
    assert show(timedelta(seconds=30)).watermarks == 1


def test_a_provider_without_active_connections_has_no_watermark(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META)
    show()
    assert watermarks(postgres_instance, Provider.GA4) == []


def test_the_watermark_of_a_provider_that_was_paused_altogether_stays_green_and_says_that_nothing_is_active(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META)
    materialize(world, postgres_instance, META)
    show()
    show(90 * MINUTE)
    assert colour(postgres_instance, world) == "WARN"
    world.change(META, is_active=False)
    show(MINUTE)
    colours = [colour(postgres_instance, world)]
    for _ in range(8):
        show(30 * MINUTE)
        colours.append(colour(postgres_instance, world))
    assert set(colours) == {"PASS"}
    [newest] = postgres_instance.fetch_materializations(WATERMARK, limit=1).records
    assert newest.asset_materialization is not None
    assert newest.asset_materialization.metadata["active connections"].value == 0
    world.serve()
    show(HOUR)
    assert colour(postgres_instance, world) == "PASS", "nor does it turn red when its last connection is gone"


def test_the_watermark_is_not_green_while_a_connection_with_a_tighter_sla_is_late(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.tenants = (replace(ACME, sla={"sync_age_warn_minutes": 30}),)
    often = connection("often", schedule=Schedule(ScheduleType.INTERVAL, interval=15 * MINUTE))
    world.serve(often, OTHER)
    for one in (often, OTHER):
        materialize(world, postgres_instance, one)
    show()
    show(46 * MINUTE)
    assert (world.state(often), world.state(OTHER)) == (Freshness.STALE, Freshness.OK)
    assert colour(postgres_instance, world) == "WARN"
    before = watermarks(postgres_instance)
    show(5 * MINUTE)
    assert watermarks(postgres_instance) == before, "it stands still: an event per tick would be one too many"


def test_an_evaluation_that_stopped_lets_the_watermarks_grow_old_by_themselves(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META)
    materialize(world, postgres_instance, META)
    show()
    world.now += 121 * MINUTE
    assert colour(postgres_instance, world) == "FAIL"


# ------------------------------------------------------------------------------------------------- the table, the check


def test_the_table_counts_exactly_and_shows_the_stalest_first(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    many = [connection(f"c{n:03}") for n in range(120)]
    world.serve(GA4, *many)
    for one in many:
        world.sync(one)
    show()
    world.now += HOUR
    world.sync(GA4)
    show(20 * MINUTE)
    [record] = postgres_instance.fetch_observations(rendering.CONNECTIONS, limit=1).records
    observation = record.asset_observation
    assert observation is not None
    assert (observation.metadata["stale"].value, observation.metadata["ok"].value) == (120, 1)
    records = observation.metadata["stalest"].value.records  # type: ignore[union-attr]
    assert len(records) == rendering.TABLE_ROWS
    assert {row.data["state"] for row in records} == {"stale"}


def test_the_table_is_written_on_transitions_and_at_most_every_five_minutes(
    world: World, postgres_instance: dg.DagsterInstance, show: Show
) -> None:
    world.serve(META)
    assert show().table
    world.sync(META)
    assert not show(MINUTE).table  # pending became ok, but a table was written a minute ago
    assert show(4 * MINUTE).table
    assert not show(10 * MINUTE).table


def test_a_person_may_run_the_job_and_gets_every_partition_judged_now(
    world: World, postgres_instance: dg.DagsterInstance
) -> None:
    world.serve(META, OTHER)
    materialize(world, postgres_instance, META)
    world.now += 3 * HOUR
    told: list[dg.DagsterInstance] = []
    settings = Settings(environment=Environment.PRODUCTION)
    job = build_freshness(settings, world.store, clock=world.clock, on_news=told.append).resolve_job_def(JOB)
    result = job.execute_in_process(instance=postgres_instance)
    assert result.success
    for one in (META, OTHER):
        [evaluation] = evaluations(postgres_instance, one)
        assert (evaluation.run_id, evaluation.status.value) == (result.run_id, "FAILED")
    assert is_current(postgres_instance, META)
    assert watermarks(postgres_instance) != []
    assert len(told) == 1, "whoever is alerted need not wait for the next tick"
    again = job.execute_in_process(instance=postgres_instance)
    assert [evaluation.run_id for evaluation in evaluations(postgres_instance, META)] == [again.run_id, result.run_id]
    assert len(told) == 1


def test_a_run_of_the_job_stores_one_event_per_provider_by_itself_however_many_connections_there_are(
    world: World, postgres_instance: dg.DagsterInstance
) -> None:
    many = [connection(f"c{n:03}") for n in range(60)]
    world.serve(GA4, *many)
    world.sync(GA4)
    settings = Settings(environment=Environment.PRODUCTION)
    job = build_freshness(settings, world.store, clock=world.clock).resolve_job_def(JOB)
    result = job.execute_in_process(instance=postgres_instance)
    said = {each.asset_key.path[-1]: (each.partition, each.passed) for each in result.get_asset_check_evaluations()}
    assert said == {provider.value: (None, True) for provider in Provider}
    described = {each.asset_key.path[-1]: each.description for each in result.get_asset_check_evaluations()}
    assert (described["meta"], described["ga4"]) == ("60 pending", "1 ok")
    assert described["tiktok_ads"] == "It has no connections."
    check = dg.AssetCheckKey(KEY, rendering.CHECK)
    records = postgres_instance.event_log_storage.get_asset_check_execution_history(check, limit=1000)
    assert {record.partition for record in records} == {None, *(one.partition_key for one in many)}
    assert {record.status.value for record in records} == {"SUCCEEDED"}, "none stays planned"


def test_the_tick_says_what_became_of_whom(world: World, postgres_instance: dg.DagsterInstance) -> None:
    world.serve(META, OTHER)
    world.sync(META)
    evaluation, shown = evaluate_and_show(
        postgres_instance, world.store, world.sla, TickClock(world.now, 40.0, lambda: 0.0)
    )
    assert summary(evaluation, shown) == "1 became ok, 1 became pending, 2 evaluated, 2 checks written, 1 watermarks"
    assert {each.after.verdict.state for each in evaluation.transitions} == {Freshness.OK, Freshness.PENDING}


def test_the_sensor_calls_at_once_whoever_wants_to_know_of_news_and_of_nothing_else(
    world: World, postgres_instance: dg.DagsterInstance
) -> None:
    called: list[dg.DagsterInstance] = []
    settings = Settings(environment=Environment.PRODUCTION)
    built = build_freshness(settings, world.store, clock=world.clock, on_news=called.append)
    (sensor,) = built.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)

    def calls(after: timedelta = MINUTE) -> int:
        world.now += after
        called.clear()
        sensor(dg.build_sensor_context(instance=postgres_instance))
        return len(called)

    world.serve(META)
    world.sync(META)
    assert (calls(), calls()) == (1, 0), "it became ok, and stays so"
    world.sync(META)
    assert calls() == 0, "another success is no news"
    world.sync(META, "failed")
    assert (calls(), calls()) == (1, 0), "it is failing, and stays so"
    world.sync(META, "failed")
    assert calls() == 1, "a second failure in a row may be worth more than the first"
    world.sync(META)
    assert calls() == 1


def test_events_stay_proportional_to_syncs(world: World, postgres_instance: dg.DagsterInstance, show: Show) -> None:
    world.serve(META)
    for _ in range(6):
        world.now += HOUR
        materialize(world, postgres_instance, META)
        for _ in range(10):
            show(timedelta(seconds=30))
    kinds = postgres_instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(DagsterEventType.ASSET_MATERIALIZATION, asset_key=WATERMARK)
    )
    assert len(evaluations(postgres_instance, META)) == 6
    assert len(kinds) <= 6
