"""Partition keys: given once, kept for ever.

Belongs here: which key a connection has, which keys are new, retired or back. Does not belong here: storing them
(`store`). A key names a line of history. A connection that is renamed, moved to another tenant or workspace, or
re-created in Airbyte goes on under its key; a key whose connection is gone is retired, stays known and is never given
to anything but that connection's return.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from uuid import UUID

from adinsights_orchestration.tenants.kept import forgotten_tenant
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from adinsights_orchestration.tenants.slugs import slug_of

_PREFIX_LENGTHS = (8, 12, 16, 20, 24, 28, 32)


@dataclass(frozen=True, slots=True)
class FrozenKey:
    """A partition key and the connection it belongs to, as last seen."""

    key: str
    provider: Provider
    row_id: UUID
    tenant_id: UUID
    name: str
    retired: bool = False


@dataclass(frozen=True, slots=True)
class FrozenKeys:
    """Every key ever given.

    `connections` maps every Airbyte connection id that a key has had to that key, first seen first.
    """

    keys: Mapping[str, FrozenKey]
    connections: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one read means for the keys.

    Attributes:
        key_of: The key of every connection that was read, by row id.
        created: Keys given now.
        changed: Known keys whose connection is now called, placed or anchored differently, as they are now.
        connections: Airbyte connection ids that are new to their key.
        retired: Keys whose connection is gone since the last read.
        returned: Retired keys whose connection is back.
    """

    key_of: Mapping[UUID, str]
    created: tuple[FrozenKey, ...]
    changed: tuple[FrozenKey, ...]
    connections: Mapping[UUID, str]
    retired: tuple[str, ...]
    returned: tuple[str, ...]


def assign_keys(connections: Sequence[Connection], slugs: Mapping[UUID, str], frozen: FrozenKeys) -> Assignment:
    """Finds every connection's key, by the strongest sign first.

    1. its registry row, whatever has changed in it;
    2. its Airbyte connection id, under a new row: it moved to another tenant, or its row was made again;
    3. its tenant, provider and name, where the row that had them is gone: Airbyte's connection was made again;
    4. nothing: it is new.

    A sign counts only for a key that no stronger sign has claimed, so no two connections ever share one.

    Args:
        connections: What was read, unique by row id and by connection id.
        slugs: Tenant slugs, for new keys.
        frozen: The keys given so far.
    """
    claims = _claims(connections, frozen)
    created = _created([c for c in connections if c.row_id not in claims], slugs, frozen)
    key_of = claims | {row_id: key.key for row_id, key in created.items()}
    now = [_seen(connection, key_of[connection.row_id]) for connection in connections]
    claimed = set(key_of.values())
    gone = tuple(key for key, was in frozen.keys.items() if key not in claimed and not was.retired)
    changed = [key for key in now if key.key in frozen.keys and frozen.keys[key.key] != key]
    return Assignment(
        key_of=key_of,
        created=tuple(created.values()),
        changed=(*changed, *(replace(frozen.keys[key], retired=True) for key in gone)),
        connections={
            c.connection_id: key_of[c.row_id]
            for c in connections
            if frozen.connections.get(c.connection_id) != key_of[c.row_id]
        },
        retired=gone,
        returned=tuple(key.key for key in changed if frozen.keys[key.key].retired),
    )


def with_keys(registry: Registry, assignment: Assignment, frozen: FrozenKeys, previous: Registry) -> Registry:
    """Returns the registry with its keys, and with what is retired and still needed, for history or by the law.

    Args:
        registry: What was read and judged.
        assignment: Its keys.
        frozen: The keys as they were before.
        previous: The last good registry, which knows the connections that are gone.
    """
    live = [replace(c, partition_key=assignment.key_of[c.row_id]) for c in registry.connections]
    claimed = set(assignment.key_of.values())
    known = previous.by_partition()
    youngest_id = {key: connection_id for connection_id, key in frozen.connections.items()}
    gone = [
        replace(known[key], retired=True) if key in known else _remembered(frozen.keys[key], youngest_id[key])
        for key in frozen.keys
        if key not in claimed
    ]
    return replace(
        registry,
        tenants=_needed_tenants(registry.tenants, {connection.tenant_id for connection in gone}),
        connections=tuple(sorted((*live, *gone), key=lambda c: c.partition_key)),
    )


