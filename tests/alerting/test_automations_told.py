"""Schedules and sensors that do not do their work, from what Dagster's storage keeps to what people are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.error import SerializableErrorInfo

from adinsights_orchestration.alerting.evaluation.incidents import new
from adinsights_orchestration.alerting.facts import Events, Facts, Halt
from adinsights_orchestration.alerting.gathering.automations import AutomationsKept, Expected, Watch, add
from adinsights_orchestration.alerting.inhibition import Graph, inhibited
from adinsights_orchestration.alerting.model import State
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules.catalog import INHIBITIONS, RULES
from adinsights_orchestration.alerting.rules.rule import judge
from adinsights_orchestration.alerting.running.alerter import expected_automations
from adinsights_orchestration.dagster_internals.automations import Tick, automations, newest_ticks
from adinsights_orchestration.health.model import Component, ComponentState, Health, Reading
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.plant import PRODUCTION, SLA, Plant
from tests.alerting.support import NOON
from tests.conftest import PostgresServer, dagster_instance_on

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
HOME = "America/Jamaica"
NIGHTLY = Expected(cron="0 3 * * *", timezone=HOME)  # 08:00 UTC
OFTEN = Expected(every=timedelta(seconds=30))
LISTENING = Watch(NOON - MINUTE, NOON - timedelta(days=400))
NIGHT = datetime(2026, 3, 11, 8, 0, tzinfo=UTC)  # the first 03:00 after NOON where home is
PLACES = Places.of(PRODUCTION, None)


class Daemon:
    """What Dagster's daemon leaves in its storage."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self._repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("pipelines"), "__repository__")

    def writes(self, name: str, expected: Expected, at: datetime, *, stopped: bool = False) -> InstigatorState:
        """The state of one that ticked then, or was gone through."""
        status = InstigatorStatus.STOPPED if stopped else InstigatorStatus.DECLARED_IN_CODE
        origin = RemoteInstigatorOrigin(self._repository, name)
        if expected.cron:
            on_since = ScheduleInstigatorData(expected.cron, at.timestamp())
            state = InstigatorState(origin, InstigatorType.SCHEDULE, status, on_since)
        else:
            ticked = SensorInstigatorData(last_tick_timestamp=at.timestamp())
            state = InstigatorState(origin, InstigatorType.SENSOR, status, ticked)
        known = self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
        (self.instance.update_instigator_state if known else self.instance.add_instigator_state)(state)
        return state

    def ticks(self, name: str, expected: Expected, at: datetime, error: str = "") -> None:
        """One ticks; a schedule's state is not written anew."""
        origin = RemoteInstigatorOrigin(self._repository, name)
        kind = InstigatorType.SCHEDULE if expected.cron else InstigatorType.SENSOR
        data = ScheduleInstigatorData(expected.cron) if expected.cron else SensorInstigatorData()
        state = InstigatorState(origin, kind, InstigatorStatus.RUNNING, data)
        if not expected.cron:
            self.writes(name, expected, at)
        self.instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name=name,
                instigator_type=kind,
                status=TickStatus.FAILURE if error else TickStatus.SKIPPED,
                timestamp=at.timestamp(),
                selector_id=state.selector_id,
                error=SerializableErrorInfo(f"{error}\n", [], "ValueError") if error else None,
            )
        )


@pytest.fixture
def daemon(postgres_server: PostgresServer) -> Iterator[Daemon]:
    with dagster_instance_on(postgres_server) as instance:
        yield Daemon(instance)


def test_a_night_that_no_schedule_began_is_paged_once_and_over_when_it_ticks(
    ops_store: OpsStore, daemon: Daemon
) -> None:
    plant, declared = Plant(ops_store, daemon.instance), expected_automations(PRODUCTION)
    for name, expected in declared.items():
        daemon.writes(name, expected, NIGHT - HOUR if name == "dbt_nightly_build" else NIGHT + 10 * HOUR)
    plant.now = NIGHT - 3 * MINUTE
    for _ in range(17):
        plant.tick()
    assert plant.shown() == {}
    plant.tick()
    text = plant.shown()["automation_stopped"]
    assert plant.now == NIGHT + 15 * MINUTE
    assert "[FIRING PAGE]" in text
    assert "dbt_nightly_build does not run" in text
    assert "It did not tick for 2026-03-11 08:00 UTC, when it was due." in text
    plant.standing = None  # another process evaluates
    assert plant.tick().changes == {}
    daemon.ticks("dbt_nightly_build", declared["dbt_nightly_build"], NIGHT)
    assert plant.tick().changes == {"resolved": 1}


