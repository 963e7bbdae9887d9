"""The server's state in Postgres, so that it outlives a kill.

Belongs here: one table of jobs, one of everything else, each row a document. Does not belong here: the connectors' own
state and rows, which share the schema `airbyte_internal` but not these tables. While Postgres is away, changes wait in
memory and follow with the next one: the server goes on, as one with a job queue in front of its database does.
"""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from adinsights_orchestration.local.airbyte.model import Actor, AirbyteConnection, Job, Workspace
from adinsights_orchestration.local.airbyte.registry import Resource

_SCHEMA = """
create schema if not exists airbyte_internal;
create table if not exists airbyte_internal.job (
    id bigint primary key,
    connection_id uuid not null,
    document jsonb not null
);
create table if not exists airbyte_internal.resource (
    kind text not null,
    id uuid not null,
    made bigint generated always as identity,
    document jsonb not null,
    primary key (kind, id)
);
"""
_SAVE_JOB = """
insert into airbyte_internal.job (id, connection_id, document) values (%s, %s, %s)
on conflict (id) do update set document = excluded.document
"""
_SAVE_RESOURCE = """
insert into airbyte_internal.resource (kind, id, document) values (%s, %s, %s)
on conflict (kind, id) do update set document = excluded.document
"""
_KINDS: dict[str, TypeAdapter[Any]] = {
    "workspace": TypeAdapter(Workspace),
    "actor": TypeAdapter(Actor),
    "connection": TypeAdapter(AirbyteConnection),
}
_JOB: TypeAdapter[Job] = TypeAdapter(Job)
_SCHEMA_LOCK = 6_031_771  # two services that start at once must not create the tables at once
log = structlog.get_logger(component="local.airbyte.store")


class PostgresWorldStore:
    """Keeps a world's state in schema `airbyte_internal`.

    Args:
        dsn: The warehouse database.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._unsaved: dict[tuple[str, object], tuple[str, tuple[Any, ...]]] = {}
        with psycopg.connect(dsn) as connection:
            connection.execute("select pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            connection.execute(_SCHEMA)

    def load_resources(self) -> list[Workspace | Actor | AirbyteConnection]:
        """Everything but the jobs, in the order it was made."""
        with psycopg.connect(self._dsn) as connection:
            rows = connection.execute("select kind, document from airbyte_internal.resource order by made").fetchall()
        return [_KINDS[kind].validate_python(document) for kind, document in rows]

    def load_jobs(self) -> list[Job]:
        """Every job, by id."""
        with psycopg.connect(self._dsn) as connection:
            rows = connection.execute("select document from airbyte_internal.job order by id").fetchall()
        return [_JOB.validate_python(document) for (document,) in rows]

    def save_resource(self, resource: Resource) -> None:
        """Keeps the resource in its newest form."""
        kind = _kind(resource)
        document = Jsonb(_KINDS[kind].dump_python(resource, mode="json"))
        self._save((kind, resource.id), _SAVE_RESOURCE, (kind, resource.id, document))

    def save_job(self, job: Job) -> None:
        """Keeps the job in its newest form."""
        document = Jsonb(_JOB.dump_python(job, mode="json"))
        self._save(("job", job.id), _SAVE_JOB, (job.id, job.connection_id, document))

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _save(self, key: tuple[str, object], statement: str, values: tuple[Any, ...]) -> None:
        with self._lock:
            self._unsaved[key] = (statement, values)
            try:
                self._flush()
            except psycopg.OperationalError as error:
                self._connection = None
                log.warning("airbyte.state_not_saved", waiting=len(self._unsaved), reason=str(error).strip())

    def _flush(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._dsn, autocommit=True, connect_timeout=2)
        for key, (statement, values) in list(self._unsaved.items()):
            self._connection.execute(statement, values)
            del self._unsaved[key]


def _kind(resource: Resource) -> str:
    match resource:
        case Workspace():
            return "workspace"
        case AirbyteConnection():
            return "connection"
        case Actor():
            return "actor"
