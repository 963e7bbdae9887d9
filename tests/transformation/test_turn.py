"""A build's turn on a real Postgres: kept over restarts, given up in time, and never beside another build's dbt."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
import sqlalchemy as sa

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.connecting import lock_key
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor
from adinsights_orchestration.transformation.builds import is_building
from adinsights_orchestration.transformation.turn import BUILD_LOCK, LEASE, Pace, Turn, TurnLostError
from tests.conftest import HANG_SECONDS
from tests.transformation.support import end_sessions, eventually

QUICK = Pace(poll=0.02, look=0.05, keep=1.0, stop=0.2, fence=4.0)  # loses its lock soon
STEADY = replace(QUICK, keep=HANG_SECONDS, fence=2 * HANG_SECONDS)  # no busy machine makes it lose its lock


def _turn(store: OpsStore, pace: Pace = STEADY) -> Turn:
    return Turn(store, "run-1", time.sleep, pace)


def _lease(store: OpsStore) -> bool:
    with store.begin() as connection:
        return connection.execute(sa.select(cursor.c.name).where(cursor.c.name == LEASE)).first() is not None


def _vanish(turn: Turn) -> None:
    """As if its process had been killed: the session ends, the lease stays."""
    turn._over.set()
    turn._keeper.join()
    turn._session.close()


@pytest.fixture
def rival(ops_store: OpsStore) -> Iterator[sa.Connection]:
    """A session beside the store's own."""
    engine = sa.create_engine(ops_store.engine.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_a_turn_holds_the_lock_and_leaves_nothing_behind(ops_store: OpsStore) -> None:
    with _turn(ops_store) as turn:
        assert not is_building(ops_store)
        turn.begin()
        assert is_building(ops_store)
        assert _lease(ops_store)
    assert not is_building(ops_store)
    assert not _lease(ops_store)


def test_a_turn_after_one_that_ended_in_order_begins_at_once(ops_store: OpsStore) -> None:
    waits: list[float] = []
    for _ in range(2):
        with Turn(ops_store, "run-1", waits.append, QUICK) as turn:
            turn.begin()
    assert waits == []


def test_a_turn_after_one_that_vanished_waits_until_its_dbt_is_gone(ops_store: OpsStore) -> None:
    vanished = _turn(ops_store).__enter__()
    vanished.begin()
    _vanish(vanished)
    waits: list[float] = []
    with Turn(ops_store, "run-2", waits.append, STEADY) as turn:
        turn.begin()
    assert STEADY.fence - HANG_SECONDS < sum(waits) <= STEADY.fence


def test_a_lease_that_is_old_is_not_waited_for(ops_store: OpsStore) -> None:
    with ops_store.begin() as connection:
        long_ago = sa.func.now() - sa.text("interval '1 hour'")
        connection.execute(sa.insert(cursor).values(name=LEASE, value={"holder": "gone"}, updated_at=long_ago))
    waits: list[float] = []
    with Turn(ops_store, "run-2", waits.append, QUICK) as turn:
        turn.begin()
        assert waits == []


def test_a_lock_that_went_with_its_session_is_taken_again_and_nothing_is_stopped(ops_store: OpsStore) -> None:
    stopped = threading.Event()
    with _turn(ops_store) as turn:
        turn.begin()
        with turn.guarding(stopped.set):
            for _ in range(3):
                end_sessions(ops_store)
                assert eventually(lambda: is_building(ops_store))
            turn.check()
    assert not stopped.is_set()
    assert not _lease(ops_store)


def test_a_turn_that_ends_just_as_its_session_did_leaves_no_lease_for_the_next_one_to_wait_for(
    ops_store: OpsStore,
) -> None:
    unhurried = Pace(poll=0.02, look=60, keep=1, stop=0.2, fence=90)  # does not notice before it ends
    with _turn(ops_store, unhurried) as turn:
        turn.begin()
        end_sessions(ops_store)
    assert not _lease(ops_store)


def test_a_turn_that_ends_while_its_session_is_lost_leaves_no_lease_either(ops_store: OpsStore) -> None:
    with _turn(ops_store, Pace(poll=0.02, look=60, keep=1, stop=0.2, fence=90)) as turn:
        turn.begin()
        turn._session.close()
    assert not _lease(ops_store)


def test_a_lock_that_somebody_else_got_stops_the_build(ops_store: OpsStore, rival: sa.Connection) -> None:
    stopped = threading.Event()
    with ThreadPoolExecutor() as pool, _turn(ops_store, QUICK) as turn:
        turn.begin()
        with turn.guarding(stopped.set):
            # The one that stands in the queue has the lock before anybody can ask again.
            queued = pool.submit(rival.execute, sa.select(sa.func.pg_advisory_lock(lock_key(BUILD_LOCK))))
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            with ops_store.begin() as connection:
                assert eventually(lambda: connection.exec_driver_sql(waiting).scalar_one() == 1)
                connection.exec_driver_sql(
                    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
                )
            queued.result(30)
            assert stopped.wait(30)
        with pytest.raises(TurnLostError, match="starts the next build by itself"):
            turn.check()


def test_a_lease_that_somebody_else_wrote_stops_the_build_though_the_lock_is_free_again(ops_store: OpsStore) -> None:
    stopped = threading.Event()
    with _turn(ops_store) as turn:
        turn.begin()
        with turn.guarding(stopped.set):
            with ops_store.begin() as connection:
                connection.execute(sa.update(cursor).values(value={"holder": "another"}))
            assert stopped.wait(30)
    assert _lease(ops_store)


def test_what_begins_after_the_turn_was_lost_is_stopped_at_once(ops_store: OpsStore) -> None:
    stopped = threading.Event()
    with _turn(ops_store) as turn:
        turn.begin()
        with ops_store.begin() as connection:
            connection.execute(sa.delete(cursor))
        assert eventually(lambda: turn._lost is not None)
        with turn.guarding(stopped.set):
            assert stopped.is_set()


def test_a_build_that_waits_survives_a_restart_of_the_server(ops_store: OpsStore) -> None:
    begun = threading.Event()

    def second() -> None:
        with _turn(ops_store) as turn:
            turn.begin()
            begun.set()

    with ops_store.exclusive(BUILD_LOCK) as first:
        assert first
        thread = threading.Thread(target=second)
        thread.start()
        assert not begun.wait(0.2)
        with ops_store.begin() as connection:
            holders = "select pid from pg_locks where locktype = 'advisory'"
            connection.exec_driver_sql(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                f" and pid <> pg_backend_pid() and pid not in ({holders})"
            )
        assert not begun.is_set()
    assert begun.wait(30)
    thread.join()


def test_a_pace_that_lets_two_builds_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="certainly gone"):
        Pace(look=2, keep=18, stop=20, fence=40)


