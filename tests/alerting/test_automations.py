"""Schedules and sensors that stopped ticking, or never did: found in time, and not before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.alerting.facts import Events
from adinsights_orchestration.alerting.gathering.automations import AutomationsKept, Expected, Watch, add, judge
from adinsights_orchestration.alerting.running.alerter import expected_automations
from adinsights_orchestration.dagster_internals.automations import Automation, automations, last_tick
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.plant import PRODUCTION, Plant
from tests.alerting.support import NOON
from tests.conftest import PostgresServer, dagster_instance_on

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
HOME = "America/Jamaica"
NIGHTLY = Expected(cron="0 3 * * *", timezone=HOME)  # 08:00 UTC
MONTHLY = Expected(cron="0 7 9 * *", timezone=HOME)
OFTEN = Expected(every=timedelta(seconds=30))
LISTENING = Watch(NOON - MINUTE, NOON - timedelta(days=400))
NIGHT = datetime(2026, 3, 11, 8, 0, tzinfo=UTC)  # the first 03:00 after NOON where home is
ALIVE = Automation("alert_evaluate", False, last_tick_at=NOON)


def off_at(
    now: datetime, one: Automation | None, expected: Expected, watch: Watch = LISTENING, name: str = "it"
) -> Mapping[str, str]:
    """What is said of one automation, beside another one that ticks."""
    found = {"alert_evaluate": replace(ALIVE, last_tick_at=now)} | ({name: one} if one else {})
    failures, _, _ = judge(found, {name: expected}, watch, now)
    return {name: failure.detail for name, failure in failures.items()}


def on(at: datetime, *, passed_at: datetime | None = None, last_tick_at: datetime | None = None) -> Automation:
    return Automation("it", False, last_tick_at, at, passed_at)


def test_a_daily_schedule_is_missed_a_quarter_of_an_hour_after_its_time_and_not_before_the_first_one() -> None:
    fresh = on(NOON)
    assert off_at(NIGHT - MINUTE, fresh, NIGHTLY) == off_at(NIGHT + 14 * MINUTE, fresh, NIGHTLY) == {}
    assert off_at(NIGHT + 15 * MINUTE, fresh, NIGHTLY) == {
        "it": "It did not tick for 2026-03-11 08:00 UTC, when it was due."
    }
    ticked = replace(fresh, last_tick_at=NIGHT)
    assert off_at(NIGHT + 15 * MINUTE, ticked, NIGHTLY) == {}
    assert off_at(NIGHT + 24 * HOUR + 14 * MINUTE, ticked, NIGHTLY) == {}
    assert off_at(NIGHT + 24 * HOUR + 15 * MINUTE, ticked, NIGHTLY) != {}


def test_a_monthly_schedule_is_not_missed_for_a_month() -> None:
    due = datetime(2026, 4, 9, 12, 0, tzinfo=UTC)
    assert off_at(due + 14 * MINUTE, on(NOON), MONTHLY) == {}
    assert off_at(due + 15 * MINUTE, on(NOON), MONTHLY) != {}


def test_where_the_clocks_change_a_night_is_neither_missed_early_nor_late() -> None:
    berlin = Expected(cron="30 2 * * *", timezone="Europe/Berlin")
    for begins, due in (
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ):
        assert off_at(due + 14 * MINUTE, on(begins), berlin) == {}
        assert off_at(due + 15 * MINUTE, on(begins), berlin) != {}


def test_a_schedule_that_the_scheduler_has_gone_through_is_not_missed_for_what_its_new_cron_would_have_asked() -> None:
    deployed_later = on(NOON - 48 * HOUR, passed_at=NIGHT + 2 * HOUR)
    assert off_at(NIGHT + 3 * HOUR, deployed_later, NIGHTLY) == {}


def test_what_was_switched_on_a_minute_ago_has_its_time_to_tick() -> None:
    later = NOON + 30 * HOUR
    again = Automation("it", False, last_tick_at=NOON, started_at=later - MINUTE)
    assert off_at(later, again, OFTEN) == {}
    assert off_at(later + 4 * MINUTE, again, OFTEN) == {"it": "It ticked last at 2026-03-10 12:00 UTC."}
    assert off_at(NIGHT + 4 * HOUR, on(NIGHT + HOUR), NIGHTLY) == {}, "its night was over by then"


def test_a_sensor_that_is_on_and_never_ticks_is_found_and_a_slow_one_has_four_intervals() -> None:
    assert off_at(NOON + 4 * MINUTE, on(NOON), OFTEN) == {}
    assert off_at(NOON + 5 * MINUTE, on(NOON), OFTEN) == {"it": "It has never ticked."}
    slow = Expected(every=15 * MINUTE)
    assert off_at(NOON + 59 * MINUTE, on(NOON), slow) == {}
    assert off_at(NOON + 60 * MINUTE, on(NOON), slow) != {}


@pytest.mark.parametrize("one", [None, Automation("it", False)])
@pytest.mark.parametrize("expected", [OFTEN, NIGHTLY, MONTHLY])
def test_what_dagster_keeps_nothing_of_is_found_a_quarter_of_an_hour_after_it_was_first_looked_for(
    one: Automation | None, expected: Expected
) -> None:
    found = {"alert_evaluate": ALIVE} | ({"it": one} if one else {})
    watch, said = LISTENING, []
    for minute in range(20):
        now = NOON + minute * MINUTE
        failures, watch, until = judge(found, {"it": expected}, watch.at(now), now)
        said.append(failures.get("it"))
        assert until <= now + 2 * MINUTE
    assert said[:15] == [None] * 15
    assert all(failure is not None and failure.at == NOON for failure in said[15:])
    failures, watch, _ = judge({**found, "it": on(NOON + 20 * MINUTE)}, {"it": expected}, watch, NOON + 20 * MINUTE)
    assert (failures, watch.unseen, watch.stopped) == ({}, {}, {})


def test_where_dagster_knows_of_nothing_no_daemon_runs_and_nothing_is_missed() -> None:
    failures, watch, _ = judge({}, {"it": OFTEN, "nightly": NIGHTLY}, LISTENING, NOON + 24 * HOUR)
    assert (failures, watch.unseen) == ({}, {})


def test_after_a_pause_of_evaluations_everything_has_its_time_before_it_is_called_silent() -> None:
    back = NIGHT + 30 * MINUTE  # the daemon was down from before the night's schedule until after it
    watch = Watch(NIGHT - HOUR, NOON - HOUR).at(back)
    assert off_at(back, on(NIGHT - HOUR, last_tick_at=NIGHT - HOUR), OFTEN, watch) == {}
    assert off_at(back, on(NOON), NIGHTLY, watch) == {}
    assert off_at(back + 5 * MINUTE, on(NIGHT - HOUR), OFTEN, watch) != {}
    assert off_at(back + 14 * MINUTE, on(NOON), NIGHTLY, watch) == {}
    assert off_at(back + 15 * MINUTE, on(NOON), NIGHTLY, watch) != {}
    assert watch.at(back + MINUTE).listening_since == back
    assert watch.at(back - MINUTE).listening_since == back - MINUTE, "a clock that was set back is a pause"


def test_what_was_found_before_a_pause_stays_found_until_it_ticks() -> None:
    told = Watch(NOON, NOON - HOUR, stopped={"it": NOON - 20 * MINUTE}).at(NOON + HOUR)
    silent = on(NOON - 20 * MINUTE)
    assert off_at(NOON + HOUR, silent, OFTEN, told) != {}
    assert off_at(NOON + HOUR, replace(silent, last_tick_at=NOON + HOUR), OFTEN, told) == {}


def test_since_when_one_is_off_is_known_from_the_first_time_that_it_was_found() -> None:
    found = {"it": Automation("it", True, passed_at=NOON)}
    first, watch, _ = judge(found, {"it": NIGHTLY}, LISTENING, NOON)
    again, watch, _ = judge(found, {"it": NIGHTLY}, watch, NOON + HOUR)
    assert (first["it"].at, again["it"]) == (NOON, first["it"])
    assert again["it"].detail == "Somebody switched it off."
    assert Watch.from_json(watch.to_json()) == watch
    assert Watch.from_json(None) == Watch.from_json({"looked_at": 3}) == Watch()


class Platform:
    """A daemon that goes up and down, with an evaluation, a sensor and a schedule in it, minute by minute."""

    def __init__(self) -> None:
        self.now, self.watch = NOON, Watch()
        self.declared = {"watching": OFTEN, "half-hourly": Expected(cron="*/30 * * * *")}
        self.ticks = dict.fromkeys((*self.declared, "alert_evaluate"), NOON)

    def minute(self, *, up: bool, dead: bool = False) -> set[str]:
        """Moves on; evaluates before anything else ticks, where both are due. Nothing ticks of what is dead."""
        self.now += MINUTE
        if not up:
            return set()
        found = {name: Automation(name, False, last_tick_at=at) for name, at in self.ticks.items()}
        failures, self.watch, _ = judge(found, self.declared, self.watch.at(self.now), self.now)
        if not dead:
            due = self.now.replace(minute=self.now.minute // 30 * 30)
            self.ticks |= {"watching": self.now, "half-hourly": max(due, self.ticks["half-hourly"])}
        return set(failures)


@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=8), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_a_daemon_that_goes_down_and_comes_back_is_never_called_silent_and_what_stays_dead_always_is(
    stretches: list[tuple[int, bool]], pause: int
) -> None:
    platform = Platform()
    for minutes, up in stretches:
        for _ in range(minutes):
            assert platform.minute(up=up) == set()
    platform.minute(up=True)
    said = [platform.minute(up=True, dead=True) for _ in range(46)]  # half an hour to the next moment, and the grace
    assert "watching" in said[5]
    assert said[-1] == {"watching", "half-hourly"}
    for _ in range(pause):
        platform.minute(up=False)
    assert platform.minute(up=True, dead=True) == {"watching", "half-hourly"}
    platform.minute(up=True)
    assert platform.minute(up=True) == set()


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

    def ticks(self, name: str, expected: Expected, at: datetime) -> None:
        """A schedule ticks; its state is not written anew."""
        origin = RemoteInstigatorOrigin(self._repository, name)
        kind = InstigatorType.SCHEDULE
        state = InstigatorState(origin, kind, InstigatorStatus.RUNNING, ScheduleInstigatorData(expected.cron))
        self.instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name=name,
                instigator_type=kind,
                status=TickStatus.SKIPPED,
                timestamp=at.timestamp(),
                selector_id=state.selector_id,
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


def test_a_schedules_ticks_are_asked_for_only_once_it_would_be_called_silent_and_then_once(daemon: Daemon) -> None:
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
    assert len(asked) <= 32, "every two minutes, and when one would be called silent"
    assert {after: len(about) for after, about in asked.items() if about} == {45 * MINUTE: 1}


def test_a_tick_is_found_by_an_index_among_many(daemon: Daemon) -> None:
    half_hourly = Expected(cron="*/30 * * * *", timezone=HOME)
    daemon.writes("look", half_hourly, NOON)
    daemon.ticks("look", half_hourly, NOON)
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
        assert last_tick(daemon.instance, automations(daemon.instance)["look"], NOON) == NOON
    ((asked, parameters),) = _about_ticks(statements)
    with engine.begin() as connection:
        rows = connection.exec_driver_sql(f"explain (analyze, costs off, timing off) {asked}", parameters).scalars()
        plan = "\n".join(rows)
    assert "Seq Scan" not in plan, plan
    assert "Rows Removed by Filter" not in plan, plan