def test_a_schedule_that_a_person_switches_off_is_paged_by_the_name_that_it_has_in_dagster(
    ops_store: OpsStore, daemon: Daemon
) -> None:
    plant, declared = Plant(ops_store, daemon.instance), expected_automations(PRODUCTION)
    for name, expected in declared.items():
        daemon.writes(name, expected, NOON + 10 * HOUR)
    plant.tick()
    daemon.writes("audit_log_retention_nightly", declared["audit_log_retention_nightly"], NOON, stopped=True)
    plant.tick()
    plant.tick()
    assert "audit_log_retention_nightly does not run" in plant.shown()["automation_stopped"]
    daemon.writes("audit_log_retention_nightly", declared["audit_log_retention_nightly"], NOON)
    assert plant.tick().changes == {"resolved": 1}


def test_a_sensor_whose_every_tick_fails_is_paged_with_its_error_and_over_with_the_first_good_tick(
    ops_store: OpsStore, daemon: Daemon
) -> None:
    plant, declared = Plant(ops_store, daemon.instance), expected_automations(PRODUCTION)
    for name, expected in declared.items():
        daemon.writes(name, expected, NOON + 10 * HOUR)
    observe = declared["ingestion_observe"]
    daemon.ticks("ingestion_observe", observe, NOON)
    for minute in range(1, 7):  # its first failure is a minute after noon
        error = f"ValueError: no <!channel> for token=abcdef{minute}123456 of ann@example.com"
        daemon.ticks("ingestion_observe", observe, NOON + minute * MINUTE, error)
        assert plant.shown() == {}
        plant.tick()
    text = plant.shown()["automation_failing"]
    assert "[FIRING PAGE] ingestion_observe fails whenever it ticks" in text
    assert "Every tick since 2026-03-10 12:01 UTC has failed, the last one with: ValueError: no <!channel> for" in text
    assert "123456" not in text
    assert "ann@" not in text
    assert "/locations/pipelines/sensors/ingestion_observe" in text
    assert "#a-schedule-or-sensor-fails" in text
    calls = plant.channel.calls
    daemon.ticks("ingestion_observe", observe, plant.now + MINUTE, "ValueError: another number: 7")
    plant.standing = None  # another process evaluates
    assert plant.tick().changes == {}
    assert plant.channel.calls == calls, "no message is edited for another number"
    daemon.ticks("ingestion_observe", observe, plant.now + MINUTE)
    assert plant.tick().changes == {"resolved": 1}
    assert set(plant.shown()) == {"automation_failing"}, "it ticked all the time"


def test_a_tick_that_fails_now_and_then_tells_nobody(ops_store: OpsStore, daemon: Daemon) -> None:
    plant, declared = Plant(ops_store, daemon.instance), expected_automations(PRODUCTION)
    for name, expected in declared.items():
        daemon.writes(name, expected, NOON + 10 * HOUR)
    for minute in range(1, 31):
        error = "" if minute % 5 == 0 else "ValueError: boom"
        daemon.ticks("ingestion_observe", declared["ingestion_observe"], NOON + minute * MINUTE, error)
        plant.tick()
    assert plant.shown() == {}


@pytest.mark.parametrize(
    ("component", "location", "explained"),
    [
        ("code_locations", "pipelines", True),
        ("code_locations", "monitoring", False),
        ("dagster_daemons", "monitoring", True),
    ],
)
@pytest.mark.parametrize("fails", [True, False])
def test_what_is_not_loaded_or_has_no_daemon_explains_what_does_not_tick_well(
    component: str, location: str, *, explained: bool, fails: bool
) -> None:
    health = ComponentState(Reading(Component(component), Health.DOWN, "x", "it says so", NOON), NOON, None)
    halt = Halt(NOON, "Every tick has failed.", location, fails=fails)
    events = Events(stopped={"ingestion_observe": halt})
    facts = Facts(NOON, SLA, PLACES, components={health.reading.component: health}, events=events)
    found = judge(RULES, facts).findings
    incidents = [replace(new(each, NOON), state=State.FIRING) for each in found]
    quiet = inhibited(incidents, Graph(), INHIBITIONS)
    by_rule = {each.finding.rule: each.fingerprint in quiet for each in incidents}
    assert by_rule.pop("automation_failing" if fails else "automation_stopped") is explained
    assert list(by_rule.values()) == [False]


