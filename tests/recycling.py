"""Databases that tests use one after another: emptying one takes a fraction of what copying the template takes.

Only a database that is as it was made, rows aside, and that nobody is connected to is used again; any other is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from adinsights_orchestration.local.postgres import EmbeddedPostgres

_OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
_SHAPE = """
select (select md5(string_agg(attrelid::regclass || attname || atttypid || attnotnull || relrowsecurity, '' order by 1))
          from pg_attribute join pg_class on pg_class.oid = attrelid where relnamespace = {schema}::regnamespace
           and attnum > 0),
       (select md5(string_agg(relname || coalesce(relacl::text, ''), '' order by relname))
          from pg_class where relnamespace::regnamespace::text !~ '^pg_|^information_schema$'),
       (select count(*) from pg_constraint where connamespace = {schema}::regnamespace),
       (select count(*) from pg_trigger),
       (select count(*) from pg_policy),
       (select count(*) from pg_proc where pronamespace::regnamespace::text !~ '^pg_|^information_schema$'),
       (select string_agg(nspname || coalesce(nspacl::text, ''), '' order by nspname) from pg_namespace
         where nspname !~ '^pg_|^information_schema$'),
       (select count(*) from pg_db_role_setting where setdatabase = (select oid from pg_database
         where datname = current_database()))
"""
_EMPTY = """
do $$
declare
    one record;
    filled boolean;
    names text[] := array[]::text[];
begin
    for one in select oid::regclass::text as name from pg_class
        where relnamespace = {schema}::regnamespace and relkind = 'r' and relname <> all ({kept})
    loop
        execute format('select exists (select from %s)', one.name) into filled;
        if filled then
            names := names || one.name;
        end if;
    end loop;
    if cardinality(names) > 0 then
        execute 'truncate ' || array_to_string(names, ', ') || ' cascade';
    end if;
    perform setval(seqrelid::regclass, seqstart, false) from pg_sequence;
end $$
"""


class Recycled:
    """The databases of one server that are copies of one template.

    Args:
        server: The server.
        make: Makes another copy and returns its address.
        schema: Where its tables are.
        kept: Tables whose rows belong to the template.
    """

    def __init__(self, server: EmbeddedPostgres, make: Callable[[], str], schema: str, kept: Sequence[str]) -> None:
        self._server, self._make, self._schema = server, make, schema
        self._empty = sql.SQL(_EMPTY).format(schema=schema, kept=list(kept))
        self._as_made: tuple[Any, ...] = ()
        self._clean: list[str] = []

    def borrow(self) -> str:
        """Returns the address of an empty copy."""
        if self._clean:
            return self._clean.pop()
        address = self._make()
        if not self._as_made:
            with psycopg.connect(address) as connection:
                self._as_made = self._shape(connection)
        return address

    def give_back(self, address: str) -> None:
        """Empties a database for the next test, or drops it."""
        with suppress(psycopg.Error):  # the server was stopped, or the database dropped: that was the test
            with psycopg.connect(address, autocommit=True) as connection:
                alone = connection.execute(_OTHERS).fetchone() == (0,)
                reusable = alone and self._shape(connection) == self._as_made
                if reusable:
                    connection.execute(self._empty)
            if reusable:
                self._clean.append(address)
                return
            with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
                name = sql.Identifier(address.rsplit("/", 1)[1])
                connection.execute(sql.SQL("drop database {} with (force)").format(name))

    def _shape(self, connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
        """What a test may have changed beside rows."""
        row = connection.execute(sql.SQL(_SHAPE).format(schema=self._schema)).fetchone()
        assert row is not None
        return tuple(row)
