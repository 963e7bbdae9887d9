"""What dbt cannot do before it starts: see which raw tables exist, and end what a build before it left at work.

Belongs here: looks at the warehouse's catalog and sessions. Does not belong here: anything that reads rows. A provider
whose tables Airbyte has not created yet (nobody has connected it, its first sync still runs) would fail every model
that reads all providers, and with them every other provider's data; it is switched off for such a build instead, as if
nobody used it. And Postgres works on a statement to its end before it looks whether anybody still waits for the result:
the statement of a dbt that was killed would keep its locks for as long as it takes, and commit nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psycopg

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.settings import Settings, WarehouseSettings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.command import Command, application_name
from adinsights_orchestration.transformation.project import Project

_CONNECT_TIMEOUT_SECONDS = 10
_END_LEFTOVERS = """
select pid, pg_terminate_backend(pid)
  from pg_stat_activity
 where datname = current_database() and usename = current_user and application_name = %s and state <> 'idle'
"""


class WarehouseError(AdinsightsError):
    """The warehouse does not answer, or not to this role."""


def end_leftovers(settings: Settings, command: Command) -> int:
    """Ends the statements of builds like this one whose dbt is gone; only for who has the build lock.

    Returns:
        How many there were.

    Raises:
        WarehouseError: The warehouse cannot be asked.
    """
    with _connected(settings.warehouse) as connection:
        return len(connection.execute(_END_LEFTOVERS, (application_name(settings, command),)).fetchall())


def missing_tables(settings: Settings, project: Project) -> dict[Provider, tuple[str, ...]]:
    """Returns the providers that lack raw tables, each with those it lacks (`schema.table`).

    Raises:
        WarehouseError: The warehouse cannot be asked.
    """
    wanted = {provider: _tables(project, provider) for provider in project.providers}
    existing = _existing(settings.warehouse, {table for tables in wanted.values() for table in tables})
    missing = {provider: tuple(t for t in tables if t not in existing) for provider, tables in wanted.items()}
    return {provider: tables for provider, tables in missing.items() if tables}


def _tables(project: Project, provider: Provider) -> tuple[str, ...]:
    sources = [project.sources[unique_id] for unique_id in project.providers[provider]]
    return tuple(f"{props['schema']}.{props['identifier']}" for props in sources)


def _existing(warehouse: WarehouseSettings, names: Iterable[str]) -> set[str]:
    query = "select name from unnest(%s::text[]) as wanted (name) where to_regclass(name) is not null"
    with _connected(warehouse) as connection:
        return {str(row[0]) for row in connection.execute(query, (sorted(names),))}


@contextmanager
def _connected(warehouse: WarehouseSettings) -> Iterator[psycopg.Connection]:
    try:
        with psycopg.connect(
            host=warehouse.host,
            port=warehouse.port,
            user=warehouse.user,
            password=warehouse.password.get_secret_value(),
            dbname=warehouse.dbname,
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            application_name="adinsights",
        ) as connection:
            yield connection
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise WarehouseError(
            f"the warehouse does not answer ({reason})",
            place="ADINSIGHTS_WAREHOUSE__*",
            next_step="Check that Postgres is up and the address right; `adinsights doctor` shows more.",
        ) from error
