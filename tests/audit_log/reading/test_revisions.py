"""`adinsights audit query --revisions`: what rows said before they were changed, each content once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from adinsights_orchestration.audit_log.leaving.compaction import compact
from adinsights_orchestration.audit_log.leaving.erasure import Erasure
from adinsights_orchestration.audit_log.leaving.matching import Subject
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.leaving.test_erasure import PERSON, caused_by_the_person
from tests.audit_log.living import archive_of, let_the_month_end
from tests.audit_log.rows import FIRST, Row, moment
from tests.cli.conftest import Answer

Command = Callable[..., Answer]


@pytest.fixture
def changed(place: Place) -> Row:
    """A row that said that somebody logged in, before it was changed and its month compacted twice."""
    row = caused_by_the_person(place)
    let_the_month_end(place)
    compact(archive_of(place), apply=True)
    place.backend.execute("update accounts_auditlog set action = 'nothing to see' where id = %s", row.id)
    place.archive(FIRST, FIRST)
    compact(archive_of(place), apply=True)
    return row


def test_what_a_row_said_before_it_was_changed_is_read_beside_what_it_says_now(
    place: Place, changed: Row, audit_command: Command
) -> None:
    def ask(*options: str) -> Answer:
        sql = f"select * from audit_log where id = '{changed.id}'"
        return audit_command("query", "--json", "--sql", sql, *options)

    assert [row["action"] for row in ask().json] == ["nothing to see"]
    found = {row["action"]: row["in_force"] for row in ask("--revisions").json}
    assert found == {"login": False, "nothing to see": True}
    assert ask("--revisions", "--from", str(FIRST + timedelta(days=1))).json == []


def test_a_row_that_is_in_several_revisions_as_it_is_now_is_read_once(
    place: Place, changed: Row, audit_command: Command
) -> None:
    rows = audit_command("query", "--json", "--revisions", "--limit", "0", "--to", str(LAST)).json
    assert len(rows) == len(place.rows) + 1
    assert sum(not row["in_force"] for row in rows) == 1
    assert {row["id"] for row in rows} == {str(row.id) for row in place.rows}
    mine = ("--tenant", str(place.tenants[0]), "--action", "login", "--from", str(FIRST), "--to", str(FIRST))
    logins = audit_command("query", "--json", "--revisions", *mine).json
    assert {row["tenant_id"] for row in logins} == {str(place.tenants[0])}
    assert [row["id"] for row in logins if not row["in_force"]] == [str(changed.id)]


def test_what_an_erasure_left_of_earlier_revisions_is_read_and_what_it_took_is_not(
    place: Place, changed: Row, audit_command: Command
) -> None:
    other = next(row for row in place.rows if (row.tenant, row.day) == (changed.tenant, FIRST))
    place.backend.execute("update accounts_auditlog set action = 'nothing at all' where id = %s", other.id)
    place.archive(FIRST, FIRST)
    place.backend.execute("delete from accounts_auditlog where id = %s", changed.id)
    Erasure(archive_of(place), Subject(changed.tenant, str(PERSON)), "request 1").apply()
    for later in (FIRST + timedelta(days=1), FIRST + timedelta(days=2)):
        rows = audit_command("query", "--json", "--revisions", "--tenant", str(changed.tenant), "--limit", "0").json
        assert {row["action"] for row in rows if row["id"] == str(other.id)} == {"login", "nothing at all"}
        assert str(changed.id) not in {row["id"] for row in rows}
        place.backend.execute("update accounts_auditlog set action = 'x' where created_at > %s", moment(later))
        place.archive(later, later)  # nothing of the object that holds what was said first is of this day any more


def test_the_journal_says_that_earlier_revisions_were_read(place: Place, audit_command: Command) -> None:
    place.archive()
    audit_command("query", "--revisions")
    with place.ops.begin() as connection:
        journal = connection.exec_driver_sql("select summary from adinsights_ops.audit_run where kind = 'query'").all()
    assert [row.summary["revisions"] for row in journal] == [True]
