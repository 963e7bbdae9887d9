"""One person's rows leave the archive; everybody else's stay, and the chain holds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import duckdb
import pytest

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.links import Links
from adinsights_orchestration.audit_log.leaving.erasure import Erasure, ErasurePlan
from adinsights_orchestration.audit_log.leaving.matching import Subject, SubjectError
from adinsights_orchestration.audit_log.leaving.removing import RemovalError
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.plan_digest import PlanChangedError
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.living import archive_of, leave_the_table, objects, register, verified
from tests.audit_log.restoring import audit_rows, restore, rows_of
from tests.audit_log.rows import FIRST, Row, moment

PERSON = uuid.UUID("11111111-2222-4333-8444-555555555555")
SECRET = "campaign-of-erased"


def erasure(place: Place, **subject: str) -> Erasure:
    wanted = subject or {"person": str(PERSON).upper()}
    return Erasure(archive_of(place), Subject(place.tenants[0], **wanted), "request 4711")


def everything(place: Place) -> Iterator[tuple[UUID, UUID | None, str]]:
    """Every row of every object that is in the store, whoever names it."""
    for key in sorted(objects(place)):
        path = str(place.store.path(key))
        yield from duckdb.execute(f"select id, user_id, resource_id from read_parquet('{path}')").fetchall()


def caused_by_the_person(place: Place) -> Row:
    """One row of theirs, in the table."""
    row = Row(place.tenants[0], moment(FIRST, 7))
    place.add([row])
    place.backend.execute("insert into accounts_user values (%s, %s, 'a@example.com')", PERSON, place.tenants[0])
    place.backend.execute("update accounts_auditlog set user_id = %s where id = %s", PERSON, row.id)
    return row


@pytest.fixture
def theirs(place: Place) -> Place:
    """Three days with rows of a person, of which one is archived twice; out of the table."""
    place.backend.execute(
        "insert into accounts_user values (%s, %s, 'a@example.com')",
        PERSON,
        place.tenants[0],
    )
    place.add([Row(place.tenants[0], moment(FIRST + timedelta(days=day), 7), resource_id=SECRET) for day in (0, 1, 4)])
    place.backend.execute("update accounts_auditlog set user_id = %s where resource_id = %s", PERSON, SECRET)
    place.archive()
    place.add([Row(place.tenants[0], moment(FIRST, 9))])
    place.archive()
    leave_the_table(place)
    register(place)
    return place


def test_only_the_persons_rows_leave_and_nothing_of_them_stays(theirs: Place) -> None:
    before = verified(theirs)
    plan = erasure(theirs).apply()
    assert plan.rows == {FIRST + timedelta(days=day): 1 for day in (0, 1, 4)}
    left = list(everything(theirs))
    assert {row[1] for row in left} == {None}
    found = verified(theirs)
    assert (found.problems, found.missing, found.rows) == ([], [], before.rows - 3)
    (removed,) = found.removed
    assert (removed.cause.value, removed.rows, removed.reason) == ("erased", 3, "request 4711")


def test_the_chain_does_not_say_who_was_erased(theirs: Place) -> None:
    erasure(theirs).apply()
    for key in theirs.store.keys("audit/v1/accounts_auditlog/chain/"):
        content = theirs.store.get(key)
        assert str(PERSON).encode() not in content
        assert SECRET.encode() not in content
    (row,) = audit_rows(theirs, "audit_log_archive_erased")
    assert (row.tenant_id, row.detail["rows"]) == (theirs.tenants[0], 3)
    assert str(PERSON) not in str(row.detail)


def test_rows_about_a_thing_leave_by_its_type_and_id(theirs: Place) -> None:
    plan = erasure(theirs, resource_type="airbyte_connection", resource_id=SECRET).apply()
    assert sum(plan.rows.values()) == 3
    assert SECRET not in {row[2] for row in everything(theirs)}


def test_the_plan_changes_nothing_and_only_the_plan_that_was_read_is_done(theirs: Place) -> None:
    before = objects(theirs)
    read: ErasurePlan = erasure(theirs).plan()
    with pytest.raises(PlanChangedError):
        erasure(theirs).apply("another")
    assert objects(theirs) == before
    assert erasure(theirs).apply(read.digest).digest == read.digest
    assert erasure(theirs).plan().empty


def test_rows_that_are_in_the_table_must_go_there_first(place: Place) -> None:
    place.archive()
    register(place)
    with pytest.raises(RemovalError, match="in the table"):
        erasure(place, resource_type="airbyte_connection").apply()


def test_a_row_whose_user_the_backend_has_deleted_is_found_in_the_table_by_its_key(place: Place) -> None:
    row = caused_by_the_person(place)
    place.archive()
    place.backend.execute("delete from accounts_user where id = %s", PERSON)  # the key empties user_id, the row stays
    register(place)
    before = objects(place)
    assert erasure(place).plan().in_table == [(str(row.id),)]
    with pytest.raises(RemovalError, match="in the table"):
        erasure(place).apply()
    assert objects(place) == before


def test_a_row_that_was_archived_again_without_its_user_goes_from_every_revision(place: Place) -> None:
    row = caused_by_the_person(place)
    place.archive()
    place.backend.execute("delete from accounts_user where id = %s", PERSON)
    place.archive()
    place.backend.execute("delete from accounts_auditlog where id = %s", row.id)
    register(place)
    plan = erasure(place).apply()
    assert (plan.rows, plan.in_table) == ({FIRST: 1}, [])
    assert row.id not in {each[0] for each in everything(place)}
    assert (verified(place).problems, verified(place).rows) == ([], len(place.rows) - 1)
    assert [(day.late, day.vanished) for day in place.archive().days if day.late or day.vanished] == []
    assert row.id not in {each[0] for each in everything(place)}


def test_a_row_that_only_a_run_that_died_saw_with_its_user_goes_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        """Behind its objects, before the manifest."""

    def dies(*_: object) -> None:
        raise DiedError

    row = caused_by_the_person(place)
    with monkeypatch.context() as patched:
        patched.setattr(chain, "append", dies)
        with pytest.raises(DiedError):
            place.archive()
    place.backend.execute("delete from accounts_user where id = %s", PERSON)
    place.archive()
    place.backend.execute("delete from accounts_auditlog where id = %s", row.id)
    register(place)
    assert erasure(place).apply().rows == {FIRST: 1}
    assert row.id not in {each[0] for each in everything(place)}


def test_the_ledger_counts_an_object_once_that_lay_beside_one_that_was_written_anew(place: Place) -> None:
    row = caused_by_the_person(place)
    place.archive()
    place.backend.execute("delete from accounts_auditlog where id = %s", row.id)
    place.archive()  # what the table has lost lies in an object of its own
    register(place)
    erasure(place).apply()
    links = Links(place.store, AUDIT_LOG.name)
    links.follow()
    standing = links.standing(FIRST)
    sizes = [standing.files[key].size for key in standing.users()]
    days = place.archiver()._ledger.days(FIRST, LAST).values()
    assert (sum(day.files for day in days), sum(day.size for day in days)) == (len(sizes), sum(sizes))


def test_a_legal_hold_refuses(theirs: Place) -> None:
    register(theirs, legal_hold=True)
    with pytest.raises(RemovalError, match="legal hold"):
        erasure(theirs).apply()


def test_a_day_whose_other_rows_are_in_the_table_can_still_be_archived_and_deleted(place: Place) -> None:
    place.add([Row(place.tenants[0], moment(FIRST, 7), resource_id=SECRET)])
    place.archive()
    place.backend.execute("delete from accounts_auditlog where resource_id = %s", SECRET)
    register(place)
    erasure(place, resource_type="airbyte_connection", resource_id=SECRET).apply()
    report = place.archive()
    assert [day.vanished for day in report.days if day.vanished] == []
    found = verified(place)
    assert (found.problems, found.rows) == ([], len(place.rows) - 1)
    assert SECRET not in {row[2] for row in everything(place)}


def test_what_is_left_can_be_restored(theirs: Place) -> None:
    erasure(theirs).apply()
    report = restore(theirs)
    assert [("erased, 3 rows" in said) for said in report.left] == [True]
    assert (report.problems, len(rows_of(theirs, report.into))) == ([], len(theirs.rows) - 3)


def test_objects_of_runs_that_died_go_and_damaged_ones_in_force_refuse(theirs: Place) -> None:
    mine = sorted(key for key in objects(theirs) if chain.tenant_of_key(key) == theirs.tenants[0])
    stray = chain.data_key(AUDIT_LOG.name, theirs.tenants[0], "2024-01-01", uuid.uuid4().hex)
    theirs.store.create(stray, theirs.store.get(mine[0]))
    erasure(theirs).apply()
    assert stray not in objects(theirs)
    path = theirs.store.path(max(key for key in objects(theirs) if chain.tenant_of_key(key) == theirs.tenants[0]))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match="have changed"):
        erasure(theirs).plan()


def test_what_a_run_that_died_had_written_already_is_not_taken_for_a_leftover(
    theirs: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        """Behind the new objects, before the manifest."""

    def dies(*_: object) -> None:
        raise DiedError

    before = objects(theirs)
    with monkeypatch.context() as patched:
        patched.setattr("adinsights_orchestration.audit_log.leaving.removing.Archive.bury", dies)
        with pytest.raises(DiedError):
            erasure(theirs).apply()
    written = objects(theirs) - before
    assert written
    assert written <= erasure(theirs).plan().removed.keys()
    erasure(theirs).apply()
    assert written <= objects(theirs)
    assert (verified(theirs).problems, verified(theirs).rows) == ([], len(theirs.rows) - 3)


@pytest.mark.parametrize("subject", [{"resource_id": "1"}, {"person": ""}])
def test_who_is_meant_must_be_clear(theirs: Place, subject: dict[str, str]) -> None:
    with pytest.raises(SubjectError):
        erasure(theirs, **subject).plan()
