"""The registry in the ops store: the last good snapshot, how the last read went, and the frozen partition keys.

Belongs here: reading and writing those rows. Does not belong here: deciding keys (`keys`), reading sources (`sources`),
the order of a refresh (`refresh`). Everything that uses the registry takes it from here: a source that is down takes
nothing away from a registry that was good a minute ago.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.ops_store.audit_tables import audit_chunk
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import (
    partition_connection,
    partition_key,
    registry_snapshot,
    registry_status,
)
from adinsights_orchestration.tenants.keys import Assignment, FrozenKey, FrozenKeys
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, RegistryProblem, Tenant

NEVER_READ = Registry((), (), source="nothing read yet", read_at=datetime(1970, 1, 1, tzinfo=UTC))
KEPT_SNAPSHOTS = 50
_STATUS_ID = 1


@dataclass(frozen=True, slots=True)
class RegistryHealth:
    """How the last read of the registry went.

    Attributes:
        attempted_at: The last read, None before the first.
        succeeded_at: The last read that worked.
        error: What was wrong with the last one, None when it worked.
        age: Time since the last read that worked; what is served is at least as old.
        problems: What a person must mend in the registry that is served.
    """

    attempted_at: datetime | None
    succeeded_at: datetime | None
    error: str | None
    age: timedelta | None
    problems: tuple[RegistryProblem, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last good snapshot: its row, the digest of what it was made from, and the registry."""

    id: int
    digest: str
    registry: Registry


@dataclass(frozen=True, slots=True)
class _Payload:
    tenants: tuple[Tenant, ...]
    connections: tuple[Connection, ...]
    problems: tuple[RegistryProblem, ...]


_PAYLOADS = TypeAdapter(_Payload)
_TENANTS, _PROBLEMS = TypeAdapter(tuple[Tenant, ...]), TypeAdapter(tuple[RegistryProblem, ...])
# A snapshot never changes once it is written, so each process parses each of them once.
_parsed: WeakKeyDictionary[OpsStore, tuple[int, Registry]] = WeakKeyDictionary()


def load_registry(store: OpsStore) -> Registry:
    """Returns the last good registry with its partition keys, retired ones included; `NEVER_READ` before the first."""
    with store.begin() as connection:
        snapshot = last_snapshot(store, connection)
    return snapshot.registry if snapshot else NEVER_READ


def load_tenants(store: OpsStore) -> tuple[Tenant, ...]:
    """Returns the last good registry's tenants, retired ones included, without reading its connections."""
    with store.begin() as connection:
        status = _status(connection)
        found = _part(store, connection, status, "tenants")
    return found if isinstance(found, tuple) else _TENANTS.validate_python(found)


def registry_health(store: OpsStore, now: datetime) -> RegistryHealth:
    """Returns how old the served registry is and what was wrong with the last read of its source."""
    with store.begin() as connection:
        status = _status(connection)
        problems = _part(store, connection, status, "problems")
    if status is None:
        return RegistryHealth(None, None, None, None, ())
    return RegistryHealth(
        attempted_at=status.attempted_at,
        succeeded_at=status.succeeded_at,
        error=status.error,
        age=now - status.succeeded_at if status.succeeded_at else None,
        problems=problems if isinstance(problems, tuple) else _PROBLEMS.validate_python(problems),
    )


def last_snapshot(store: OpsStore, connection: sa.Connection) -> Snapshot | None:
    """Returns the snapshot that is served, read at the moment of the last read that worked; None before the first."""
    status = _status(connection)
    if status is None or status.snapshot_id is None:
        return None
    known = _parsed.get(store)
    if known is None or known[0] != status.snapshot_id:
        query = sa.select(registry_snapshot).where(registry_snapshot.c.id == status.snapshot_id)
        known = status.snapshot_id, _registry(connection.execute(query).one())
        _parsed[store] = known
    return Snapshot(known[0], status.digest, replace(known[1], read_at=status.succeeded_at))


def archived_tenants(connection: sa.Connection, among: Collection[UUID]) -> frozenset[UUID]:
    """Returns those of the tenants whose audit rows the archive holds, or held until they were taken out of it."""
    if not among:
        return frozenset()
    query = sa.select(audit_chunk.c.tenant_id).where(audit_chunk.c.tenant_id.in_(among)).distinct()
    return frozenset(connection.execute(query).scalars())


def frozen_keys(connection: sa.Connection) -> FrozenKeys:
    """Returns every partition key ever given and the Airbyte connection ids of each, first seen first."""
    keys = connection.execute(sa.select(partition_key).order_by(partition_key.c.first_seen_at, partition_key.c.key))
    ids = connection.execute(
        sa.select(partition_connection.c.connection_id, partition_connection.c.key).order_by(
            partition_connection.c.first_seen_at, partition_connection.c.connection_id
        )
    )
    return FrozenKeys(
        keys={
            row.key: FrozenKey(
                row.key,
                Provider(row.provider),
                row.row_id,
                row.tenant_id,
                row.connection_name,
                row.retired_at is not None,
            )
            for row in keys
        },
        connections={row.connection_id: row.key for row in ids},
    )