@contextmanager
def executed() -> Iterator[list[tuple[str, Any]]]:
    """What every engine of this process executes, with parameters."""
    statements: list[tuple[str, Any]] = []

    def before(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)


def _about_ticks(statements: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [one for one in statements if "FROM job_ticks" in one[0]]


def test_all_ticks_are_read_in_one_statement_every_two_minutes_and_when_time_makes_one_news(daemon: Daemon) -> None:
    half_hourly = Expected(cron="*/30 * * * *", timezone=HOME)
    declared = {"look": half_hourly, **{f"nightly{n}": NIGHTLY for n in range(6)}}
    for name, expected in declared.items():
        daemon.writes(name, expected, NOON)
    kept, watch, asked = AutomationsKept(), LISTENING, {}
    for n in range(1, 121):  # an hour of evaluations
        now = NOON + n * MINUTE / 2
        if now in (NOON + 30 * MINUTE, NOON + 60 * MINUTE):
            daemon.ticks("look", half_hourly, now)
        with executed() as statements:
            events, watch = add(Events(), daemon.instance, declared, watch, now, kept)
        assert events.stopped == {}
        if statements:
            asked[now - NOON] = _about_ticks(statements)
    assert len(asked) <= 32
    assert {len(about) for about in asked.values()} == {1}


def test_since_when_one_fails_is_asked_for_until_it_is_told_and_then_kept(daemon: Daemon) -> None:
    daemon.writes("it", OFTEN, NOON)
    kept, watch, asked, events = AutomationsKept(), LISTENING, [], Events()
    for minute in range(1, 11):
        now = NOON + minute * MINUTE
        daemon.ticks("it", OFTEN, now, "ValueError: boom")
        with executed() as statements:
            events, watch = add(Events(), daemon.instance, {"it": OFTEN}, watch, now, kept)
        asked.append(len(_about_ticks(statements)))
    assert events.stopped["it"].at == NOON + MINUTE
    assert watch.stopped == {"it": NOON + MINUTE}
    assert asked == [2, 0, 2, 0, 2, 2, 1, 1, 1, 1]


def test_of_one_that_was_switched_on_again_only_what_it_did_since_then_counts(daemon: Daemon) -> None:
    daemon.writes("nightly", NIGHTLY, NOON - 24 * HOUR)
    daemon.ticks("nightly", NIGHTLY, NIGHT - 24 * HOUR, "ValueError: boom")
    events, _ = add(Events(), daemon.instance, {"nightly": NIGHTLY}, LISTENING, NOON, AutomationsKept())
    assert events.stopped["nightly"].fails
    daemon.writes("nightly", NIGHTLY, NOON)
    later = NOON + HOUR
    events, _ = add(Events(), daemon.instance, {"nightly": NIGHTLY}, LISTENING, later, AutomationsKept())
    assert events.stopped == {}


def test_newest_ticks_are_found_by_an_index_among_many(daemon: Daemon) -> None:
    half_hourly = Expected(cron="*/30 * * * *", timezone=HOME)
    for name in ("look", "other"):
        daemon.writes(name, half_hourly, NOON)
        daemon.ticks(name, half_hourly, NOON)
    engine = daemon.instance.schedule_storage._engine  # type: ignore[union-attr]
    columns = "job_origin_id, selector_id, status, type, tick_body"
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                f"insert into job_ticks ({columns}, timestamp) select {columns}, timestamp - n * interval '30 minutes'"
                " from job_ticks, generate_series(1, 4320) as n"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze job_ticks"))
    with executed() as statements:
        found = newest_ticks(daemon.instance, automations(daemon.instance).values())
    assert found == {"look": Tick(NOON), "other": Tick(NOON)}
    ((asked, parameters),) = _about_ticks(statements)
    with engine.begin() as connection:
        rows = connection.exec_driver_sql(f"explain (analyze, costs off, timing off) {asked}", parameters).scalars()
        plan = "\n".join(rows)
    assert "Seq Scan on job_ticks" not in plan, plan
    assert "Rows Removed by Filter" not in plan, plan
