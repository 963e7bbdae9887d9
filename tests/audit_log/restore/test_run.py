"""Restoring from the archive: what comes back is what was archived, once, and nothing else is touched."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from tests.audit_log.conftest import DAYS, Place
from tests.audit_log.restoring import (
    LATER,
    RESTORED,
    UNTIL,
    all_days,
    empty,
    restore,
    restore_live,
    retention,
    rows_of,
)
from tests.audit_log.rows import TABLE


@pytest.fixture
def full(place: Place) -> Place:
    place.archive()
    return place


def test_rows_come_back_into_a_table_of_their_own_as_they_were(full: Place) -> None:
    before = rows_of(full)
    empty(full)
    report = restore(full)
    assert rows_of(full, RESTORED) == before
    assert rows_of(full) == []
    total = report.total
    assert (total.came, total.archived, total.there, report.well) == (len(before), len(before), 0, True)
    assert report.days == DAYS * len(full.tenants)


def test_restoring_twice_brings_nothing_twice(full: Place) -> None:
    before = rows_of(full)
    restore(full)
    again = restore(full).total
    assert (again.came, again.there, again.changed) == (0, len(before), 0)
    assert rows_of(full, RESTORED) == before


def test_rows_that_are_there_stay_as_they_are(full: Place) -> None:
    before = rows_of(full)
    kept, gone = before[0], before[1]
    full.backend.execute(f"update {TABLE} set action = 'changed' where id = %s", kept[0])
    full.backend.execute(f"delete from {TABLE} where id = %s", gone[0])
    total = restore_live(full).total
    assert (total.came, total.there, total.changed) == (1, len(before) - 1, 1)
    after = {row[0]: row for row in rows_of(full)}
    assert after[gone[0]] == gone
    assert after[kept[0]] == (*kept[:3], "changed", *kept[4:])
    assert len(after) == len(before)


def test_restored_rows_are_held_from_retention_until_the_hold_ends(full: Place) -> None:
    before = rows_of(full)
    world = retention(full)
    assert world.retain(now=LATER).rows == len(before)
    assert rows_of(full) == []
    assert restore_live(full).total.came == len(before)
    assert rows_of(full) == before
    assert world.retain(now=UNTIL - timedelta(hours=1)).rows == 0
    assert rows_of(full) == before
    after = world.retain(now=UNTIL + timedelta(hours=1), rearchive=False)
    assert (after.rows, after.unequal) == (len(before), [])
    assert rows_of(full) == []


def test_one_tenants_rows_come_back_without_reading_anybody_elses(full: Place) -> None:
    one, *others = full.tenants
    for other in others:
        for path in full.folder.rglob(f"tenant_id={other}"):
            shutil.rmtree(path)
    report = restore(full, all_days(one))
    assert report.well
    assert {row[1] for row in rows_of(full, RESTORED)} == {one}
    assert report.total.came == sum(row.tenant == one for row in full.rows)