def write_keys(connection: sa.Connection, assignment: Assignment, now: datetime) -> None:
    """Writes what an assignment created or changed; writes nothing where there is nothing."""
    if assignment.created:
        rows = [_key_row(key, now) | {"key": key.key, "first_seen_at": now} for key in assignment.created]
        connection.execute(sa.insert(partition_key), rows)
    if assignment.changed:
        _update_keys(connection, assignment.changed, now)
    if assignment.connections:
        fresh = insert(partition_connection)
        moved = fresh.on_conflict_do_update(
            index_elements=[partition_connection.c.connection_id],
            set_={"key": fresh.excluded.key, "first_seen_at": fresh.excluded.first_seen_at},
        )
        ids = [
            {"connection_id": each, "key": key, "first_seen_at": now} for each, key in assignment.connections.items()
        ]
        connection.execute(moved, ids)


def write_snapshot(connection: sa.Connection, digest: str, registry: Registry, last: Snapshot | None) -> int:
    """Stores the registry and returns its snapshot's id.

    One that differs from the last only in what it was made from (a comment in the overlay, a new release) stays the
    same snapshot under the new digest.
    """
    if last is not None and _content(last.registry) == _content(registry):
        here = registry_snapshot.c.id == last.id
        connection.execute(sa.update(registry_snapshot).where(here).values(digest=digest))
        return last.id
    payload = _PAYLOADS.dump_python(_content(registry), mode="json")
    row = {"digest": digest, "source": registry.source, "payload": payload, "taken_at": registry.read_at}
    written = connection.execute(sa.insert(registry_snapshot).values(row).returning(registry_snapshot.c.id))
    snapshot_id = int(written.scalar_one())
    _forget_old_snapshots(connection)
    return snapshot_id


def write_success(connection: sa.Connection, snapshot_id: int, now: datetime) -> None:
    """Records a read that worked, and the snapshot that is served from now on."""
    _write_status(connection, snapshot_id=snapshot_id, attempted_at=now, succeeded_at=now, error=None)


def write_failure(connection: sa.Connection, error: str, now: datetime) -> None:
    """Records a read that failed; the snapshot that is served stays what it was."""
    _write_status(connection, attempted_at=now, error=error)


def _status(connection: sa.Connection) -> sa.Row[Any] | None:
    columns = (*registry_status.c, registry_snapshot.c.digest)
    joined = registry_status.outerjoin(registry_snapshot)
    query = sa.select(*columns).select_from(joined).where(registry_status.c.id == _STATUS_ID)
    return connection.execute(query).one_or_none()


def _part(store: OpsStore, connection: sa.Connection, status: sa.Row[Any] | None, name: str) -> Any:
    """One part of the served snapshot: as it was parsed, or its list in JSON, without the thousands of connections."""
    if status is None or status.snapshot_id is None:
        return ()
    known = _parsed.get(store)
    if known is not None and known[0] == status.snapshot_id:
        return getattr(known[1], name)
    query = sa.select(registry_snapshot.c.payload[name]).where(registry_snapshot.c.id == status.snapshot_id)
    return connection.execute(query).scalar_one()


def _write_status(connection: sa.Connection, **values: object) -> None:
    written = insert(registry_status).values(id=_STATUS_ID, **values)
    connection.execute(written.on_conflict_do_update(index_elements=[registry_status.c.id], set_=values))


def _registry(row: sa.Row[Any]) -> Registry:
    payload = _PAYLOADS.validate_python(row.payload)
    return Registry(payload.tenants, payload.connections, row.source, row.taken_at, payload.problems)


def _content(registry: Registry) -> _Payload:
    return _Payload(registry.tenants, registry.connections, registry.problems)


def _key_row(key: FrozenKey, now: datetime) -> dict[str, object]:
    return {
        "provider": key.provider.value,
        "row_id": key.row_id,
        "tenant_id": key.tenant_id,
        "connection_name": key.name,
        "retired_at": now if key.retired else None,
    }


def _update_keys(connection: sa.Connection, keys: Iterable[FrozenKey], now: datetime) -> None:
    statement = (
        sa.update(partition_key)
        .where(partition_key.c.key == sa.bindparam("which"))
        .values(
            {name: sa.bindparam(name) for name in ("provider", "row_id", "tenant_id", "connection_name", "retired_at")}
        )
    )
    connection.execute(statement, [_key_row(key, now) | {"which": key.key} for key in keys])


def _forget_old_snapshots(connection: sa.Connection) -> None:
    newest = sa.select(registry_snapshot.c.id).order_by(registry_snapshot.c.id.desc()).limit(KEPT_SNAPSHOTS)
    served = sa.select(registry_status.c.snapshot_id).where(registry_status.c.snapshot_id.is_not(None))
    old = sa.and_(registry_snapshot.c.id.not_in(newest), registry_snapshot.c.id.not_in(served))
    connection.execute(sa.delete(registry_snapshot).where(old))