def _remembered(key: FrozenKey, connection_id: UUID) -> Connection:
    # The snapshot that held it was lost; the key itself is enough to keep its history under its name.
    return Connection(
        row_id=key.row_id,
        tenant_id=key.tenant_id,
        provider=key.provider,
        name=key.name,
        connection_id=connection_id,
        schedule=Schedule(ScheduleType.MANUAL),
        retired=True,
        partition_key=key.key,
    )


def _needed_tenants(tenants: Iterable[Tenant], needed: set[UUID]) -> tuple[Tenant, ...]:
    kept = {each.id: each for each in tenants if not each.retired or each.id in needed or each.keeps_rows}
    lost = sorted(needed - kept.keys())
    return (*kept.values(), *(forgotten_tenant(each) for each in lost))


def _claims(connections: Sequence[Connection], frozen: FrozenKeys) -> dict[UUID, str]:
    by_row = {key.row_id: key.key for key in frozen.keys.values()}
    claims = {c.row_id: by_row[c.row_id] for c in connections if c.row_id in by_row}
    taken = set(claims.values())

    def claim(connection: Connection, key: str | None) -> None:
        if connection.row_id not in claims and key is not None and key not in taken:
            claims[connection.row_id] = key
            taken.add(key)

    # Two rows may hold two ids that one key has had; the younger id goes on with its history.
    age = {connection_id: place for place, connection_id in enumerate(frozen.connections)}
    for connection in sorted(connections, key=lambda c: -age.get(c.connection_id, -1)):
        claim(connection, frozen.connections.get(connection.connection_id))
    by_likeness = _by_likeness(key for key in frozen.keys.values() if key.key not in taken)
    for connection in connections:
        candidates = by_likeness.get(_likeness(connection.tenant_id, connection.provider, connection.name))
        if connection.row_id not in claims and candidates:
            claim(connection, candidates.pop())
    return claims


def _by_likeness(keys: Iterable[FrozenKey]) -> dict[tuple[UUID, Provider, str], list[str]]:
    # The last candidate is taken first: a key in use until now rather than one that was retired long ago.
    found: dict[tuple[UUID, Provider, str], list[str]] = {}
    for key in sorted(keys, key=lambda key: not key.retired):
        found.setdefault(_likeness(key.tenant_id, key.provider, key.name), []).append(key.key)
    return found


def _likeness(tenant_id: UUID, provider: Provider, name: str) -> tuple[UUID, Provider, str]:
    return tenant_id, provider, " ".join(name.split()).casefold()


def _created(connections: Sequence[Connection], slugs: Mapping[UUID, str], frozen: FrozenKeys) -> dict[UUID, FrozenKey]:
    taken = set(frozen.keys)
    created = {}
    for connection in connections:
        key = next(key for key in _candidates(connection, slugs[connection.tenant_id]) if key not in taken)
        taken.add(key)
        created[connection.row_id] = _seen(connection, key)
    return created


def _candidates(connection: Connection, tenant_slug: str) -> Iterator[str]:
    slug = slug_of(connection.name, connection.provider.value.replace("_", "-"))
    stem = f"{tenant_slug}/{slug}-"
    yield from (stem + connection.connection_id.hex[:length] for length in _PREFIX_LENGTHS)
    # Only after an Airbyte connection's id went over to another row under the same names, more than once.
    yield from (f"{stem}{connection.connection_id.hex}-{number}" for number in count(2))


def _seen(connection: Connection, key: str) -> FrozenKey:
    return FrozenKey(key, connection.provider, connection.row_id, connection.tenant_id, connection.name)
