"""Nights against a real server and a real ledger: one start per connection and night, tried again, and nothing else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from adinsights_orchestration.local.airbyte.model import Job
from adinsights_orchestration.local.airbyte.simulated import SimulatedAttempt
from adinsights_orchestration.ops_store.store import OpsStore
from tests.ingestion.support import BY_HAND, HOUR, Ingestion, an_ingestion, external, start_elsewhere, utc
from tests.local.airbyte_support import MISCONFIGURED, TRANSIENT, failing

DAY = timedelta(days=1)


def until_next(ingestion: Ingestion, hour: int) -> None:
    """Lets time pass to the next full hour of this number, UTC; the night is at six."""
    moment = ingestion.now.replace(hour=hour, minute=0, second=0, microsecond=0)
    moment += DAY if moment <= ingestion.now else timedelta()
    ingestion.advance((moment - ingestion.now).total_seconds())


@pytest.fixture
def three(ops_store: OpsStore) -> Iterator[Ingestion]:
    """Three hourly connections, at the moment of the night."""
    with an_ingestion(ops_store, 3) as ingestion:
        until_next(ingestion, 6)
        yield ingestion


def the_nights(ingestion: Ingestion) -> Counter[datetime]:
    return Counter(row.due_slot for row in ingestion.intents())


def test_a_night_is_one_start_of_every_active_connection_and_of_no_other(three: Ingestion) -> None:
    three.replace(0, schedule=BY_HAND)
    planned = three.plan_night()
    driven = [one for one in three.connections if one.standing.value == "active"]
    assert (planned.active, planned.planned) == (len(driven), len(driven))
    assert the_nights(three) == {three.now: len(driven)}
    assert {(row.reason, row.state, row.run_id) for row in three.intents()} == {("schedule", "planned", None)}
    report = three.start_planned()
    assert (report.planned, report.starts.started) == (0, len(driven))
    three.advance(45)
    three.observe()
    assert {row.state for row in three.intents()} == {"succeeded"}


def test_planning_a_night_again_adds_nothing_even_after_its_syncs_are_over(three: Ingestion) -> None:
    three.plan_night()
    assert three.plan_night().planned == 0
    three.start_planned()
    three.advance(45)
    three.observe()
    three.advance(3 * HOUR.total_seconds())
    again = three.plan_night()
    assert (again.planned, again.describe()) == (
        0,
        f"0 starts planned for the night of {again.slot:%Y-%m-%d} 06:00Z, 3 were planned before",
    )
    assert three.start_planned().requests == 0
    assert len(three.jobs()) == 3


def test_two_runs_that_plan_the_same_night_at_once_plan_it_once(three: Ingestion) -> None:
    gate = threading.Barrier(4)

    def plans() -> None:
        gate.wait()
        three.plan_night()

    threads = [threading.Thread(target=plans) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert the_nights(three) == {three.now: 3}


def test_without_a_night_nothing_is_started_though_the_connections_own_slots_pass(three: Ingestion) -> None:
    for _ in range(5):
        report = three.start_planned()
        assert (report.planned, report.requests) == (0, 0)
        three.advance(HOUR.total_seconds())
        three.observe()
    assert three.intents() == []
    assert three.jobs() == []


def test_a_failed_sync_of_the_night_is_tried_again_with_growing_delays_and_at_most_five_times(
    ops_store: OpsStore,
) -> None:
    with an_ingestion(ops_store, script=failing(*[TRANSIENT] * 99)) as one:
        until_next(one, 6)
        one.plan_night()
        delays: list[timedelta] = []
        for _ in range(60 * 4):
            one.start_planned()
            one.advance(15)
            one.observe()
            put_off = one.intent()
            if put_off.state == "planned" and put_off.attempt > len(delays):
                delays.append(put_off.not_before - one.now)
        assert len(one.jobs()) == 5
        assert (one.intent().state, one.intent().attempt) == ("failed", 5)
        for number, delay in enumerate(delays):
            wanted = timedelta(seconds=60) * 2**number
            assert wanted * 0.8 <= delay <= wanted * 1.2
        assert len(delays) == 4


def test_a_sync_of_the_night_that_fails_once_succeeds_the_second_time(ops_store: OpsStore) -> None:
    fails, succeeds = failing(*[TRANSIENT] * 9), failing()
    first: list[int] = []

    def script(job: Job, number: int) -> SimulatedAttempt:
        first.append(job.id)
        return fails(job, number) if job.id == first[0] else succeeds(job, number)

    with an_ingestion(ops_store, script=script) as one:
        until_next(one, 6)
        one.plan_night()
        for _ in range(40):
            one.start_planned()
            one.advance(15)
            one.observe()
        assert [job.status.value for job in one.jobs()] == ["failed", "succeeded"]
        assert (one.intent().state, one.intent().attempt) == ("succeeded", 2)


def test_a_wrong_credential_is_not_tried_again_before_the_next_night(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(*[MISCONFIGURED] * 9)) as one:
        for _ in range(2):
            until_next(one, 6)
            one.plan_night()
            for _ in range(20):
                one.start_planned()
                one.advance(60)
                one.observe()
        assert len(one.jobs()) == 2


def test_never_more_of_the_night_runs_at_once_than_the_bound(three: Ingestion) -> None:
    three.bound = 2
    three.plan_night()
    seen = []
    for _ in range(3):
        seen.append(three.start_planned().starts.started)
        three.advance(45)
        three.observe()
    assert seen == [2, 1, 0]


def test_a_night_that_never_started_makes_room_for_the_next(three: Ingestion) -> None:
    three.bound = 0
    three.plan_night()
    three.start_planned()
    until_next(three, 6)
    three.bound = 5
    assert three.plan_night().planned == 3
    three.start_planned()
    assert Counter(row.state for row in three.intents()) == {"abandoned": 3, "running": 3}
    assert len(three.jobs()) == 3


def test_a_run_that_comes_late_plans_the_night_that_was_and_one_that_comes_early_by_its_clock_tonight(
    three: Ingestion,
) -> None:
    night = three.now
    three.advance(-30)
    assert three.plan_night().slot == night
    three.advance(4 * HOUR.total_seconds())
    late = three.plan_night()
    assert (late.slot, late.planned) == (night, 0)


def test_a_sync_that_somebody_started_after_the_night_began_is_the_nights(three: Ingestion) -> None:
    three.plan_night()
    start_elsewhere(three)
    three.observe()
    report = three.start_planned()
    assert (report.satisfied, report.starts.started) == (1, 2)
    three.advance(45)
    three.observe()
    assert len(three.jobs()) == 3
    assert {row.state for row in three.intents()} == {"succeeded"}


def test_with_an_external_driver_no_night_is_planned_and_none_started(three: Ingestion) -> None:
    external(three)
    assert "external" in three.plan_night().describe()
    assert "external" in three.start_planned().skipped
    assert three.intents() == []


def test_a_connection_that_is_switched_off_after_the_night_was_planned_is_not_started(three: Ingestion) -> None:
    three.plan_night()
    three.replace(0, is_active=False)
    three.start_planned()
    assert Counter(row.state for row in three.intents()) == {"running": 2, "abandoned": 1}


def test_a_night_is_at_the_same_hour_of_home_on_both_sides_of_a_change_of_clocks(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.settings = one.settings.model_copy(update={"home_timezone": "Europe/Berlin"})
        slots = []
        for moment in (utc("2026-10-24T12:00:00"), utc("2026-10-25T12:00:00")):
            one.server.clock.now = moment
            slots.append(one.plan_night().slot)
        assert slots == [utc("2026-10-23T23:00:00"), utc("2026-10-24T23:00:00")]
