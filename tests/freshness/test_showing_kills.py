"""What was concluded is shown, whoever dies, holds the lock or runs out of time before it is."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.freshness import rendering, showing, tick
from adinsights_orchestration.freshness.automation import BUDGET_SECONDS, evaluate_and_show, summary
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.showing import Shown
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants.model import Connection, Provider
from adinsights_orchestration.unattended import OnNews
from tests.conftest import HANG_SECONDS
from tests.freshness.world import HOUR, HOURLY, MINUTE, World, connection

META, OTHER = connection("meta", schedule=HOURLY), connection("other", schedule=HOURLY)
TICK = timedelta(seconds=30)
LATE = HOUR + 20 * MINUTE


class Told:
    """An evaluation over time, and what Dagster was told by it."""

    def __init__(self, world: World, instance: dg.DagsterInstance) -> None:
        self.world, self.instance = world, instance

    def tick(self, after: timedelta = TICK, *, store: OpsStore | None = None, on_news: OnNews | None = None) -> Shown:
        """Lets time pass, evaluates and shows."""
        self.world.now += after
        clock = TickClock(self.world.now, BUDGET_SECONDS, lambda: 0.0)
        return evaluate_and_show(self.instance, store or self.world.store, self.world.sla, clock, on_news)[1]

    def watermark(self) -> datetime:
        """Meta's."""
        [newest] = self.instance.fetch_materializations(rendering.watermark_key(Provider.META), limit=1).records
        return datetime.fromtimestamp(newest.timestamp, self.world.now.tzinfo)

    def table(self) -> dict[str, int]:
        """How many are in each state, as the newest table says."""
        [newest] = self.instance.fetch_observations(rendering.CONNECTIONS, limit=1).records
        assert newest.asset_observation is not None
        entries = newest.asset_observation.metadata
        return {state.value: count for state in Freshness if (count := entries[state.value].value)}  # type: ignore[misc]

    def check(self, of: Connection) -> str:
        """What the connection's newest check says."""
        check = dg.AssetCheckKey(dg.AssetKey(of.provider.asset_path), rendering.CHECK)
        records = self.instance.event_log_storage.get_asset_check_execution_history(check, limit=50)
        newest = next(record for record in records if record.partition == of.partition_key)
        assert newest.event is not None
        evaluation = newest.event.get_dagster_event().asset_check_evaluation_data
        return str(evaluation.description).split(":", maxsplit=1)[0]


@pytest.fixture
def told(world: World, postgres_instance: dg.DagsterInstance) -> Told:
    """A connection that is well, and shown so."""
    world.serve(META)
    world.sync(META)
    shown = Told(world, postgres_instance)
    assert shown.tick() == Shown(checks=1, watermarks=1, table=True)
    return shown


def test_a_process_killed_while_it_tells_alerts_leaves_the_watermark_and_the_table_to_the_next_tick(told: Told) -> None:
    last_success = told.world.now - TICK

    def die(_: dg.DagsterInstance) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed(told, on_news=die) == -signal.SIGKILL
    assert told.world.state(META) is Freshness.STALE, "the evaluation was committed"
    assert told.table() == {"ok": 1}
    assert told.tick() == Shown(checks=1, watermarks=1, table=True)
    assert (told.watermark(), told.check(META), told.table()) == (last_success, "stale", {"stale": 1})
    assert told.tick() == Shown()


