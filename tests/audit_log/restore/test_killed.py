"""SIGKILL at random points of the real restoring process: nothing lost, nothing twice, held and accounted for."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal, restored
from adinsights_orchestration.audit_log.restore import plan as restore_plan
from adinsights_orchestration.audit_log.restore.ledger import RestoreLedger
from adinsights_orchestration.audit_log.restore.run import Order, Restore
from adinsights_orchestration.audit_log.restore.writing import Arrival
from adinsights_orchestration.audit_log.retention.automation import build_retention
from adinsights_orchestration.audit_log.retention.checks import VANISHED
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.ops_store.audit_tables import audit_hold
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from tests.audit_log.conftest import DAYS, Place
from tests.audit_log.killing import once_the_locks_are_free
from tests.audit_log.restoring import (
    LATER,
    RESTORED,
    UNTIL,
    all_days,
    audit_rows,
    restore,
    restorer,
    retention,
    rows_of,
)
from tests.audit_log.rows import TABLE, some_rows

PROCESSES = multiprocessing.get_context("forkserver")  # a process of its own, without the imports of a new interpreter
PROCESSES.set_forkserver_preload([__name__])
ROWS_A_TRANSACTION = 30


def restore_all(settings: Settings, folder: str, live: bool) -> None:
    restore_plan.MOST_ROWS = ROWS_A_TRANSACTION
    store = OpsStore(settings.ops_store)
    order = Order(all_days(), live=live, hold_until=UNTIL if live else None, apply=True)
    Restore(settings, store, AUDIT_LOG, "killed", Folder(Path(folder)), lambda: LATER).run(order)


def a_process(place: Place, live: bool) -> BaseProcess:
    process = PROCESSES.Process(target=restore_all, args=(place.settings, str(place.folder), live))
    process.start()
    return process


def kill_again_and_again(place: Place, times: int, rng: random.Random, live: bool) -> int:
    """Returns how many processes were killed before they were done."""
    table, killed = TABLE if live else RESTORED, 0
    a_process(place, live).join()  # starts the server that forks
    place.backend.execute(f"delete from {table}")
    began = time.monotonic()
    a_process(place, live).join()
    takes = time.monotonic() - began  # on this machine, at this hour
    for _ in range(times):
        # Something is always left to bring, now and then everything.
        gone = "true" if rng.random() < 0.3 else f"left(id::text, 1) = '{rng.choice('0123456789abcdef')}'"
        place.backend.execute(f"delete from {table} where {gone}")
        process = a_process(place, live)
        process.join(rng.uniform(0.3, 1) * takes)
        process.kill()  # and not os.kill: it may end by itself at this very moment
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    return killed


def survives(place: Place, times: int, seed: int, live: bool) -> None:
    place.add(some_rows(place.tenants, DAYS, 60, rng=random.Random(seed)))
    place.archive()
    before = rows_of(place)
    world = retention(place)
    assert world.retain(now=LATER).rows == len(before)
    killed = kill_again_and_again(place, times, random.Random(seed), live)
    until = UNTIL if live else None
    once_the_locks_are_free(lambda: restore(place, live=live, hold_until=until), "already", "retention")
    assert killed
    assert rows_of(place, TABLE if live else RESTORED) == before
    # Every row that ever arrived is in somebody's audit row, also those of runs that died.
    assert sum(entry.detail["rows"] for entry in audit_rows(place)) >= len(before)
    assert {entry.tenant_id for entry in audit_rows(place)} == set(place.tenants)
    if not live:
        return
    with place.ops.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(audit_hold)).scalar() == 1
    assert world.retain(now=LATER).rows == 0
    after = world.retain(now=UNTIL + timedelta(hours=1), rearchive=False)
    assert (after.rows, after.unequal) == (len(before), [])
    assert rows_of(place) == []


@pytest.mark.parametrize("live", [True, False], ids=["live", "a table of its own"])
def test_kills_lose_and_double_nothing(place: Place, live: bool) -> None:
    survives(place, 20 if live else 6, seed=1, live=live)


@pytest.mark.soak
@pytest.mark.parametrize("live", [True, False], ids=["live", "a table of its own"])
def test_hundreds_of_kills_lose_and_double_nothing(place: Place, live: bool) -> None:
    survives(place, 250, seed=2, live=live)


def test_rows_that_a_dead_run_promised_and_never_brought_are_found_out_by_retention(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.archive()
    world = retention(place)
    world.retain(now=LATER)
    monkeypatch.setattr("adinsights_orchestration.audit_log.restore.ledger.RestoreLedger.done", _die)
    with pytest.raises(KeyboardInterrupt):
        restore(place, live=True, hold_until=UNTIL)
    place.backend.execute(f"delete from {TABLE}")  # as if the COMMIT had never arrived
    assert world.states() == {"sealed": len(place.tenants) * DAYS}
    after = world.retain(now=UNTIL + timedelta(hours=1))
    assert (after.rows, len(after.gone)) == (0, len(place.tenants) * DAYS)
    assert world.states() == {"deleted": len(place.tenants) * DAYS}


def test_a_killed_restore_is_accounted_for_by_the_next_night_s_retention(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.archive()
    world = retention(place)
    world.retain(now=LATER)
    with monkeypatch.context() as patch:
        patch.setattr(Restore, "_journalled", _unrecorded)
        with pytest.raises(KeyboardInterrupt):
            restore(place, live=True, hold_until=UNTIL)
    assert len(rows_of(place)) == len(place.rows)
    assert audit_rows(place) == []
    with place.ops.exclusive(restored.lock_name(AUDIT_LOG)):  # somebody restores: it may be that run
        a_night(place)
    assert audit_rows(place) == []
    a_night(place)
    a_night(place)
    assert sum(entry.detail["rows"] for entry in audit_rows(place)) == len(place.rows)
    assert {(entry.tenant_id, entry.detail["actor"]) for entry in audit_rows(place)} == {
        (each, "a test") for each in place.tenants
    }
    assert journal.open_runs(place.ops, AUDIT_LOG.name, restored.KIND) == []


@pytest.mark.parametrize("recorded", [True, False], ids=["failed", "killed"])
def test_rows_that_a_restore_promised_and_never_brought_have_not_vanished(
    place: Place, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    place.archive()
    retention(place).retain(now=LATER)
    for time_ in range(2):  # the second one promises what the first one had promised
        with monkeypatch.context() as patch:
            if not recorded:
                patch.setattr(Restore, "_journalled", _unrecorded)
            patch.setattr(restore_plan, "MOST_ROWS", ROWS_A_TRANSACTION)
            patch.setattr(RestoreLedger, "intend", _dying_before_the_commit(after=2 - 2 * time_))
            order = Order(all_days(), live=True, hold_until=UNTIL, apply=True)
            with pytest.raises(KeyboardInterrupt):
                restorer(place, LATER + timedelta(minutes=time_)).run(order)
        assert 0 < len(rows_of(place)) < len(place.rows)
        night = vanished_in(a_night(place))
        assert night.passed
        assert "never came back: give the restore again" in str(night.description)
    place.backend.execute(f"delete from {TABLE} where id = (select id from {TABLE} limit 1)")
    night = vanished_in(a_night(place))
    assert (night.passed, night.metadata["rows"].value) == (False, 1), "a row that had come is missed as ever"
    restore(place, live=True, hold_until=UNTIL)
    night = vanished_in(a_night(place))
    assert (night.passed, "never came" in str(night.description)) == (True, False)
    assert len(rows_of(place)) == len(place.rows)


def vanished_in(night: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    return next(each for each in night.get_asset_check_evaluations() if each.check_name == VANISHED)


def _dying_before_the_commit(after: int) -> Callable[[RestoreLedger, int, Sequence[Arrival]], None]:
    """The real promise, after which the process is gone, once so many portions with rows have come."""
    intend, began = RestoreLedger.intend, count()

    def intend_and_die(self: RestoreLedger, connection: int, arrivals: Sequence[Arrival]) -> None:
        intend(self, connection, arrivals)
        if any(arrival.came for arrival in arrivals) and next(began) >= after:
            raise KeyboardInterrupt

    return intend_and_die


def a_night(place: Place) -> dg.ExecuteInProcessResult:
    """Retention as the schedule runs it, while the hold of the restore is in force."""
    retention(place)
    definitions = build_retention(place.settings, place.ops, clock=lambda: LATER)
    config = {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}}
    return definitions.resolve_job_def(Automation.RETENTION.value).execute_in_process(run_config=config)


@contextmanager
def _unrecorded(*_: object) -> Iterator[None]:
    """A kill: nothing writes down how the run ended."""
    yield
    raise KeyboardInterrupt


def _die(*_: object) -> None:
    raise KeyboardInterrupt
