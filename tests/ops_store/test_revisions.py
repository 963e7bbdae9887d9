"""Revisions of the schema: what is newer than the code stays as it is, and a revision only adds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from adinsights_orchestration import __version__
from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.revisions import alembic_config, standing
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import SCHEMA
from adinsights_orchestration.settings import OpsStoreSettings
from tests.conftest import PostgresServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Older than any release: what it changed no release has known otherwise.
CHANGED_BEFORE_THE_FIRST_RELEASE = {"0008": {("alert_group", "escalated")}}
_COLUMNS = sa.text(
    """select table_name, column_name, udt_name || coalesce(character_maximum_length::text, ''),
              is_nullable = 'YES' or column_default is not null or is_identity = 'YES'
         from information_schema.columns where table_schema = :schema and table_name <> 'alembic_version'"""
)
_RULES = sa.text(
    """select r.conrelid::regclass::text, r.conname, array_agg(a.attname::text)
         from pg_constraint r join pg_attribute a on a.attrelid = r.conrelid and a.attnum = any(r.conkey)
        where r.connamespace = cast(:schema as regnamespace) and r.contype in ('c', 'f', 'u') group by 1, 2
    union all
       select i.indrelid::regclass::text, i.indexrelid::regclass::text, array_agg(a.attname::text)
         from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
         join pg_class t on t.oid = i.indrelid
        where i.indisunique and t.relnamespace = cast(:schema as regnamespace) group by 1, 2"""
)


@pytest.fixture
def fresh(postgres_server: PostgresServer) -> Iterator[OpsStore]:
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres_server.create_database("ops"))))
    yield store
    store.dispose()


def of_a_newer_release(store: OpsStore) -> None:
    """What a newer release leaves behind: one more revision, its columns, and its name."""
    with store.begin() as connection:
        connection.exec_driver_sql(f"alter table {SCHEMA}.cursor add column kept_by text")
        connection.exec_driver_sql(f"update {SCHEMA}.alembic_version set version_num = '9999'")
        connection.exec_driver_sql(f"comment on table {SCHEMA}.alembic_version is '9.9.0'")


def test_an_older_release_leaves_a_newer_schema_as_it_is_and_says_of_which_release_it_is(fresh: OpsStore) -> None:
    fresh.migrate()
    of_a_newer_release(fresh)
    found = fresh.migrate()
    assert (found.is_newer, found.revision, found.release) == (True, "9999", "9.9.0")
    assert found.said == (
        "the ops store's schema is newer (revision 9999, of release 9.9.0) "
        f"than release {__version__} knows (revision {found.newest})"
    )
    with fresh.begin() as connection:
        assert standing(connection) == found
        keep_cursor(connection, "mine", {"place": 1}, NOW)


def test_a_newer_schema_whose_release_is_not_noted_is_said_without_it(fresh: OpsStore) -> None:
    fresh.migrate()
    of_a_newer_release(fresh)
    with fresh.begin() as connection:
        connection.exec_driver_sql(f"comment on table {SCHEMA}.alembic_version is null")
    assert "(revision 9999) than" in fresh.migrate().said


def test_the_release_that_brought_the_schema_there_is_noted(fresh: OpsStore) -> None:
    assert fresh.migrate().revision is None
    again = fresh.migrate()
    assert (again.revision, again.is_newer, again.release) == (again.newest, False, __version__)


def test_a_revision_only_adds_so_that_the_release_before_works_on_it(fresh: OpsStore) -> None:
    with fresh.begin() as connection:
        connection.execute(sa.schema.CreateSchema(SCHEMA))
    for script in reversed(list(ScriptDirectory.from_config(alembic_config()).walk_revisions())):
        columns, rules = _columns(fresh), _rules(fresh)
        _upgrade(fresh, script.revision)
        after = _columns(fresh)
        changed = {place for place, (kind, _) in columns.items() if after.get(place, ("dropped",))[0] != kind}
        assert changed == CHANGED_BEFORE_THE_FIRST_RELEASE.get(script.revision, set()), script.revision
        tables = {table for table, _ in columns}
        demanded = {place for place in after.keys() - columns.keys() if place[0] in tables and not after[place][1]}
        assert demanded == set(), f"{script.revision}: the release before does not write them"
        added = [(table, names) for (table, name), names in _rules(fresh).items() if (table, name) not in rules]
        strict = [(table, names) for table, names in added if {(table, each) for each in names} <= columns.keys()]
        assert strict == [], f"{script.revision}: the release before does not keep to it"


def _upgrade(store: OpsStore, revision: str) -> None:
    with store.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _columns(store: OpsStore) -> dict[tuple[str, str], tuple[str, bool]]:
    """By table and column: its type, and whether a row can be written without it."""
    with store.begin() as connection:
        return {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(_COLUMNS, {"schema": SCHEMA})}


def _rules(store: OpsStore) -> dict[tuple[str, str], set[str]]:
    """By table and name: the columns of what a row may be refused for."""
    with store.begin() as connection:
        found = connection.execute(_RULES, {"schema": SCHEMA}).all()
    return {(row[0].removeprefix(f"{SCHEMA}."), row[1]): set(row[2]) for row in found}
