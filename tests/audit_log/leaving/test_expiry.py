"""Days whose time in the archive is over leave it, and the chain says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adinsights_orchestration.audit_log import holds
from adinsights_orchestration.audit_log.bookkeeping.removal_ledger import pending
from adinsights_orchestration.audit_log.leaving.expiry import Stays
from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.errors import RefusedError, StoreError
from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.tenants.model import ResourceHold
from tests.audit_log.conftest import DAYS, LAST, Place
from tests.audit_log.living import (
    MUCH_LATER,
    archive_of,
    expired,
    leave_the_table,
    objects,
    register,
    rows_by_day,
    verified,
)
from tests.audit_log.restoring import audit_rows
from tests.audit_log.rows import FIRST


@pytest.fixture
def old(place: Place) -> Place:
    """Archived, out of the table, and past everybody's time."""
    place.archive()
    leave_the_table(place)
    register(place)
    return place


def test_what_is_due_leaves_and_the_chain_says_what_and_why(old: Place) -> None:
    report = expired(old)
    assert sum(report.rows.values()) == len(old.rows)
    assert (objects(old), report.swept.removed, report.pending) == (set(), report.objects, 0)
    found = verified(old)
    assert (found.problems, found.missing, found.lingering, found.rows, found.days) == ([], [], [], 0, DAYS)
    (removed,) = found.removed
    assert (removed.cause.value, removed.actor, removed.rows) == ("expired", "a test", len(old.rows))
    assert removed.tenants == tuple(old.tenants)
    assert "expired" in str(removed)


def test_by_hand_nothing_happens_and_what_would_is_told(old: Place) -> None:
    before = objects(old)
    told = expired(old, apply=False)
    assert objects(old) == before
    assert verified(old).removed == []
    assert expired(old).rows == told.rows


def test_doing_it_again_does_nothing(old: Place) -> None:
    expired(old)
    manifests = verified(old).manifests
    again = expired(old)
    assert (again.rows, again.swept.removed, verified(old).manifests) == ({}, 0, manifests)


def test_days_are_kept_to_the_end_of_their_time(old: Place) -> None:
    register(old, keeps=(MUCH_LATER.date() - FIRST).days - 2)
    report = expired(old)
    assert {day for _, day in report.rows} == {FIRST, FIRST + timedelta(days=1)}
    assert verified(old).rows == len(old.rows) - sum(report.rows.values())


def test_who_has_no_such_contract_is_kept_for_ever(old: Place) -> None:
    register(old, keeps=None)
    assert expired(old).rows == {}


@pytest.mark.parametrize("hold", [{"legal_hold": True}, {"legal_holds": (ResourceHold("airbyte_connection", "1"),)}])
def test_a_legal_hold_keeps_all_of_the_tenant(old: Place, hold: dict[str, Any]) -> None:
    register(old, **hold)
    report = expired(old)
    assert {tenant for tenant, _ in report.rows} == set(old.tenants[1:])
    assert set(report.stays.values()) == {Stays.LEGAL_HOLD}
    assert verified(old).rows == sum(rows_by_day(old, old.tenants[0]).values())


def test_what_is_in_the_table_or_restored_stays(place: Place) -> None:
    place.archive()
    register(place)
    assert set(expired(place).stays.values()) == {Stays.IN_TABLE}
    leave_the_table(place)
    until = MUCH_LATER + timedelta(days=9)
    hold = Hold(HoldKind.RESTORE, "restored", first_day=FIRST, last_day=LAST, until=until)
    with place.ops.begin() as connection:
        holds.add_hold(connection, AUDIT_LOG.name, hold, "a test", MUCH_LATER)
    report = expired(place)
    assert (report.rows, set(report.stays.values())) == ({}, {Stays.RESTORED})


def test_earlier_revisions_of_a_day_leave_with_it(place: Place) -> None:
    place.archive()
    place.backend.execute("update accounts_auditlog set action = 'logout'")
    place.archive()
    before = objects(place)
    leave_the_table(place)
    register(place)
    assert expired(place).objects == len(before)
    assert objects(place) == set()
    assert verified(place).problems == []


