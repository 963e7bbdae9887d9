"""What a registry source holds, before anything is judged.

Belongs here: rows as they were read, from whatever source. Does not belong here: reading them (`sources`), judging them
(`rules`). Values are what the source says, right or wrong: an unknown provider or a schedule without an interval is
carried, not refused, so that one bad row never hides the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from uuid import UUID


@dataclass(frozen=True, slots=True)
class RawTenant:
    """One tenant as the source has it; `place` tells a person where."""

    id: UUID
    name: str
    place: str


@dataclass(frozen=True, slots=True)
class RawConnection:
    """One connection as the source has it; the schedule's parts may contradict each other."""

    row_id: UUID
    tenant_id: UUID
    provider: str | None
    name: str
    connection_id: UUID
    workspace_id: UUID | None
    schedule_type: str
    interval_minutes: int | None
    cron_expression: str | None
    is_active: bool
    place: str


@dataclass(frozen=True, slots=True)
class RawRegistry:
    """Everything that one read found, in the source's own stable order: oldest tenant first, or the file's."""

    source: str
    tenants: tuple[RawTenant, ...]
    connections: tuple[RawConnection, ...]


_TENANT_FIELDS = attrgetter("id", "name", "place")
_CONNECTION_FIELDS = attrgetter(*RawConnection.__slots__)


def digest_of(raw: RawRegistry, *others: str) -> str:
    """A digest of everything the registry is made from; the same digest means that there is nothing to do.

    Args:
        raw: What was read.
        others: Whatever else the outcome depends on: the overlay's text, the version of the rules.
    """
    sha = hashlib.sha256(repr((raw.source, *others)).encode())
    for part in _fingerprints(raw):
        sha.update(part.encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def _fingerprints(raw: RawRegistry) -> Iterable[str]:
    yield from (repr(_TENANT_FIELDS(tenant)) for tenant in raw.tenants)
    yield from (repr(_CONNECTION_FIELDS(connection)) for connection in raw.connections)
