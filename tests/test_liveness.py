"""Whether a run's process is there: the lock it holds on a real Postgres, and the decision over what was seen."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.liveness import BOOT, GONE_AFTER, Seen, Suspicion, alive, judge, living
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from tests.conftest import free_port
from tests.transformation.support import end_sessions, eventually, in_another_process

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = "run-1"


def _seen(*, alive: bool = False, proven: bool = True, age: timedelta = timedelta(hours=1), event: int = 7) -> Seen:
    return Seen(alive, proven, NOW - age, event)


def test_a_run_that_holds_its_lock_is_not_suspected() -> None:
    before = {RUN: Suspicion(NOW - timedelta(hours=1), 7)}
    assert judge({RUN: _seen(alive=True)}, before, NOW).suspected == {}


def test_one_look_never_kills() -> None:
    verdict = judge({RUN: _seen()}, {}, NOW)
    assert (verdict.dead, verdict.suspected) == (frozenset(), {RUN: Suspicion(NOW, 7)})


def test_a_run_without_lock_and_word_for_longer_than_a_living_one_can_be_is_dead() -> None:
    before = {RUN: Suspicion(NOW - GONE_AFTER, 7)}
    assert judge({RUN: _seen()}, before, NOW).dead == {RUN}
    assert judge({RUN: _seen()}, before, NOW - timedelta(seconds=1)).dead == frozenset()


def test_a_run_that_wrote_something_since_is_suspected_anew() -> None:
    verdict = judge({RUN: _seen(event=8)}, {RUN: Suspicion(NOW - timedelta(hours=1), 7)}, NOW)
    assert (verdict.dead, verdict.suspected) == (frozenset(), {RUN: Suspicion(NOW, 8)})


def test_a_run_that_still_starts_is_not_suspected_before_it_gave_proof() -> None:
    young = _seen(proven=False, age=BOOT - timedelta(seconds=1))
    assert judge({RUN: young}, {}, NOW).suspected == {}
    assert RUN in judge({RUN: _seen(proven=False, age=BOOT)}, {}, NOW).suspected


def test_a_suspicion_from_the_future_begins_anew() -> None:
    verdict = judge({RUN: _seen()}, {RUN: Suspicion(NOW + timedelta(hours=1), 7)}, NOW)
    assert verdict.suspected == {RUN: Suspicion(NOW, 7)}


def test_runs_that_ended_are_forgotten() -> None:
    assert judge({}, {RUN: Suspicion(NOW, 7)}, NOW).suspected == {}


_LOOK = 30  # seconds between two looks, at most
# How a living run holds its lock, in seconds: with it, then without it, and again. Two losses that follow each other
# without a look between them are one long absence to whoever looks; a restart of Postgres is not that frequent.
_HOLDING = st.lists(st.tuples(st.integers(_LOOK, 90), st.integers(0, 49)), min_size=1, max_size=20)
_LOOKS = st.lists(st.integers(1, 120), max_size=40)


def _holds(holding: list[tuple[int, int]], second: int) -> bool:
    for held, gap in holding:
        if second < held:
            return True
        second -= held
        if second < gap:
            return False
        second -= gap
    return True


@given(holding=_HOLDING, looks=_LOOKS)
def test_a_run_that_is_never_without_lock_for_longer_than_a_build_may_be_is_never_dead_to_a_sensor_that_looks_often(
    holding: list[tuple[int, int]], looks: list[int]
) -> None:
    suspected: dict[str, Suspicion] = {}
    second = 0
    for later in looks:
        second += min(later, 1 + later % _LOOK)
        verdict = judge({RUN: _seen(alive=_holds(holding, second))}, suspected, NOW + timedelta(seconds=second))
        assert verdict.dead == frozenset()
        suspected = dict(verdict.suspected)


@given(interval=st.integers(1, 120), event=st.integers(0, 9))
def test_a_dead_run_is_found_within_two_looks_and_the_time_a_living_one_may_be_silent(
    interval: int, event: int
) -> None:
    verdict = judge({RUN: _seen(event=event)}, {}, NOW)
    for number in range(1, 1 - int(-GONE_AFTER.total_seconds() // interval)):
        assert verdict.dead == frozenset()
        verdict = judge({RUN: _seen(event=event)}, verdict.suspected, NOW + timedelta(seconds=number * interval))
    assert verdict.dead == {RUN}


def test_a_run_is_alive_as_long_as_its_block_takes(ops_store: OpsStore) -> None:
    with living(ops_store, RUN):
        assert alive(ops_store, [RUN, "run-2"]) == {RUN}
    assert alive(ops_store, [RUN]) == set()
    assert alive(ops_store, []) == set()


def test_a_lock_that_went_with_its_session_is_taken_again(ops_store: OpsStore) -> None:
    with living(ops_store, RUN, look_seconds=0.05):
        end_sessions(ops_store)
        assert eventually(lambda: alive(ops_store, [RUN]) == {RUN})
    assert alive(ops_store, [RUN]) == set()


def test_a_killed_process_is_not_alive(ops_store: OpsStore) -> None:
    code = """
import time
from adinsights_orchestration.liveness import living
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
with living(OpsStore(Settings().ops_store), "run-1"):
    print("living", flush=True)
    time.sleep(600)
"""
    process = in_another_process(code, ADINSIGHTS_OPS_STORE__DSN=ops_store._settings.dsn.get_secret_value())
    assert process.stdout is not None
    assert process.stdout.readline()
    assert alive(ops_store, [RUN]) == {RUN}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert eventually(lambda: alive(ops_store, [RUN]) == set())


def test_without_the_ops_store_a_run_does_not_begin() -> None:
    down = OpsStoreSettings.model_validate({"dsn": f"postgresql://u:p@127.0.0.1:{free_port()}/x"})
    with pytest.raises(OpsStoreError), living(OpsStore(down), RUN):
        pass
