"""A month's small objects become few; whoever reads the archive notices nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from adinsights_orchestration.audit_log.archive.automation import _read_back
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.leaving.compaction import CompactionReport, compact, settled_months
from adinsights_orchestration.audit_log.leaving.erasure import Erasure
from adinsights_orchestration.audit_log.leaving.matching import Subject
from adinsights_orchestration.audit_log.leaving.removing import RemovalError
from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.contract import InPlace, Store
from adinsights_orchestration.clock import Clock
from tests.audit_log.archive.test_run import archived, exactly
from tests.audit_log.conftest import DAYS, Place
from tests.audit_log.living import (
    KEEPS,
    LAST_OF_MONTH,
    MUCH_LATER,
    archive_of,
    expired,
    leave_the_table,
    let_the_month_end,
    objects,
    register,
    verified,
)
from tests.audit_log.restoring import audit_rows, restore, retention, rows_of
from tests.audit_log.rows import FIRST, Row, moment


@pytest.fixture
def month(place: Place) -> Place:
    """A month that is over; its rows are still in the table."""
    return let_the_month_end(place)


def compacted(place: Place, *, apply: bool = True, month: date | None = None) -> CompactionReport:
    return compact(archive_of(place), apply=apply, month=month)


def count(place: Place, question: Question | None = None) -> int:
    return len(ask(place.store, AUDIT_LOG, question or Question(limit=100_000)).rows)


def test_a_tenants_month_becomes_one_object_and_no_row_changes(month: Place) -> None:
    before = objects(month)
    (told,) = compacted(month).months
    assert (told.before, told.after, told.tenants) == (len(before), len(month.tenants), len(month.tenants))
    assert {chain.is_of_month(key) for key in objects(month)} == {True}
    assert len(objects(month)) == len(month.tenants)
    found = verified(month)
    assert (found.problems, found.missing, found.lingering, found.rows) == ([], [], [], len(month.rows))
    assert [(each.cause.value, each.rows) for each in found.removed] == [("compacted", 0)]
    assert archived(month) == exactly(month.rows)


def at(moment: datetime) -> Clock:
    return lambda: moment


def test_within_thirty_nights_each_of_its_objects_is_read_back_once(month: Place) -> None:
    compacted(month)
    moments = [MUCH_LATER + timedelta(days=number) for number in range(30)]
    nights = [_read_back(month.settings, month.ops, AUDIT_LOG, at(each)) for each in moments]
    assert [night.problems for night in nights] == [[]] * 30
    assert sum(night.objects for night in nights) == len(objects(month))
    assert sum(night.rows for night in nights) == len(month.rows)


def test_by_hand_it_tells_and_doing_it_again_does_nothing(month: Place) -> None:
    before = objects(month)
    (told,) = compacted(month, apply=False).months
    assert (objects(month), told.before) == (before, len(before))
    compacted(month)
    assert compacted(month).months == []
    assert compacted(month, apply=False).months == []


def test_questions_are_answered_from_it_as_before(month: Place) -> None:
    compacted(month)
    one = Question(tenant=month.tenants[1], first=FIRST, last=FIRST, limit=1000)
    mine = [row for row in month.rows if row.tenant == month.tenants[1]]
    assert count(month, one) == len([row for row in mine if row.day == FIRST])
    by_sql = Question(tenant=month.tenants[1], last=FIRST, sql="select * from audit_log")
    assert count(month, by_sql) == count(month, one)
    assert count(month) == len(month.rows)


class Meanwhile:
    """The store of a reader in whose way somebody else does something, once, about its first object."""

    def __init__(self, store: Store, happens: Callable[[], object], *, after: bool = False) -> None:
        self._store, self._happens, self._after, self._over = store, happens, after, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def in_place(self, key: str) -> InPlace | None:
        if self._after:
            found = self._store.in_place(key)
            self._once()
            return found
        self._once()
        return self._store.in_place(key)

    def _once(self) -> None:
        if self._over.acquire(blocking=False):
            self._happens()


AFTER = pytest.mark.parametrize("after", [False, True], ids=["before it is hashed", "before it is decoded"])


@AFTER
def test_who_reads_while_a_month_is_compacted_finds_everything_and_is_alarmed_by_nothing(
    month: Place, after: bool
) -> None:
    store: Any = Meanwhile(month.store, lambda: compacted(month), after=after)
    found = verify_range(store, AUDIT_LOG, FIRST, LAST_OF_MONTH)
    assert (found.problems, found.rows) == ([], len(month.rows))
    assert found.head == verified(month).head


@AFTER
def test_who_asks_while_a_month_is_compacted_is_answered(month: Place, after: bool) -> None:
    store: Any = Meanwhile(month.store, lambda: compacted(month), after=after)
    assert len(ask(store, AUDIT_LOG, Question(limit=100_000)).rows) == len(month.rows)


@AFTER
def test_what_is_missing_although_nobody_removed_it_is_told_all_the_same(month: Place, after: bool) -> None:
    gone = min(objects(month))
    store: Any = Meanwhile(month.store, lambda: month.store.delete(gone), after=after)
    assert [gone in problem for problem in verify_range(store, AUDIT_LOG, FIRST, LAST_OF_MONTH).problems] == [True]
    with pytest.raises(ContentError):
        ask(month.store, AUDIT_LOG, Question(limit=100_000))


def test_a_day_that_is_archived_anew_counts_once(month: Place) -> None:
    compacted(month)
    month.add([Row(month.tenants[0], moment(FIRST, 5))])
    month.archive(FIRST, FIRST)
    assert (verified(month).problems, verified(month).rows, count(month)) == ([], len(month.rows), len(month.rows))
    assert archived(month) == exactly(month.rows)
    compacted(month)
    assert (len(objects(month)), count(month)) == (len(month.tenants) + 1, len(month.rows)), "with the first revision"
    assert verified(month).problems == []


def test_rows_are_restored_from_it(month: Place) -> None:
    compacted(month)
    leave_the_table(month)
    report = restore(month)
    assert (report.problems, len(rows_of(month, report.into))) == ([], len(month.rows))


def test_retention_deletes_what_lies_in_it(month: Place) -> None:
    from adinsights_orchestration.audit_log.retention.again import not_held_any_more
    from adinsights_orchestration.audit_log.retention.run import Retention

    compacted(month)
    world = retention(month)
    unproven = not_held_any_more(month.settings, month.ops)
    run = Retention(world.settings, month.ops, AUDIT_LOG, lambda: MUCH_LATER, "a test", None, True, unproven)
    report = run.run()
    assert (report.rows, report.unproven, report.unequal) == (len(month.rows), {}, [])


def test_an_object_of_a_month_expires_when_all_of_it_is_due(month: Place) -> None:
    compacted(month)
    leave_the_table(month)
    register(month, keeps=(MUCH_LATER.date() - FIRST).days - 2)
    assert expired(month).rows == {}
    register(month, keeps=KEEPS)
    assert sum(expired(month).rows.values()) == len(month.rows)
    assert (objects(month), verified(month).problems) == (set(), [])


def test_one_things_rows_are_erased_from_it_those_of_days_archived_anew_too(month: Place) -> None:
    month.add([Row(month.tenants[0], moment(FIRST, 7), resource_id="secret")])
    month.archive(FIRST, FIRST)
    compacted(month)
    month.backend.execute("delete from accounts_auditlog where resource_id = 'secret'")
    month.add([Row(month.tenants[0], moment(FIRST, 8))])
    month.archive(FIRST, FIRST)
    subject = Subject(month.tenants[0], resource_type="airbyte_connection", resource_id="secret")
    Erasure(archive_of(month), subject, "request 1").apply()
    for key in objects(month):
        assert b"secret" not in ask_file(month, key)
    assert (verified(month).problems, verified(month).rows) == ([], len(month.rows) - 1)


def ask_file(place: Place, key: str) -> bytes:
    import duckdb

    path = str(place.store.path(key))
    return repr(duckdb.execute("select resource_id from read_parquet(?)", [path]).fetchall()).encode()


def test_a_damaged_object_leaves_its_month_as_it_was(month: Place) -> None:
    before = objects(month)
    path = month.store.path(min(before))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ContentError):
        compacted(month)
    assert before <= objects(month)
    assert len(verified(month).problems) == 1


def test_each_tenant_gets_one_audit_row(month: Place) -> None:
    compacted(month)
    rows = audit_rows(month, "audit_log_archive_compacted")
    assert sorted(str(row.tenant_id) for row in rows) == sorted(map(str, month.tenants))
    assert {row.detail["rows"] for row in rows} == {0}


def test_the_ledger_counts_bytes_and_objects_as_they_are(month: Place) -> None:
    compacted(month)
    days = month.archiver()._ledger.days(FIRST, LAST_OF_MONTH).values()
    sizes = [month.store.path(key).stat().st_size for key in objects(month)]
    assert (sum(day.files for day in days), sum(day.size for day in days)) == (len(sizes), sum(sizes))
    assert sum(day.rows for day in days) == len(month.rows)


def test_a_month_must_be_over_and_archived(place: Place) -> None:
    place.archive()
    register(place)
    assert compacted(place).months == []
    with pytest.raises(RemovalError, match="not settled"):
        compacted(place, month=FIRST)
    days = set(span(date(2024, 1, 15), date(2024, 3, 31)))
    first = date(2024, 1, 15)
    assert list(settled_months(first, date(2024, 3, 8), days)) == [
        (first, LAST_OF_MONTH),
        (date(2024, 2, 1), date(2024, 2, 29)),
    ]
    assert list(settled_months(first, date(2024, 3, 7), days - {date(2024, 1, 20)})) == []
    assert len(days) > DAYS
