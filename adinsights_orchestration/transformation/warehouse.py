"""What dbt cannot ask before it starts: which raw tables exist.

Belongs here: one look at the warehouse's catalog. Does not belong here: anything that reads rows. A provider whose
tables Airbyte has not created yet (nobody has connected it, its first sync still runs) would fail every model that
reads all providers, and with them every other provider's data; it is switched off for such a build instead, as if
nobody used it.
"""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.settings import Settings, WarehouseSettings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.project import Project

_CONNECT_TIMEOUT_SECONDS = 10


class WarehouseError(AdinsightsError):
    """The warehouse does not answer, or not to this role."""


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
            query = "select name from unnest(%s::text[]) as wanted (name) where to_regclass(name) is not null"
            return {str(row[0]) for row in connection.execute(query, (sorted(names),))}
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise WarehouseError(
            f"the warehouse does not answer ({reason})",
            place="ADINSIGHTS_WAREHOUSE__*",
            next_step="Check that Postgres is up and the address right; `adinsights doctor` shows more.",
        ) from error
