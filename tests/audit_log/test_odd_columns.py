"""Columns of any type and name, and sessions that spell values in their own way: archived, proven, brought back."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.retention.again import archive_again
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG, SourceError
from adinsights_orchestration.audit_log.table.catalog import columns_of
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import serve
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.restoring import LATER, restore_live, rows_of
from tests.audit_log.rows import FIRST, TABLE, moment
from tests.conftest import PostgresServer

UNUSUAL = {
    "tsvector": "to_tsvector('simple', 'spend rose')",
    "tsquery": "to_tsquery('simple', 'spend & rose')",
    "json": """'{"b": 1, "a": [1.0, 2]}'""",
    "jsonpath": "'$.a[*]'",
    "point": "'(1.5,2)'",
    "box": "'(1,1),(0,0)'",
    "money": "'12.30'",
    "bit(3)": "B'101'",
    "point[]": "array['(1,2)'::point]",
    "numeric(10,2)": "1.50",
    "double precision": "0.1",
    "date": "date '2024-05-31'",
    "timestamp(3) without time zone": "timestamp '2024-05-31 10:11:12.345'",
    "interval": "interval '1 month 2 days 03:04:05'",
    "bytea": "'\\x00ff'",
    "inet": "'10.0.0.1/8'",
    "int4range": "'[1,5)'",
    "text[]": """array['a,b', null, '"']""",
    "char(3)": "'ab'",
}


def comes_and_goes(place: Place) -> None:
    """Archives everything, lets retention delete it by the fast digest alone, and brings it back."""
    place.archive()
    assert place.archive().summary()["sealed"] == 0
    assert not verify_range(place.store, AUDIT_LOG, FIRST, LAST).problems
    rows, whole = len(place.rows), f"id, {TABLE}::text"
    before = rows_of(place, columns=whole)
    serve(place.ops, [Tenant(tenant, str(tenant), str(tenant)[:8]) for tenant in place.tenants])
    again = archive_again(place.settings, place.ops)
    report = Retention(place.settings, place.ops, AUDIT_LOG, lambda: LATER, "a test", again, apply=True).run()
    assert (report.rows, report.unequal, report.rearchived) == (rows, [], [])
    assert restore_live(place).total.came == rows
    assert rows_of(place, columns=whole) == before


@pytest.mark.parametrize("type_", UNUSUAL)
def test_a_column_of_any_type_is_archived_proven_and_brought_back(place: Place, type_: str) -> None:
    place.backend.execute(f"alter table {TABLE} add column later {type_} default {UNUSUAL[type_]}")
    place.backend.execute(f"update {TABLE} set later = null where created_at < %s", moment(FIRST, 24))
    comes_and_goes(place)


@pytest.mark.parametrize("name", ["filename", "place", "file", "Rows of it", "number"])
def test_a_column_of_any_name_is_archived_proven_and_brought_back(place: Place, name: str) -> None:
    place.archive(FIRST, FIRST)
    place.backend.execute(f"""alter table {TABLE} add column "{name}" text default 'report.csv'""")
    place.backend.execute(f"delete from {TABLE} where id = %s", place.rows[0].id)  # carried over when archived anew
    place.rows.pop(0)
    place.archive()
    assert not verify_range(place.store, AUDIT_LOG, FIRST, LAST).problems
    found = ask(place.store, AUDIT_LOG, Question(sql=f'select "{name}", count(*) from audit_log group by 1'), at_once=1)
    assert ("report.csv", len(place.rows)) in found.rows


def test_a_name_that_the_archive_s_reader_needs_itself_is_refused_in_words(place: Place) -> None:
    place.backend.execute(f"alter table {TABLE} add column file_row_number int")
    with pytest.raises(SourceError, match=r"has a column file_row_number, a name that .* Rename the column"):
        place.archive()


def test_a_database_that_spells_values_in_its_own_way_changes_nothing(place: Place) -> None:
    place.backend.execute(f"alter table {TABLE} add column due date default date '2024-05-31'")
    place.backend.execute(f"alter table {TABLE} add column took interval default interval '1 month 2 days 03:04:05'")
    place.archive()
    name = place.backend.execute("select current_database()")[0][0]
    for setting in ("datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "timezone = 'Asia/Kathmandu'"):
        place.backend.execute(f'alter database "{name}" set {setting}')
    comes_and_goes(place)


def test_a_database_whose_text_is_of_no_known_encoding_is_refused(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.create_database(), autocommit=True) as connection:
        name = f"ascii_{uuid4().hex[:10]}"
        connection.execute(
            sql.SQL("create database {} encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0").format(
                sql.Identifier(name)
            )
        )
    with (
        psycopg.connect(postgres_server.server.dsn(name)) as connection,
        pytest.raises(SourceError, match="the database's text is SQL_ASCII, not UTF8"),
    ):
        columns_of(connection.cursor(), AUDIT_LOG)
