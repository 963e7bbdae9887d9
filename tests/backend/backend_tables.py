"""A database with the backend's tables, and roles that see them in the ways that Postgres knows."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from adinsights_orchestration.backend.database import BackendDatabase
from adinsights_orchestration.local.backend.schema import create_schema
from adinsights_orchestration.settings import BackendSettings

_GRANTS = """
grant select on accounts_tenant, integrations_airbyteconnection to {role};
grant insert on accounts_auditlog to {role};
"""
CREATED_AT = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Backend:
    """A database with the backend's tables, as its superuser sees it."""

    dsn: str

    def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Runs one statement as the superuser."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def add_tenant(self, name: str, tenant_id: UUID | None = None) -> UUID:
        """Adds a tenant and returns its id."""
        tenant_id = tenant_id or uuid.uuid4()
        self.execute("insert into accounts_tenant values (%s, %s, %s)", tenant_id, name, CREATED_AT)
        return tenant_id

    def add_connection(self, tenant_id: UUID, name: str, **columns: object) -> UUID:
        """Adds an hourly Meta connection, `columns` aside, and returns its row's id."""
        row = {
            "id": uuid.uuid4(),
            "tenant_id": tenant_id,
            "name": name,
            "provider": "META",
            "connection_id": uuid.uuid4(),
            "schedule_type": "interval",
            "interval_minutes": 60,
            "created_at": CREATED_AT,
            "updated_at": CREATED_AT,
            **columns,
        }
        names = sql.SQL(", ").join(sql.Identifier(column) for column in row)
        marks = sql.SQL(", ").join(sql.Placeholder() for _ in row)
        insert = sql.SQL("insert into integrations_airbyteconnection ({}) values ({})").format(names, marks)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(insert, list(row.values()))
        return UUID(str(row["id"]))

    def role(self, attributes: str = "", *, granted: bool = True) -> str:
        """Creates a role with these attributes and returns the database's address as that role."""
        role = f"role_{uuid.uuid4().hex[:10]}"
        self.execute(f"create role {role} login password 'canary-secret' {attributes}")
        if granted:
            self.execute(_GRANTS.format(role=role))
        return make_conninfo(self.dsn, user=role, password="canary-secret")

    def owner_role(self, *, forced: bool) -> str:
        """Makes a new role the tables' owner, with row level security forced on it or not, and returns its address."""
        dsn = self.role()
        owner = conninfo_to_dict(dsn)["user"]
        for table in ("accounts_tenant", "accounts_auditlog", "integrations_airbyteconnection"):
            self.execute(f"alter table {table} owner to {owner}")
            if forced and table != "accounts_tenant":
                self.execute(f"alter table {table} force row level security")
        return dsn


def create_backend(create_database: Callable[[str], str]) -> Backend:
    """A new database with the backend's tables."""
    backend = Backend(create_database("backend"))
    create_schema(backend.dsn)
    return backend


def backend_settings(dsn: str, **others: object) -> BackendSettings:
    """Settings that name this database, as a URL or as keywords."""
    return BackendSettings.model_validate({"dsn": SecretStr(dsn), **others})


def database_of(dsn: str) -> BackendDatabase:
    """A handle on this database."""
    return BackendDatabase(backend_settings(dsn))
