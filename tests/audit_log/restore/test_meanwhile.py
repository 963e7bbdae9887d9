"""What others do to the archive while a restore or a mending is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adinsights_orchestration.audit_log.leaving import mending
from adinsights_orchestration.audit_log.leaving.compaction import compact
from adinsights_orchestration.audit_log.restore import run as restore_run
from adinsights_orchestration.audit_log.restore.run import Restore
from adinsights_orchestration.audit_log.restore.target import RestoreError
from adinsights_orchestration.audit_log.retention import chunks
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from tests.audit_log.conftest import Place
from tests.audit_log.living import (
    LAST_OF_MONTH,
    archive_of,
    leave_the_table,
    let_the_month_end,
    objects,
)
from tests.audit_log.restoring import RESTORED, empty, restore, restore_live, rows_of
from tests.audit_log.rows import FIRST, Row, moment


def before(monkeypatch: pytest.MonkeyPatch, where: object, name: str, work: Callable[[], object]) -> None:
    """Has this happen once, right before something of the restore is called."""
    original, due = getattr(where, name), [work]

    def first(*arguments: Any, **named: Any) -> Any:
        if due:
            due.pop()()
        return original(*arguments, **named)

    monkeypatch.setattr(where, name, first)


@pytest.fixture
def month(place: Place) -> Place:
    """A month that is over and archived."""
    return let_the_month_end(place)


def rows_that_should_be_there(place: Place) -> int:
    with place.ops.begin() as connection:
        return sum(chunks.rows_in_table(connection, AUDIT_LOG.name).values())


def test_what_is_archived_anew_before_the_locks_are_held_is_what_comes_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.archive()

    def archived_anew() -> None:
        place.add([Row(place.tenants[0], moment(FIRST, 9))])
        place.archive()
        leave_the_table(place)

    before(monkeypatch, Restore, "_locks", archived_anew)
    report = restore_live(place)
    assert (report.problems, report.total.came) == ([], len(place.rows))
    assert len(rows_of(place)) == rows_that_should_be_there(place) == len(place.rows)


def test_a_day_that_is_archived_anew_during_a_live_restore_is_not_brought_back_unknown_to_retention(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.archive()
    leave_the_table(place)

    def archived_anew() -> None:
        place.add([Row(place.tenants[0], moment(FIRST, 9))])
        place.archive()

    before(monkeypatch, Restore, "_hold", archived_anew)
    with pytest.raises(RestoreError, match="were archived anew while"):
        restore_live(place)
    assert len(rows_of(place)) == rows_that_should_be_there(place)
    assert restore_live(place).problems == []
    assert len(rows_of(place)) == rows_that_should_be_there(place) == len(place.rows)


def test_objects_that_are_compacted_while_they_are_restored_are_read_where_they_lie_by_now(
    month: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = rows_of(month)
    empty(month)
    before(monkeypatch, restore_run, "_read", lambda: compact(archive_of(month), apply=True))
    report = restore(month)
    assert len(objects(month)) == len(month.tenants)
    assert (report.problems, report.total.came) == ([], len(kept))
    assert rows_of(month, RESTORED) == kept


def test_an_object_that_is_missing_for_no_reason_is_told_once(month: Place) -> None:
    lost = min(objects(month))
    month.store.delete(lost)
    (problem,) = restore(month).problems
    assert "missing" in problem


def test_objects_that_are_compacted_while_they_are_looked_at_are_not_taken_for_damaged(
    month: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(monkeypatch, mending, "unreadable", lambda: compact(archive_of(month), apply=True))
    report = mending.mend(archive_of(month), FIRST, LAST_OF_MONTH, apply=False)
    assert (report.damages, report.objects) == ({}, len(month.tenants))
