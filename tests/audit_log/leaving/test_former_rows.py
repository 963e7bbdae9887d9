"""What a row said before it was changed stays in the archive, and leaves it only as everything else does."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import pytest

from adinsights_orchestration.audit_log.leaving.compaction import compact
from adinsights_orchestration.audit_log.leaving.erasure import Erasure
from adinsights_orchestration.audit_log.leaving.matching import Subject
from adinsights_orchestration.audit_log.leaving.offboarding import Offboarding
from tests.audit_log.archive.test_run import archived, exactly
from tests.audit_log.conftest import Place
from tests.audit_log.leaving.test_erasure import PERSON, caused_by_the_person
from tests.audit_log.living import (
    KEEPS,
    MUCH_LATER,
    archive_of,
    expired,
    leave_the_table,
    let_the_month_end,
    objects,
    register,
    verified,
)
from tests.audit_log.restoring import empty
from tests.audit_log.rows import FIRST, Row

SECOND = FIRST + timedelta(days=1)


def compacted(place: Place) -> None:
    compact(archive_of(place), apply=True)


def row_of(place: Place, day: date, tenant: int = 0) -> Row:
    return next(row for row in place.rows if (row.day, row.tenant) == (day, place.tenants[tenant]))


def change(place: Place, row: Row) -> None:
    """As somebody does who has something to hide; the day is archived anew."""
    place.backend.execute("update accounts_auditlog set action = 'nothing to see' where id = %s", row.id)
    place.archive(row.day, row.day)


def said_of(place: Place, row: Row) -> set[str]:
    """The actions that any object of the archive has of a row, whoever names it."""
    query = "select action from read_parquet(?) where id = ?"
    paths = [str(place.store.path(key)) for key in objects(place)]
    return {action for (action,) in duckdb.execute(query, [paths, row.id]).fetchall()} if paths else set()


def said_by_anyone(place: Place) -> set[tuple[object, ...]]:
    """Every row of every object, each content once."""
    paths = [str(place.store.path(key)) for key in objects(place)]
    return set(duckdb.execute("select id, user_id, action, metadata from read_parquet(?)", [paths]).fetchall())


@pytest.fixture
def changed(place: Place) -> Place:
    """A compacted month of which two days of a tenant were changed, archived anew, and compacted again."""
    let_the_month_end(place)
    compacted(place)
    for day in (FIRST, SECOND):
        change(place, row_of(place, day))
    compacted(place)
    return place


def test_compaction_keeps_what_a_row_said_before_it_was_changed(changed: Place) -> None:
    for day in (FIRST, SECOND):
        assert said_of(changed, row_of(changed, day)) == {"login", "nothing to see"}
    found = verified(changed)
    assert (found.problems, found.rows) == ([], len(changed.rows))
    assert archived(changed) == exactly(changed.rows)


def test_a_legal_hold_has_nothing_to_stop_in_compaction(place: Place) -> None:
    let_the_month_end(place)
    register(place, legal_hold=True)
    compacted(place)
    for day in (FIRST, SECOND):
        change(place, row_of(place, day))
    before = said_by_anyone(place)
    compacted(place)
    assert said_by_anyone(place) == before


def test_a_month_ends_with_its_first_object_and_one_of_what_changed_since(changed: Place) -> None:
    mine = [key for key in objects(changed) if str(changed.tenants[0]) in key]
    assert len(mine) == 2
    assert len(objects(changed)) == len(changed.tenants) + 1
    assert compact(archive_of(changed), apply=True).months == []
    change(changed, row_of(changed, FIRST + timedelta(days=2)))
    change(changed, row_of(changed, FIRST + timedelta(days=3)))
    compacted(changed)
    assert len(objects(changed)) == len(changed.tenants) + 1
    assert said_of(changed, row_of(changed, FIRST + timedelta(days=3))) == {"login", "nothing to see"}


def test_a_row_that_is_changed_again_and_again_is_kept_as_it_was_each_time(changed: Place) -> None:
    row = row_of(changed, FIRST)
    changed.backend.execute("update accounts_auditlog set action = 'nothing at all' where id = %s", row.id)
    changed.archive(FIRST, SECOND)
    compacted(changed)
    assert said_of(changed, row) == {"login", "nothing to see", "nothing at all"}
    assert (verified(changed).problems, verified(changed).rows) == ([], len(changed.rows))


def test_what_a_row_said_before_expires_with_its_day_and_neither_earlier_nor_later(changed: Place) -> None:
    leave_the_table(changed)
    first, second = row_of(changed, FIRST), row_of(changed, SECOND)
    register(changed, keeps=(MUCH_LATER.date() - FIRST).days - 2)  # the first days are due, and the last ones are not
    assert expired(changed).rows == {}
    assert said_of(changed, first) == said_of(changed, second) == {"login", "nothing to see"}
    register(changed, keeps=KEEPS)
    assert sum(expired(changed).rows.values()) == len(changed.rows)
    assert (objects(changed), verified(changed).problems) == (set(), [])


def test_what_rows_said_before_every_day_of_a_month_was_changed_goes_with_no_day_but_the_last(place: Place) -> None:
    let_the_month_end(place)
    compacted(place)
    days = sorted({row.day for row in place.rows if row.tenant == place.tenants[0]})
    for day in days:
        change(place, row_of(place, day))
    leave_the_table(place)
    last = row_of(place, days[-1])
    register(place, keeps=(MUCH_LATER.date() - FIRST).days - 2)
    expired(place)
    assert said_of(place, last) == {"login", "nothing to see"}
    register(place, keeps=KEEPS)
    expired(place)
    assert objects(place) == set()


def test_off_boarding_takes_what_a_row_said_before_along(changed: Place) -> None:
    empty(changed)
    register(changed, keeps=None, retired=True)
    Offboarding(archive_of(changed), changed.tenants[0], "it left").apply()
    assert [key for key in objects(changed) if str(changed.tenants[0]) in key] == []
    mine = [row for row in changed.rows if row.tenant == changed.tenants[0]]
    assert (verified(changed).problems, verified(changed).rows) == ([], len(changed.rows) - len(mine))


@pytest.fixture
def forgotten(place: Place) -> Place:
    """A month with a row of a person whom the backend has deleted since; compacted before and after, out of the table.

    A row of somebody else was changed on the same day, and one on another.
    """
    theirs = caused_by_the_person(place)
    let_the_month_end(place)
    compacted(place)
    place.backend.execute("delete from accounts_user where id = %s", PERSON)
    for row in (row_of(place, FIRST), row_of(place, SECOND)):
        change(place, row)
    compacted(place)
    compacted(place)
    place.backend.execute("delete from accounts_auditlog where id = %s", theirs.id)
    return place


def erasure(place: Place) -> Erasure:
    return Erasure(archive_of(place), Subject(place.tenants[0], str(PERSON)), "request 4711")


def test_a_person_whom_the_backend_deleted_is_found_by_what_was_archived_before_however_often_it_was_compacted(
    forgotten: Place,
) -> None:
    theirs = next(row for row in forgotten.rows if row.day == FIRST and row.at.second == 7 and row.at.microsecond == 0)
    assert erasure(forgotten).plan().rows == {FIRST: 1}
    plan = erasure(forgotten).apply()
    assert (plan.rows, plan.former) == ({FIRST: 1}, 0)
    assert said_of(forgotten, theirs) == set()
    assert erasure(forgotten).plan().empty
    assert (verified(forgotten).problems, verified(forgotten).rows) == ([], len(forgotten.rows) - 1)


def test_an_erasure_leaves_what_the_rows_of_others_said_before_and_so_does_the_next_compaction(
    forgotten: Place,
) -> None:
    erasure(forgotten).apply()
    others = [row_of(forgotten, FIRST), row_of(forgotten, SECOND)]
    for day in (FIRST + timedelta(days=2), FIRST + timedelta(days=3)):
        change(forgotten, row_of(forgotten, day))
        others.append(row_of(forgotten, day))
    compacted(forgotten)
    assert [said_of(forgotten, row) for row in others] == [{"login", "nothing to see"}] * 4
    assert len([key for key in objects(forgotten) if str(forgotten.tenants[0]) in key]) == 2
    leave_the_table(forgotten)
    register(forgotten, keeps=(MUCH_LATER.date() - FIRST).days - 2)
    assert expired(forgotten).rows == {}
    register(forgotten, keeps=KEEPS)
    expired(forgotten)
    assert (objects(forgotten), verified(forgotten).problems) == (set(), [])


def test_what_others_said_before_in_an_object_that_goes_as_a_whole_is_counted(place: Place) -> None:
    theirs = caused_by_the_person(place)
    let_the_month_end(place)
    place.backend.execute("delete from accounts_user where id = %s", PERSON)
    change(place, row_of(place, FIRST))
    place.backend.execute("delete from accounts_auditlog where id = %s", theirs.id)
    beside = [row for row in place.rows if (row.day, row.tenant) == (FIRST, place.tenants[0]) and row != theirs]
    assert erasure(place).plan().former == len(beside)
    assert erasure(place).apply().former == len(beside)
    assert said_of(place, row_of(place, FIRST)) == {"nothing to see"}
    assert said_of(place, theirs) == set()
