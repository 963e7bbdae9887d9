"""Restoring what is odd: columns that came later, large and strange values, and what is not as it was any more."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import ManifestError
from adinsights_orchestration.audit_log.model import DataFile
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.restore import rows as restore_rows
from adinsights_orchestration.audit_log.restore.rows import copy_lines
from adinsights_orchestration.audit_log.restore.target import RestoreError
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Column
from adinsights_orchestration.audit_log.store.errors import StoreError
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.ops_store.audit_tables import audit_run
from tests.audit_log.conftest import DAYS, Place
from tests.audit_log.restoring import (
    EVERY_COLUMN,
    RESTORED,
    a_day,
    all_days,
    empty,
    restore,
    restore_live,
    rows_of,
    whole_days,
)
from tests.audit_log.rows import FIRST, TABLE, moment
from tests.conftest import PostgresServer

STRANGE = ["", "\\", "\\N", "\t\n\r\\t", "ä 漢字 🎉 \x01\x1e\x1f", "'\"; drop table accounts_auditlog; --", " x "]
MEGABYTE = {"text": "".join(random.Random(3).choices('abc\\"\n漢', k=1_000_000))}
METADATA: list[object] = [
    None,
    0,
    "",
    [],
    {},
    {"deep": [{"x": [None, 1e-30, 12345678901234567890]}]},
    {"\\": "\\u0001"},
    MEGABYTE,
]


@pytest.fixture
def full(place: Place) -> Place:
    place.archive()
    return place


def write(place: Place, tenant: UUID, text: str, metadata: object, user: UUID | None = None) -> None:
    with psycopg.connect(place.backend.dsn, autocommit=True) as connection:
        row = (uuid4(), tenant, user, text, text[:64], text[:64], Jsonb(metadata), moment(FIRST, 5))
        connection.execute(f"insert into {TABLE} values (%s, %s, %s, %s, %s, %s, %s, %s)", row)


def user_of(place: Place, tenant: UUID) -> UUID:
    user = uuid4()
    place.backend.execute("insert into accounts_user values (%s, %s, 'x@example.com')", user, tenant)
    return user


@pytest.mark.parametrize("live", [False, True])
def test_strange_and_large_values_come_back_as_they_were(
    place: Place, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    if live:  # nothing is kept ready: each object is decoded while its rows are written
        monkeypatch.setattr("adinsights_orchestration.audit_log.restore.rows._READY_BYTES", 0)
    tenant = place.tenants[0]
    for text in STRANGE:
        write(place, tenant, text, {"said": text}, user_of(place, tenant))
    for metadata in METADATA:
        write(place, tenant, "x", metadata)
    place.archive()
    before = rows_of(place)
    empty(place)
    report = restore_live(place) if live else restore(place)
    assert (report.problems, report.total.came) == ([], len(before))
    assert rows_of(place, TABLE if live else RESTORED) == before


def test_files_that_lack_a_column_that_was_added_later_are_restored(place: Place) -> None:
    place.archive(FIRST, a_day(2))
    place.backend.execute(f"alter table {TABLE} add column region text not null default 'somewhere'")
    place.backend.execute(f"update {TABLE} set region = 'here' where created_at >= %s", moment(a_day(3)))
    place.archive(a_day(3), a_day(DAYS - 1))
    before = rows_of(place, columns=f"{EVERY_COLUMN}, region")
    empty(place)
    assert restore_live(place).total.came == len(before)
    assert rows_of(place, columns=f"{EVERY_COLUMN}, region") == before
    restore(place)
    older = {row[0] for row in before if row[-1] == "somewhere"}
    assert {row[0] for row in rows_of(place, RESTORED, "id, region") if row[1] is None} == older


def test_a_day_of_files_with_different_columns_comes_back_whole(full: Place) -> None:
    gone = [row for row in full.rows if row.day == FIRST][::2]
    full.backend.execute(f"delete from {TABLE} where id = any(%s)", [row.id for row in gone])
    full.backend.execute(f"alter table {TABLE} add column region text default 'here'")
    full.archive(FIRST, FIRST)
    (manifest,) = [each for each in chain.follow(full.store, AUDIT_LOG.name) if each.revision == 2]
    assert len({file.columns for file in manifest.files}) == 2
    assert restore_live(full, whole_days(FIRST, FIRST)).total.came == len(gone)
    assert {row[0] for row in rows_of(full)} == {row.id for row in full.rows}


def test_a_column_that_the_table_has_lost_is_kept_in_a_table_of_its_own_and_refused_live(place: Place) -> None:
    place.backend.execute(f"alter table {TABLE} add column origin varchar(10) default 'web'")
    place.archive()
    empty(place)
    place.backend.execute(f"alter table {TABLE} drop column origin")
    with pytest.raises(RestoreError, match="has no column origin"):
        restore_live(place)
    assert restore(place).well
    assert {row[0] for row in rows_of(place, RESTORED, "origin, id")} == {"web"}
    place.backend.execute(f"alter table {TABLE} add column origin int")
    with pytest.raises(RestoreError, match="origin is integer; the archive has character varying"):
        restore_live(place)
    assert rows_of(place) == []


def with_keys_as_django_makes_them(place: Place) -> None:
    """Django empties or deletes what names a row by itself: its constraints say nothing of it, and wait for COMMIT."""
    for column, named in (("user_id", "accounts_user"), ("tenant_id", "accounts_tenant")):
        place.backend.execute(f"alter table {TABLE} drop constraint {TABLE}_{column}_fkey")
        place.backend.execute(
            f"alter table {TABLE} add constraint {TABLE}_{column}_5b2a_fk foreign key ({column})"
            f" references {named} (id) deferrable initially deferred"
        )


@pytest.mark.parametrize("by_django", [False, True], ids=["on delete set null", "as Django makes it"])
def test_a_row_whose_user_is_gone_comes_back_without_it(place: Place, by_django: bool) -> None:
    if by_django:
        with_keys_as_django_makes_them(place)
    tenant = place.tenants[0]
    gone, stays = user_of(place, tenant), user_of(place, tenant)
    write(place, tenant, "by gone", {}, gone)
    write(place, tenant, "by stays", {}, stays)
    place.archive()
    empty(place)
    place.backend.execute("delete from accounts_user where id = %s", gone)
    report = restore_live(place)
    assert (report.problems, report.total.unlinked, report.total.changed) == ([], 1, 0)
    users = place.backend.execute(f"select action, user_id from {TABLE} where action like 'by %%' order by 1")
    assert users == [("by gone", None), ("by stays", stays)]
    restore(place)
    assert {row[0] for row in rows_of(place, RESTORED, "user_id, id")} == {None, gone, stays}


@pytest.mark.parametrize("by_django", [False, True], ids=["on delete cascade", "as Django makes it"])
def test_a_tenant_that_is_gone_is_told_and_the_others_come_back(full: Place, by_django: bool) -> None:
    if by_django:
        with_keys_as_django_makes_them(full)
    leaver = full.tenants[1]
    empty(full)
    full.backend.execute("delete from accounts_tenant where id = %s", leaver)
    report = restore_live(full)
    assert len(report.problems) == DAYS
    assert all(f"tenant {leaver} on " in problem for problem in report.problems)
    assert all("does not have this tenant any more" in problem for problem in report.problems)
    assert {row[1] for row in rows_of(full)} == set(full.tenants) - {leaver}
    assert report.total.came == sum(row.tenant != leaver for row in full.rows)
    assert restore(full, all_days(leaver)).well


def test_what_else_a_row_must_name_is_told_by_its_constraint_and_is_not_the_tenant(full: Place) -> None:
    full.backend.execute("create table accounts_action (name text primary key)")
    empty(full)
    full.backend.execute(
        f"alter table {TABLE} add constraint known_action foreign key (action) references accounts_action (name)"
        " deferrable initially deferred"
    )
    report = restore_live(full)
    assert len(report.problems) == DAYS * len(full.tenants)
    assert all("(23503, known_action)" in problem for problem in report.problems)
    assert all("what action names in public.accounts_action" in problem for problem in report.problems)
    assert not any("this tenant" in problem for problem in report.problems)
    assert rows_of(full) == []


def test_a_row_that_names_another_of_the_same_table_keeps_it(full: Place) -> None:
    one, other, *_ = (row.id for row in full.rows if row.day == FIRST and row.tenant == full.tenants[0])
    full.backend.execute(
        f"alter table {TABLE} add column cause uuid references {TABLE} (id) deferrable initially deferred"
    )
    full.backend.execute(f"update {TABLE} set cause = %s where id = %s", other, one)
    full.archive(FIRST, FIRST)
    full.backend.execute(f"update {TABLE} set cause = null")
    empty(full)
    report = restore_live(full, whole_days(FIRST, FIRST))
    assert (report.problems, report.total.unlinked) == ([], 0)
    assert full.backend.execute(f"select cause from {TABLE} where id = %s", one) == [(other,)]


def test_a_rule_that_the_table_got_later_is_named(full: Place) -> None:
    empty(full)
    full.backend.execute(f"alter table {TABLE} add constraint never check (false) not valid")
    problem = restore_live(full).problems[0]
    assert "(23514, never)" in problem
    assert "--into" in problem


def test_a_table_that_alters_what_is_written_gets_nothing(full: Place) -> None:
    empty(full)
    full.backend.execute(
        "create function shout() returns trigger language plpgsql as $$ begin new.action := upper(new.action);"
        " return new; end $$"
    )
    full.backend.execute(f"create trigger shout before insert on {TABLE} for each row execute function shout()")
    report = restore_live(full, all_days(full.tenants[0]))
    assert len(report.problems) == DAYS
    assert "the table alters" in report.problems[0]
    assert rows_of(full) == []


def test_a_key_that_another_tenants_row_has_is_told_and_left(full: Place) -> None:
    one, two = full.tenants[:2]
    stolen = next(row for row in full.rows if row.tenant == one and row.day == FIRST)
    full.backend.execute(f"update {TABLE} set tenant_id = %s where id = %s", two, stolen.id)
    report = restore_live(full)
    assert [f"tenant {one} on {FIRST}: 1 rows are not in the table" in problem for problem in report.problems] == [True]


def damage(path: Path) -> bytes:
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    return content


@pytest.mark.parametrize("live", [False, True])
def test_a_damaged_file_stops_its_day_and_says_which_and_mended_the_same_command_brings_it(
    full: Place, live: bool
) -> None:
    again = restore_live if live else restore
    path = min(full.folder.rglob("*.parquet"))
    (tenant, day) = (UUID(path.parts[-3].split("=")[1]), path.parts[-2].split("=")[1])
    left_out = [row for row in full.rows if row.tenant == tenant and str(row.day) == day]
    empty(full)
    content = damage(path)
    report = again(full)
    assert [path.name in problem and "have changed" in problem for problem in report.problems] == [True]
    assert report.total.came == len(full.rows) - len(left_out)
    path.write_bytes(content)
    assert again(full).total.came == len(left_out)
    assert {row[0] for row in rows_of(full, TABLE if live else RESTORED)} == {row.id for row in full.rows}


def test_an_object_that_cannot_be_decoded_while_it_is_written_stops_its_day_alone(
    full: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = min(full.folder.rglob("*.parquet"))
    decoded = restore_rows._rows

    def refuse(file: DataFile, content: bytes) -> pa.Table:
        if file.key.endswith(path.name):
            raise ContentError("the object cannot be read", place=file.key)
        return decoded(file, content)

    monkeypatch.setattr(restore_rows, "_rows", refuse)
    monkeypatch.setattr(restore_rows, "_READY_BYTES", -1)
    report = restore(full)
    assert [path.name in problem and "cannot be read" in problem for problem in report.problems] == [True]
    left_out = [row for row in full.rows if str(row.tenant) in str(path) and str(row.day) in str(path)]
    assert report.total.came == len(full.rows) - len(left_out)


def test_a_store_that_goes_away_half_way_fails_the_run_and_the_same_order_goes_on(
    full: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adinsights_orchestration.audit_log.restore.plan.MOST_ROWS", 30)
    get, asked = Folder.get, list[str]()

    def away(self: Folder, key: str) -> bytes:
        if key.endswith(".parquet"):
            asked.append(key)
            if len(asked) > 9:
                raise StoreError("the store is away", place=key, next_step="Wait for it.")
        return get(self, key)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "get", away)
        with pytest.raises(StoreError, match="Wait for it"):
            restore(full)
    came = len(rows_of(full, RESTORED))
    assert 0 < came < len(full.rows)
    with full.ops.begin() as connection:
        (run,) = connection.execute(sa.select(audit_run).where(audit_run.c.kind == "restore")).all()
    assert ("the store is away" in run.error, run.summary["came"]) == (True, came)
    assert restore(full).total.came == len(full.rows) - came


def test_a_broken_chain_restores_nothing(full: Place) -> None:
    path = full.store.path(chain.manifest_key(AUDIT_LOG.name, 3))
    path.write_bytes(path.read_bytes().replace(b'"rows"', b'"rowz"'))
    with pytest.raises(ManifestError):
        restore(full)
    assert full.backend.execute(f"select to_regclass('{RESTORED}')") == [(None,)]


def test_a_chain_whose_end_is_missing_is_told_and_the_rest_comes_back(full: Place) -> None:
    full.store.path(chain.manifest_key(AUDIT_LOG.name, DAYS)).unlink()
    report = restore(full)
    assert "its newest days are missing" in report.problems[0]
    assert report.missing == [a_day(DAYS - 1)]
    assert report.total.came == sum(row.day != a_day(DAYS - 1) for row in full.rows)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
VALUES = st.tuples(
    st.none() | TEXT, st.none() | st.uuids(), st.none() | st.booleans(), st.none() | st.integers(-(2**63), 2**63 - 1)
)
COLUMNS = (Column("a", "text"), Column("b", "uuid"), Column("c", "boolean"), Column("d", "bigint"))


def test_postgres_reads_what_is_written_for_copy(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.create_database("copying"), autocommit=True) as connection:
        connection.execute("create temporary table copied (a text, b uuid, c boolean, d bigint)")

        @settings(max_examples=60, deadline=None)
        @given(st.lists(VALUES, max_size=6), st.integers(0, 3))
        def check(rows: list[tuple[object, ...]], skipped: int) -> None:
            table = pa.table(
                {
                    "a": pa.array([row[0] for row in rows], pa.string()),
                    "b": pa.array([row[1].bytes if isinstance(row[1], UUID) else None for row in rows], pa.binary(16)),
                    "c": pa.array([row[2] for row in rows], pa.bool_()),
                    "d": pa.array([row[3] for row in rows], pa.int64()),
                }
            ).slice(skipped)  # a piece of a batch keeps its buffers and has an offset
            connection.execute("truncate copied")
            with connection.cursor() as cursor:
                with cursor.copy("copy copied from stdin") as copy:
                    for lines in copy_lines(table, COLUMNS):
                        copy.write(lines)
                assert cursor.execute("select * from copied order by ctid").fetchall() == rows[skipped:]

        check()
