"""Archive, retention and writers at work on one table at once: nothing is deleted that the archive does not hold."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

from adinsights_orchestration.audit_log.archive.run import ArchiveError, Archiver
from adinsights_orchestration.audit_log.bookkeeping.chain import follow
from adinsights_orchestration.audit_log.bookkeeping.manifest import newest
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.retention.again import archive_again
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG, SourceError
from adinsights_orchestration.ops_store.store import OpsStore
from tests.audit_log.archive.test_run import archived
from tests.audit_log.conftest import DAYS, LAST, Place
from tests.audit_log.restoring import LATER, retention
from tests.audit_log.rows import FIRST, Row, ids, moment

ROUNDS = 2
_PATIENCE = 600


def test_nothing_is_deleted_unarchived_while_both_run_and_rows_come_late(place: Place) -> None:
    retention(place)
    place.archive()
    busy, over = _Rows(place), threading.Event()

    def archive(store: OpsStore) -> None:
        Archiver(place.settings, store, AUDIT_LOG, place.store, lambda: LATER).run(FIRST, LAST, actor="a test")

    def retain(store: OpsStore) -> None:
        again = archive_again(place.settings, store)
        Retention(place.settings, store, AUDIT_LOG, lambda: LATER, "a test", again, apply=True).run()

    def insert() -> None:
        while not over.wait(0.02):
            busy.add()

    with ThreadPoolExecutor(3) as pool:
        writer = pool.submit(insert)
        workers = [pool.submit(_again, place, work) for work in (archive, retain)]
        wait(workers)
        over.set()
    for work in (writer, *workers):
        work.result()
    place.rows += busy.written
    in_archive, in_table = archived(place), ids(place.backend.dsn)
    assert {row.id for row in place.rows} == set(in_archive) | in_table
    assert max(in_archive.values()) == 1
    assert set(in_archive) - in_table  # retention did delete
    report = verify_range(place.store, AUDIT_LOG, FIRST, LAST)
    assert (report.problems, report.missing) == ([], [])
    _once(place, retain)
    assert ids(place.backend.dsn) == set()
    assert set(archived(place)) == {row.id for row in place.rows}
    chunks = newest(list(follow(place.store, AUDIT_LOG.name))).values()
    assert sum(chunk.rows for chunk, _ in chunks) == len(place.rows)


class _Rows:
    """Writes rows of long ago, as a slow transaction or a restored backup would."""

    def __init__(self, place: Place) -> None:
        self._place, self._rng = place, random.Random(11)
        self.written: list[Row] = []

    def add(self) -> None:
        day = FIRST + timedelta(days=self._rng.randrange(DAYS))
        rows = [Row(self._rng.choice(self._place.tenants), moment(day, self._rng.uniform(0, 86_399))) for _ in range(3)]
        before = list(self._place.rows)
        self._place.add(rows)
        self._place.rows = before
        self.written += rows


def _again(place: Place, work: Callable[[OpsStore], None]) -> None:
    for _ in range(ROUNDS):
        _once(place, work)


def _once(place: Place, work: Callable[[OpsStore], None]) -> None:
    store = OpsStore(place.settings.ops_store)
    try:
        for _ in range(_PATIENCE):
            try:
                return work(store)
            except (ArchiveError, SourceError) as error:  # the other one has the lock, or is half-way through a day
                if "already" not in str(error) and "half-way" not in str(error):
                    raise
                threading.Event().wait(0.05)
        raise AssertionError("the lock is never free")
    finally:
        store.dispose()
