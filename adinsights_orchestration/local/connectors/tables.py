"""The raw tables and the runner's own two tables, as SQL.

Belongs here: statements and their composition. Does not belong here: running them (`warehouse`).
`airbyte_internal.sync` says which connection a row came from, through the job id that every row carries;
`airbyte_internal.stream` is where each connection's streams stand.
"""

from __future__ import annotations

from hashlib import blake2b
from uuid import UUID

from psycopg import sql

from adinsights_orchestration.local.connectors.catalog import Column, StreamSpec
from adinsights_orchestration.local.connectors.rows import META_COLUMNS

_META_DDL = (
    "_airbyte_raw_id varchar not null",
    "_airbyte_extracted_at timestamptz not null",
    "_airbyte_meta jsonb not null",
    "_airbyte_generation_id bigint not null",
)
INTERNAL_TABLES = (
    "create schema if not exists airbyte_internal",
    """create table if not exists airbyte_internal.sync (
        sync_id bigint primary key,
        connection_id uuid not null,
        tenant_id uuid not null,
        provider varchar not null,
        generation_id bigint not null,
        started_at timestamptz not null default now()
    )""",
    "create index if not exists sync_connection on airbyte_internal.sync (connection_id)",
    """create table if not exists airbyte_internal.stream (
        connection_id uuid not null,
        namespace varchar not null,
        stream varchar not null,
        generation_id bigint not null,
        state jsonb,
        oldest_generation_id bigint,
        updated_at timestamptz not null default now(),
        primary key (connection_id, namespace, stream)
    )""",
)
CLAIM_SYNC = """
    insert into airbyte_internal.sync as known (sync_id, connection_id, tenant_id, provider, generation_id)
    values (%s, %s, %s, %s, %s)
    on conflict (sync_id) do update set generation_id = excluded.generation_id
    where known.connection_id = excluded.connection_id
    returning sync_id
"""
READ_STREAMS = """
    select stream, state, generation_id, oldest_generation_id from airbyte_internal.stream
    where connection_id = %s and namespace = %s
"""
WRITE_STATE = """
    insert into airbyte_internal.stream (connection_id, namespace, stream, generation_id, state)
    values (%s, %s, %s, %s, %s)
    on conflict (connection_id, namespace, stream) do update
    set generation_id = excluded.generation_id, state = excluded.state, updated_at = now()
"""
WRITE_OLDEST_GENERATION = """
    update airbyte_internal.stream set oldest_generation_id = %s
    where connection_id = %s and namespace = %s and stream = %s
"""
FORGET_STREAM = "delete from airbyte_internal.stream where connection_id = %s and namespace = %s and stream = %s"
_OF_CONNECTION = sql.SQL(
    " tenant_id = %s and (_airbyte_meta ->> 'sync_id')::bigint in"
    " (select sync_id from airbyte_internal.sync where connection_id = %s)"
)


def lock_number(*parts: object) -> int:
    """Returns the advisory lock's number for what `parts` name."""
    digest = blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def connection_lock(connection_id: UUID) -> int:
    """The lock that keeps two syncs of one connection apart."""
    return lock_number("adinsights raw data", connection_id)


DDL_LOCK = lock_number("adinsights raw tables")


def table(spec: StreamSpec) -> sql.Identifier:
    """The stream's table."""
    return sql.Identifier(spec.namespace, spec.name)


def incoming(spec: StreamSpec) -> sql.Identifier:
    """The session's own table that rows are copied into."""
    return sql.Identifier("pg_temp", f"incoming_{spec.name}")


def create_table(spec: StreamSpec) -> sql.Composed:
    """Creates the stream's table with its key."""
    columns = [sql.SQL(ddl) for ddl in _META_DDL] + [_column(column) for column in spec.columns]
    key = sql.SQL(", ").join(map(sql.Identifier, spec.primary_key))
    return sql.SQL("create table if not exists {} ({}, primary key ({}))").format(
        table(spec), sql.SQL(", ").join(columns), key
    )


def create_index(spec: StreamSpec) -> sql.Composed:
    """Creates the index that freshness queries use."""
    return sql.SQL("create index if not exists {} on {} (_airbyte_extracted_at)").format(
        sql.Identifier(f"{spec.name}_extracted_at"), table(spec)
    )


def add_column(spec: StreamSpec, column: Column) -> sql.Composed:
    """Adds a column that the schema has gained; rows from before it have no value there."""
    return sql.SQL("alter table {} add column if not exists {}").format(table(spec), _column(column))


def create_incoming(spec: StreamSpec) -> sql.Composed:
    """Creates the session's own table, emptied by every commit."""
    return sql.SQL("create temporary table {} (like {}) on commit delete rows").format(
        sql.Identifier(f"incoming_{spec.name}"), table(spec)
    )


def copy_incoming(spec: StreamSpec) -> sql.Composed:
    """Copies rows in, in the order in which `rows.RowMaker` writes them."""
    return sql.SQL("copy {} ({}) from stdin").format(incoming(spec), _names(spec))


def upsert(spec: StreamSpec) -> sql.Composed:
    """Moves the rows into the table; of two with one key the newer extraction wins.

    Ordered by key, so that two connections that write the same keys take their locks in the same order.
    """
    key = sql.SQL(", ").join(map(sql.Identifier, spec.primary_key))
    others = [name for name in _all_names(spec) if name not in spec.primary_key]
    assignments = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
    return sql.SQL(
        "insert into {table} as stored ({names}) select {names} from {incoming} order by {key}"
        " on conflict ({key}) do update set {assignments}"
        " where stored._airbyte_extracted_at <= excluded._airbyte_extracted_at"
    ).format(table=table(spec), names=_names(spec), incoming=incoming(spec), key=key, assignments=assignments)


def delete_rows(namespace: str, stream: str) -> sql.Composed:
    """Deletes a connection's rows; parameters: tenant, connection."""
    return sql.SQL("delete from {} where").format(sql.Identifier(namespace, stream)) + _OF_CONNECTION


def delete_older_generations(spec: StreamSpec) -> sql.Composed:
    """Deletes a connection's rows of older generations; parameters: tenant, connection, generation."""
    return delete_rows(spec.namespace, spec.name) + sql.SQL(" and _airbyte_generation_id < %s")


def _column(column: Column) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type.value))


def _all_names(spec: StreamSpec) -> list[str]:
    return [*META_COLUMNS, *(column.name for column in spec.columns)]


def _names(spec: StreamSpec) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, _all_names(spec)))