@pytest.mark.parametrize(
    "every", [pytest.param(6), pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_killed_before_any_statement_or_commit_the_next_tick_shows_what_is_true(told: Told, every: int) -> None:
    for point in itertools.count(0, every):
        last_success = told.world.now
        told.world.sync(META)
        told.tick()
        died = killed(told, at=point)
        told.tick()
        assert (told.watermark(), told.check(META)) == (last_success, "stale"), f"killed at point {point}"
        told.tick(showing.TABLE_EVERY)
        assert told.table() == {"stale": 1}, f"killed at point {point}"
        if died == 0:
            break
        assert died == -signal.SIGKILL
    assert point > 30, "evaluating and showing pass many points"


def test_what_one_tick_may_not_show_because_another_is_at_it_the_next_one_shows(told: Told) -> None:
    with told.world.store.exclusive(showing.LOCK) as mine:
        assert mine
        skipped = told.tick(LATE)
        assert skipped == Shown(skipped="another tick is at it")
    assert told.tick() == Shown(checks=1, watermarks=1, table=True)
    assert told.table() == {"stale": 1}


def test_a_run_that_evaluated_and_failed_to_show_leaves_nothing_behind(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(showing.events, "report_materializations", full)  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="no space"):
            told.tick(LATE)
    assert told.tick() == Shown(checks=1, watermarks=1, table=True)


def test_the_table_that_was_not_due_yet_survives_a_restart(told: Told) -> None:
    told.world.serve(META, OTHER)
    assert not told.tick(MINUTE).table
    tick.run(told.world.store, told.world.sla, told.world.now)  # a new process finds nothing changed
    assert told.tick(4 * MINUTE).table
    assert told.table() == {"ok": 1, "pending": 1}


# ------------------------------------------------------------------------------------------------------- what it costs


def test_a_tick_without_time_shows_the_watermarks_the_table_and_the_worst_checks_first(
    told: Told, postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "_BATCH", 2)
    ga4 = [connection(f"ga4-{number}", Provider.GA4) for number in range(5)]
    world = told.world
    world.serve(META, *ga4)
    world.now += LATE
    for one in ga4:
        world.sync(one)

    def without_time() -> tuple[Shown, str]:
        clock = TickClock(world.now, 0.0)
        evaluation, shown = evaluate_and_show(postgres_instance, world.store, world.sla, clock)
        return shown, summary(evaluation, shown)

    shown, said = without_time()
    assert shown == Shown(checks=2, watermarks=2, table=True, left=True)
    assert said.endswith("more checks are written by the next tick")
    assert told.check(META) == "stale"
    assert [without_time()[0] for _ in range(3)] == [Shown(2, left=True), Shown(2), Shown()]


def test_the_bound_of_a_tick_is_one_for_all_providers(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "_BATCH", 2)
    monkeypatch.setattr(showing, "CHECKS_PER_TICK", 4)
    told.world.serve(META, *(connection("one", provider) for provider in Provider))
    counts = []
    while (shown := told.tick()).checks:
        counts.append(shown.checks)
    assert counts == [4, 2]


def test_an_idle_tick_costs_as_much_with_a_connection_that_is_late_for_long_as_without(told: Told) -> None:
    late = connection("late", Provider.GA4, schedule=HOURLY)
    world = told.world

    def idle() -> list[str]:
        for minute in range(40):  # over the half hour after which what is not late is renewed
            if minute % 20 == 0:
                world.sync(META)
            told.tick(MINUTE)
        with counted(world.store) as statements:
            assert told.tick(TICK) == Shown()
        return statements

    without = idle()
    world.serve(META, late)
    told.tick(LATE)
    assert idle() == without


@contextmanager
def counted(store: OpsStore) -> Iterator[list[str]]:
    """The statements that reach the ops store meanwhile."""
    statements: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(store.engine, "before_cursor_execute", note)


def killed(told: Told, *, on_news: OnNews | None = None, at: int | None = None) -> int:
    """A tick in which the connection turns late, in a process that dies; returns how it ended.

    Args:
        told: What is evaluated.
        on_news: Called between concluding and showing.
        at: Before which statement or commit, of either database, it kills itself.
    """
    told.world.now += LATE
    child = os.fork()
    if child == 0:
        try:
            _live(told, on_news, at)
        finally:
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    give_up = time.monotonic() + HANG_SECONDS
    while told.world.store.held([tick.LOCK, showing.LOCK]):  # until the server notices that the process is gone
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return ended


def _live(told: Told, on_news: OnNews | None, at: int | None) -> None:
    passed = 0

    def point(*_: object) -> None:
        nonlocal passed
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    store = OpsStore(told.world.store._settings)  # connections are not shared between processes
    sa.event.listen(sa.Engine, "before_cursor_execute", point)
    sa.event.listen(sa.Engine, "commit", point)
    told.tick(timedelta(), store=store, on_news=on_news)
    os._exit(0)
