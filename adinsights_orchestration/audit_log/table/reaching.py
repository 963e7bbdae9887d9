"""How a declared table's database is reached, and what its catalog says of the table's size and indexes.

Belongs here: connecting with the role that archives and deletes, and which errors end a transaction without harm. Does
not belong here: its rights (`access`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from adinsights_orchestration.audit_log.source import Place, Source
from adinsights_orchestration.backend.database import Cursor
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.settings import Settings

Link = psycopg.Connection[TupleRow]
# What ends a transaction without harm: somebody changed a row, holds a lock, or it would have taken too long.
GAVE_WAY = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)


class TableError(AdinsightsError):
    """The table's database does not answer, or refuses; what had been committed before stays."""


@contextmanager
def connected(settings: Settings, source: Source, dsn: str | None = None) -> Iterator[Link]:
    """A connection of our own to the table's database, in autocommit; with another role where an address is given."""
    dsn = dsn or dsn_of(settings, source)
    waits = settings.ops_store.connect_timeout_seconds
    with psycopg.connect(
        dsn,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=waits,
        application_name="adinsights-audit",
        keepalives_idle=15,
        tcp_user_timeout=60_000,
    ) as connection:
        yield connection


@contextmanager
def reached(settings: Settings, source: Source) -> Iterator[Link]:
    """The same, with what the database says in our own words: its own may quote a row, or the address.

    Raises:
        TableError: It does not answer, or refuses.
    """
    try:
        with connected(settings, source) as connection:
            yield connection
    except psycopg.Error as error:
        raise TableError(
            f"the table's database refuses this ({error.sqlstate or 'no answer'})",
            place=source.table,
            next_step="Check that it is up, and the role's grants: docs/audit-log.md lists them."
            " The next run goes on where this one stopped.",
        ) from None


def dsn_of(settings: Settings, source: Source) -> str:
    """The address of the table's database, with the role that may archive and delete."""
    if source.place is Place.OPS_STORE:
        return settings.ops_store.dsn.get_secret_value()
    return (settings.retention.dsn or settings.backend.dsn).get_secret_value()


def restoring_dsn_of(settings: Settings, source: Source) -> str:
    """The address of the table's database, with the role that may write rows back."""
    if source.place is Place.BACKEND and settings.audit_log.restore_dsn is not None:
        return settings.audit_log.restore_dsn.get_secret_value()
    return dsn_of(settings, source)


def pages_of(connection: Link, source: Source) -> int:
    """The table's size in pages."""
    row = connection.execute(
        "select pg_relation_size(%s::regclass) / current_setting('block_size')::int", (source.table,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def has_time_index(connection: Link, source: Source) -> bool:
    """Whether an index begins with the time, or with the tenant and then the time."""
    return any(_begins(index, source.time) for index in _indexes(connection, source)) or has_tenant_index(
        connection, source
    )


def has_tenant_index(connection: Link | Cursor, source: Source) -> bool:
    """Whether an index begins with the tenant and then the time."""
    return any(_begins(index, source.tenant, source.time) for index in _indexes(connection, source))


def _begins(index: list[str], *columns: str | None) -> bool:
    return index[: len(columns)] == list(columns)


def _indexes(connection: Link | Cursor, source: Source) -> list[list[str]]:
    rows = connection.execute(
        """select array(select a.attname::text from unnest(i.indkey) with ordinality k (number, place)
                          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number order by place)
             from pg_index i where i.indrelid = %s::regclass and i.indisvalid and i.indpred is null""",
        (source.table,),
    ).fetchall()
    return [list(row[0]) for row in rows]