@dataclass
class Warehouse:
    """Where at most one dbt may be at work."""

    at_work: int = 0
    most: int = 0
    builds: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> None:
        with self.lock:
            self.at_work += 1
            self.most = max(self.most, self.at_work)

    def leave(self) -> None:
        with self.lock:
            self.at_work -= 1
            self.builds += 1


def _build(store: OpsStore, warehouse: Warehouse, seconds: float, dies: bool) -> None:
    """One build with a dbt that takes its time to stop; one that dies leaves that dbt behind, as a kill does."""
    stop = threading.Event()
    with suppress(TurnLostError, OpsStoreError), _turn(store, QUICK) as turn:
        turn.begin()
        with turn.guarding(stop.set):
            warehouse.enter()
            if dies:
                _vanish(turn)
            lost = stop.wait(seconds)
            if lost or dies:
                time.sleep(QUICK.stop)
            warehouse.leave()


def test_whatever_happens_to_sessions_and_processes_two_builds_are_never_at_work_at_once(ops_store: OpsStore) -> None:
    chance = random.Random(7)
    warehouse = Warehouse()
    plans = [[(chance.uniform(0.05, 0.4), chance.random() < 0.3) for _ in range(3)] for _ in range(3)]

    def carry_out(plan: list[tuple[float, bool]]) -> None:
        for seconds, dies in plan:
            _build(ops_store, warehouse, seconds, dies)

    threads = [threading.Thread(target=carry_out, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(chance.uniform(0.3, 5))
        end_sessions(ops_store)
    assert warehouse.most == 1
    assert warehouse.builds >= 4
