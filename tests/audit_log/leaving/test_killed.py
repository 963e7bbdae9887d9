"""SIGKILL at random points of compaction, erasure, off-boarding and expiry: the next run ends what was begun."""

from __future__ import annotations

import multiprocessing
import random
import signal
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest

from adinsights_orchestration.audit_log.bookkeeping import removal_ledger
from adinsights_orchestration.audit_log.leaving.compaction import compact
from adinsights_orchestration.audit_log.leaving.erasure import Erasure
from adinsights_orchestration.audit_log.leaving.expiry import expire
from adinsights_orchestration.audit_log.leaving.matching import Subject
from adinsights_orchestration.audit_log.leaving.offboarding import Offboarding
from adinsights_orchestration.audit_log.leaving.removing import Archive
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from tests.audit_log.conftest import NOW, Place
from tests.audit_log.killing import once_the_locks_are_free
from tests.audit_log.living import MUCH_LATER, archive_of, leave_the_table, objects, register
from tests.audit_log.restoring import audit_rows
from tests.audit_log.rows import FIRST, Row, moment

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
LAST_OF_MONTH = date(2024, 1, 31)
SECRET = "to-be-erased"
LONGEST_SECONDS = 0.3  # on an idle machine each of them takes about as long


def life(archive: Archive, what: str, tenant: str) -> None:
    """One of the things that happen to an archive."""
    from uuid import UUID

    if what == "compact":
        compact(archive, apply=True)
    elif what == "erase":
        Erasure(archive, Subject(UUID(tenant), None, "airbyte_connection", SECRET), "request 1").apply()
    elif what == "offboard":
        Offboarding(archive, UUID(tenant)).apply()
    else:
        expire(archive, apply=True)


def process(settings: Settings, folder: str, what: str, tenant: str) -> None:
    store = OpsStore(settings.ops_store)
    life(Archive(settings, store, AUDIT_LOG, "killed", Folder(Path(folder)), lambda: MUCH_LATER), what, tenant)


def killed(place: Place, what: str, tenant: str, seconds: float) -> bool:
    child = PROCESSES.Process(target=process, args=(place.settings, str(place.folder), what, tenant))
    child.start()
    child.join(seconds)
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


def survives(place: Place, kills: int, rng: random.Random) -> None:
    """Each kind of thing is begun and killed some times, then done; after each of them all must add up."""
    erased = [Row(place.tenants[1], moment(FIRST + timedelta(days=day), 5), resource_id=SECRET) for day in (0, 3)]
    expected = len(place.rows)
    place.add(erased)
    place.now = NOW + timedelta(days=30)
    place.archive(FIRST, LAST_OF_MONTH)
    leave_the_table(place)
    register(place, keeps=None, retired=True)
    died = 0
    for what, whose in (("compact", 0), ("erase", 1), ("offboard", 0), ("expire", 0)):
        tenant = place.tenants[whose]
        if what == "expire":
            register(place, retired=True)
        for _ in range(kills):
            died += killed(place, what, str(tenant), rng.uniform(0.02, LONGEST_SECONDS))
            during = verify_range(place.store, AUDIT_LOG, FIRST, LAST_OF_MONTH)
            assert (during.problems, during.missing) == ([], [])
        once_the_locks_are_free(partial(life, archive_of(place), what, str(tenant)), "at this moment")
        gone = {
            "compact": 0,
            "erase": 0,
            "offboard": sum(row.tenant == place.tenants[0] for row in place.rows),
            "expire": expected,
        }[what]
        found = verify_range(place.store, AUDIT_LOG, FIRST, LAST_OF_MONTH)
        assert (found.problems, found.missing, found.lingering) == ([], [], [])
        assert found.rows == expected - gone + (len(erased) if what == "compact" else 0)
        assert removal_ledger.pending(place.ops, AUDIT_LOG.name) == []
    assert objects(place) == set()
    assert died
    told = sum(row.detail["rows"] for row in audit_rows(place, "audit_log_archive_expired"))
    told += sum(row.detail["rows"] for row in audit_rows(place, "audit_log_archive_offboarded"))
    told += sum(row.detail["rows"] for row in audit_rows(place, "audit_log_archive_erased"))
    assert told == len(place.rows)


def test_twelve_kills_lose_nothing_and_leave_nothing(place: Place) -> None:
    survives(place, 3, random.Random(1))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_kills_lose_nothing_and_leave_nothing(place: Place, seed: int) -> None:
    survives(place, 5, random.Random(100 + seed))


@pytest.mark.parametrize("step", ["append", "record", "delete"])
def test_a_run_that_dies_at_a_step_is_finished_by_the_next(
    place: Place, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, at each seam: behind the manifest, behind the ledger, in the middle of the objects."""
    place.archive()
    leave_the_table(place)
    register(place)
    archive = archive_of(place)

    class Died(BaseException):
        """A death that nothing catches."""

    if step == "delete":
        deletes = iter(range(4))

        def dies(key: str) -> None:
            if next(deletes, None) is None:
                raise Died
            place.store.path(key).unlink()

        folder = place.store
        monkeypatch.setattr(folder, "delete", dies)
        archive = replace(archive, given=folder)
    else:
        target = {
            "append": "adinsights_orchestration.audit_log.bookkeeping.ledger.ArchiveLedger.record",
            "record": "adinsights_orchestration.audit_log.leaving.removing.Archive.sweep",
        }[step]
        monkeypatch.setattr(target, lambda *_: (_ for _ in ()).throw(Died()))
    with pytest.raises(Died):
        expire(archive, apply=True)
    monkeypatch.undo()
    during = verify_range(place.store, AUDIT_LOG, FIRST, FIRST + timedelta(days=5))
    assert (during.problems, during.rows, bool(during.lingering)) == ([], 0, True)
    expire(archive_of(place), apply=True)
    assert objects(place) == set()
    assert sum(row.detail["rows"] for row in audit_rows(place, "audit_log_archive_expired")) == len(place.rows)