def test_each_tenant_gets_one_audit_row_for_a_run(old: Place) -> None:
    report = expired(old)
    rows = audit_rows(old, "audit_log_archive_expired")
    assert sorted(str(row.tenant_id) for row in rows) == sorted(map(str, old.tenants))
    assert sum(row.detail["rows"] for row in rows) == sum(report.rows.values())
    expired(old)
    assert len(audit_rows(old, "audit_log_archive_expired")) == len(old.tenants)


class Locked:
    """The folder, of which nothing may be removed."""

    def __init__(self, place: Place, error: type[StoreError] = RefusedError) -> None:
        self._under, self._error = place.store, error
        self.url = self._under.url

    def __getattr__(self, name: str) -> object:
        return getattr(self._under, name)

    def delete(self, key: str) -> None:
        raise self._error("no", place=key)


def test_a_store_that_keeps_objects_is_a_state_and_is_asked_again(old: Place) -> None:
    report = expired(old, store=Locked(old))  # type: ignore[arg-type]
    assert (report.swept.removed, len(report.swept.refused), report.pending) == (0, report.objects, report.objects)
    found = verified(old)
    assert (found.problems, len(found.lingering)) == ([], report.objects)
    assert {each.refusal is not None for each in pending(old.ops, AUDIT_LOG.name)} == {True}
    assert expired(old).swept.removed == report.objects
    assert verified(old).lingering == []


def test_a_store_that_is_away_leaves_objects_for_the_next_run(old: Place) -> None:
    report = expired(old, store=Locked(old, StoreError))  # type: ignore[arg-type]
    assert (report.swept.removed, report.swept.left, report.swept.problem != "") == (0, report.objects, True)
    assert expired(old).swept.removed == report.objects


def test_rows_that_come_again_are_archived_again_and_stay(old: Place) -> None:
    expired(old, store=Locked(old))  # type: ignore[arg-type]
    back = [row for row in old.rows if row.day == FIRST]
    old.rows = []
    old.add(back)
    old.archive(FIRST, FIRST)
    register(old)
    expired(old)
    found = verified(old)
    assert (found.problems, found.rows, found.lingering) == ([], len(back), [])


def test_a_ledger_that_was_lost_is_made_anew_with_what_left(old: Place) -> None:
    expired(old)
    counts = old.archiver()._ledger.days(FIRST, LAST)
    with old.ops.begin() as connection:
        for table in ("audit_manifest", "audit_day", "audit_chunk", "audit_removal", "audit_gone_object"):
            connection.exec_driver_sql(f"delete from adinsights_ops.{table}")
    old.archiver().catch_up()
    anew = old.archiver()._ledger.days(FIRST, LAST)
    assert {day: (each.rows, each.size, each.files) for day, each in anew.items()} == dict.fromkeys(counts, (0, 0, 0))
    assert old.archiver()._ledger.in_force(FIRST, LAST) == {}


@pytest.mark.parametrize("what", ["a file", "a tombstone's"])
def test_what_is_missing_without_a_tombstone_is_a_problem_all_the_same(old: Place, what: str) -> None:
    register(old, keeps=(MUCH_LATER.date() - FIRST).days - 2)
    expired(old)
    assert verified(old).problems == []
    if what == "a file":
        old.store.delete(min(objects(old)))
    else:
        old.store.delete(f"audit/v1/accounts_auditlog/chain/{verified(old).manifests:08d}.json")
    assert all("missing" in problem for problem in verified(old).problems)
    assert verified(old).problems


def test_what_left_is_not_read_any_more(old: Place) -> None:
    register(old, keeps=(MUCH_LATER.date() - FIRST).days - 2)
    report = expired(old)
    answer = ask(old.store, AUDIT_LOG, Question(sql="select count(*) from audit_log"))
    assert answer.rows == [(len(old.rows) - sum(report.rows.values()),)]


def test_nothing_leaves_a_chain_that_is_not_in_order(old: Place) -> None:
    for number, said in ((DAYS, "lacks the last manifest"), (DAYS - 1, "not in order")):
        key = f"audit/v1/accounts_auditlog/chain/{number:08d}.json"
        content = old.store.get(key)
        old.store.delete(key)
        with pytest.raises(AdinsightsError, match=said):
            expired(old)
        old.store.create(key, content)
    assert archive_of(old).clock() == datetime(2026, 6, 1, 7, tzinfo=UTC)
