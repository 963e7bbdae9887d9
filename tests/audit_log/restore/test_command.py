"""`adinsights audit restore`, as somebody types it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.restore.report import RestoreReport
from adinsights_orchestration.cli.audit_restore import _show
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.audit_tables import audit_hold
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.living import expired, leave_the_table, register
from tests.audit_log.restoring import RESTORED, audit_rows, empty, rows_of
from tests.audit_log.rows import FIRST
from tests.cli.conftest import Answer

Command = Callable[..., Answer]
RANGE = ("--from", str(FIRST), "--to", str(LAST))
IN_A_YEAR = str(utc_now().date() + timedelta(days=365))
IN_TEN_YEARS = str(utc_now().date() + timedelta(days=3_650))


@pytest.fixture
def gone(place: Place) -> Place:
    place.archive()
    empty(place)
    return place


@pytest.fixture
def command(gone: Place, audit_command: Command) -> Command:
    """`adinsights audit restore`, where the rows are in the archive alone."""

    def restore(*arguments: str, what: str = "restore") -> Answer:
        return audit_command(what, *arguments)

    return restore


def test_without_apply_it_tells_and_with_it_it_restores(gone: Place, command: Command) -> None:
    told = command(*RANGE, "--json")
    assert (told.code, told.json["dry_run"], told.json["archived"], told.json["came"]) == (0, True, len(gone.rows), 0)
    assert gone.backend.execute(f"select to_regclass('{RESTORED}')") == [(None,)]
    done = command(*RANGE, "--apply", "--json")
    assert (done.code, done.json["came"], len(rows_of(gone, RESTORED))) == (0, len(gone.rows), len(gone.rows))
    assert {row["tenant"] for row in done.json["by_tenant_and_month"]} == {str(each) for each in gone.tenants}
    assert json.dumps(done.json).find(str(gone.rows[0].id)) == -1
    assert all("@" in entry.detail["actor"] for entry in audit_rows(gone))


def test_people_read_what_came_and_until_when_it_is_held(gone: Place, command: Command) -> None:
    one = str(gone.tenants[0])
    mine = [row for row in gone.rows if str(row.tenant) == one]
    said = command(*RANGE, "--tenant", one, "--live", "--hold-until", IN_A_YEAR, "--apply")
    assert said.code == 0
    assert f"{len(mine)} rows restored into accounts_auditlog" in said.out
    after = date.fromisoformat(IN_A_YEAR) + timedelta(days=1)
    assert f"until {after} 00:00 UTC" in said.err
    assert {row[0] for row in rows_of(gone)} == {row.id for row in mine}


def test_a_part_of_a_day_is_asked_for_by_moments(gone: Place, command: Command) -> None:
    first, end = f"{FIRST}T06:00", f"{FIRST}T18:00"
    meant = {row.id for row in gone.rows if row.day == FIRST and 6 <= row.at.hour < 18}
    assert command("--from", first, "--to", end, "--into", "case_1", "--apply").code == 0
    assert {row[0] for row in rows_of(gone, "case_1")} == meant


REFUSED = {
    "Write it as 2026-01-31": ("--from", "soon", "--to", "2024-01-02"),
    "Give the first day first": ("--from", "2024-01-03", "--to", "2024-01-01"),
    "Give a slug, a name or an id": (*RANGE, "--tenant", "acme"),
    "--hold-until": (*RANGE, "--live"),
    "in the future": (*RANGE, "--live", "--hold-until", "2020-01-01"),
    "longer than the 2,555 days": (*RANGE, "--live", "--hold-until", IN_TEN_YEARS),
    "a table of its own": (*RANGE, "--hold-until", IN_A_YEAR),
    "--live means the live table": (*RANGE, "--into", "accounts_auditlog"),
    "Leave one out": (*RANGE, "--live", "--into", "other", "--hold-until", IN_A_YEAR),
}


def test_what_makes_no_sense_is_refused_with_what_to_write(gone: Place, command: Command) -> None:
    for said, arguments in REFUSED.items():
        answer = command(*arguments, "--apply")
        assert (answer.code, said in " ".join(answer.err.split())) == (2, True), said
    assert rows_of(gone) == []


@pytest.mark.parametrize("written", ["20240102", "2024-W01-2", "2024-01-02T08", "2024-01-32", "9999-12-31"])
def test_a_day_in_another_spelling_is_refused_and_no_last_day_is_lost(
    gone: Place, command: Command, written: str
) -> None:
    for arguments in (
        ("--from", str(FIRST), "--to", written),
        (*RANGE, "--live", "--hold-until", written),
    ):
        answer = command(*arguments, "--apply")
        said = " ".join(answer.err.split())
        assert (answer.code, f"{arguments[-2]}: '{written}' is " in said) == (2, True), said
        assert "Write it as 2026-01-31" in said or "Name a nearer one" in said
    assert gone.backend.execute(f"select to_regclass('{RESTORED}')") == [(None,)]
    assert rows_of(gone) == []


@pytest.mark.parametrize("live", [(), ("--live", "--hold-until", IN_A_YEAR)], ids=["own", "live"])
def test_a_tenant_of_whom_nothing_is_archived_is_refused_before_anything_is_made_or_held(
    gone: Place, command: Command, live: tuple[str, ...]
) -> None:
    mistyped, right = str(uuid.UUID(int=7)), str(gone.tenants[0])
    for apply in ((), ("--apply",)):
        answer = command(*RANGE, "--tenant", right, "--tenant", mistyped, *live, *apply)
        assert answer.code == 2
        assert f"nothing is archived of tenant {mistyped} from {FIRST} to {LAST}" in " ".join(answer.err.split())
    assert gone.backend.execute(f"select to_regclass('{RESTORED}')") == [(None,)]
    assert rows_of(gone) == []
    with gone.ops.begin() as connection:
        assert connection.execute(sa.select(audit_hold)).all() == []


def test_a_tenant_whose_rows_have_all_left_the_archive_is_told_so_and_not_refused(
    gone: Place, command: Command
) -> None:
    leave_the_table(gone)
    register(gone)
    expired(gone)
    answer = command(*RANGE, "--tenant", str(gone.tenants[0]))
    assert answer.code == 0
    assert "it has left the archive" in " ".join(answer.err.split())


def test_a_refused_tenant_hides_no_day_that_is_not_archived(gone: Place, command: Command) -> None:
    answer = command("--from", "2024-01-07", "--to", "2024-01-07", "--tenant", str(gone.tenants[0]))
    assert answer.code == 2
    assert "2024-01-07: not archived" in " ".join(answer.err.split())


def test_a_day_that_is_not_archived_is_exit_code_one(gone: Place, command: Command) -> None:
    answer = command("--from", str(FIRST), "--to", "2024-01-07", "--apply")
    assert answer.code == 1
    assert "2024-01-07: not archived" in answer.out + answer.err
    assert len(rows_of(gone, RESTORED)) == len(gone.rows)


def test_what_has_left_the_archive_is_named_and_no_failure(gone: Place, command: Command) -> None:
    leave_the_table(gone)
    register(gone)
    expired(gone)
    answer = command(*RANGE, "--apply")
    assert answer.code == 0
    said = " ".join((answer.out + answer.err).split())
    assert f"it has left the archive: {FIRST} to {LAST}: expired, {len(gone.rows):,} rows" in said


@pytest.mark.parametrize("what", ["restore", "verify"])
def test_a_year_that_is_not_archived_is_one_line(gone: Place, command: Command, what: str) -> None:
    answer = command("--from", str(FIRST), "--to", "2025-01-05", what=what)
    assert answer.code == 1
    assert (answer.out + answer.err).count("not archived") == 1
    assert "2024-01-07 to 2025-01-05 (365 days): not archived" in answer.out + answer.err


def test_a_query_of_the_archive_shows_who_did_it_and_from_where(gone: Place, command: Command) -> None:
    sql = "select 'kim@acme.example' as email, '{\"ip\": \"203.0.113.9\"}' as metadata"
    for form in ((), ("--json",)):
        answer = command("--sql", sql, *form, what="query")
        assert answer.code == 0
        assert "kim@acme.example" in answer.out
        assert "203.0.113.9" in answer.out


def test_a_list_that_is_cut_says_how_many_more_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    every_second_day = [FIRST + timedelta(days=2 * number) for number in range(23)]
    _show(RestoreReport("somewhere", True, missing=every_second_day, left=["some"] * 20))
    said = capsys.readouterr().err
    assert (said.count(": not archived"), said.count("it has left")) == (20, 20)
    assert "and 3 more of these; --json names them all" in said
    assert said.count("more of these") == 1
