"""After an outage nobody is called late before Airbyte's jobs were read again, and blindness does not stay green."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.freshness.automation import evaluate_and_show, summary
from adinsights_orchestration.freshness.catching_up import EXCUSED_FOR, LedgerReading, behind_since, excuses
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.ingestion.ledger import Position, save_position
from tests.freshness.world import HOUR, HOURLY, MINUTE, START, World, became, connection

TICK = timedelta(seconds=30)
MANY = [connection(f"c{number}", schedule=HOURLY) for number in range(5)]


@pytest.fixture
def outage(world: World) -> World:
    """Hourly connections that synced; then the ops store was away for over an hour, and all had synced meanwhile."""
    world.serve(*MANY)
    for one in MANY:
        world.sync(one)
    read(world)
    world.evaluate(MINUTE)
    world.now += 80 * MINUTE
    return world


def read(world: World, *, complete: bool = True) -> None:
    """The reader of Airbyte's jobs was here, and found something."""
    with world.store.begin() as transaction:
        save_position(transaction, Position(world.now, complete), world.now)


def test_nobody_is_called_late_before_the_ledger_was_read_again(outage: World) -> None:
    evaluation = outage.evaluate()
    assert (became(evaluation), evaluation.excused) == ({}, 5)
    for one in MANY:
        outage.sync(one, ended=outage.now - 20 * MINUTE)
    read(outage)
    evaluation = outage.evaluate(TICK)
    assert (became(evaluation), evaluation.behind) == ({}, "")
    assert {outage.state(one) for one in MANY} == {Freshness.OK}


def test_whoever_brought_nothing_meanwhile_is_late_as_soon_as_the_ledger_was_read(outage: World) -> None:
    outage.evaluate()
    for one in MANY[1:]:
        outage.sync(one)
    read(outage)
    assert became(outage.evaluate(TICK)) == {MANY[0].partition_key: Freshness.STALE}
    deadline = outage.states()[MANY[0].partition_key].verdict.deadline
    assert deadline is not None
    assert deadline < outage.now - MINUTE, "pages count from when it was due, not from when it was told"


def test_a_reader_that_came_back_first_holds_nobody_up(outage: World) -> None:
    read(outage)
    outage.now += 20 * timedelta(seconds=1)
    assert set(became(outage.evaluate()).values()) == {Freshness.STALE}


def test_a_reader_that_stays_away_makes_nothing_look_fresh(outage: World) -> None:
    evaluations = [outage.evaluate(MINUTE) for _ in range(12)]
    late = [len(evaluation.transitions) for evaluation in evaluations]
    assert late == [0] * 10 + [5, 0]
    assert outage.evaluate(TICK).behind == "", "nothing was left to read when it last looked"


def test_while_more_is_left_to_read_nobody_turns_late_for_as_long(outage: World) -> None:
    read(outage, complete=False)
    assert became(outage.evaluate()) == {}
    outage.now += MINUTE
    read(outage, complete=False)
    assert became(outage.evaluate()) == {}
    outage.now += MINUTE
    read(outage)
    assert set(became(outage.evaluate()).values()) == {Freshness.STALE}


def test_a_reader_that_never_gets_through_excuses_for_a_while_and_is_named(outage: World) -> None:
    read(outage, complete=False)
    said = ""
    for _ in range(11):
        said = outage.evaluate(MINUTE).behind
        read(outage, complete=False)
    assert {outage.state(one) for one in MANY} == {Freshness.STALE}
    assert said.endswith("for too long to excuse anybody")


def test_who_is_late_already_stays_late_and_who_delivers_is_well_at_once(outage: World) -> None:
    read(outage)
    outage.evaluate()
    outage.now += 5 * HOUR
    outage.sync(MANY[0])
    assert became(outage.evaluate()) == {MANY[0].partition_key: Freshness.OK}
    assert {outage.state(one) for one in MANY[1:]} == {Freshness.STALE}


def test_where_nothing_ever_reads_airbyte_nothing_waits_for_it(world: World) -> None:
    world.serve(MANY[0])
    world.sync(MANY[0])
    world.evaluate()
    assert became(world.evaluate(2 * HOUR)) == {MANY[0].partition_key: Freshness.STALE}


def test_a_quiet_night_of_ticks_excuses_nobody(world: World) -> None:
    world.serve(MANY[0])
    world.sync(MANY[0])
    read(world)
    world.evaluate()
    while not (evaluation := world.evaluate(MINUTE)).transitions:
        assert evaluation.behind == ""
    assert (world.state(MANY[0]), world.now - START < 77 * MINUTE) == (Freshness.STALE, True)


def test_the_tick_says_why_nobody_turned_late(outage: World, postgres_instance: dg.DagsterInstance) -> None:
    clock = TickClock(outage.now, 40.0, lambda: 0.0)
    evaluation, shown = evaluate_and_show(postgres_instance, outage.store, outage.sla, clock)
    assert summary(evaluation, shown).endswith(
        "the ledger may lie behind Airbyte: 5 due, and nobody turns late before its jobs are read, or 14:31 UTC"
    )


def test_excused_verdicts_are_written_once_and_looked_at_in_every_tick(outage: World) -> None:
    assert [(each.evaluated, each.written) for each in (outage.evaluate(TICK) for _ in range(3))] == [
        (5, 5),
        (5, 0),
        (5, 0),
    ]


@given(
    gaps=st.lists(st.integers(1, 30 * 60), min_size=1, max_size=60),
    reads=st.lists(st.sampled_from(["nothing", "complete", "incomplete"]), min_size=60, max_size=60),
    first=st.booleans(),
)
def test_however_ticks_and_readings_fall_nobody_is_excused_for_longer_than_the_bound(
    gaps: list[int], reads: list[str], first: bool
) -> None:
    now, since, reading = START, None, LedgerReading(START, first)
    excused_from: datetime | None = None
    for seconds, found in zip(gaps, reads, strict=False):
        last, now = now, now + timedelta(seconds=seconds)
        if found != "nothing":
            reading = LedgerReading(now - timedelta(seconds=seconds / 2), found == "complete")
        since = behind_since(since, last, reading, now)
        if excuses(since, now):
            excused_from = excused_from or now
            assert now - excused_from < EXCUSED_FOR
            assert not reading.complete or reading.at < since - MINUTE  # type: ignore[operator]
        else:
            excused_from = None
