"""The topology in the ops store: one row per distinct content; the newest that is understood is in force.

Belongs here: reading and writing those rows. Does not belong here: where a topology comes from (`read`). A publisher of
a newer release may write a version that this reader does not know: then the last one that it does know stays in force,
and it says so. A publisher therefore never deletes the newest row of another version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.ops_store.tables import topology as rows
from adinsights_orchestration.topology.model import (
    VERSION,
    Topology,
    UnreadableTopologyError,
    digest_of,
    from_payload,
    to_payload,
)

KEPT = 5


class Published(StrEnum):
    """What publishing did."""

    NEW = "new"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class LoadedTopology:
    """The topology in force, as monitoring has it.

    Attributes:
        topology: The last good one; None before the first.
        published_at: When its content was published; None before the first.
        confirmed_at: The last load of the location that said the same; None before the first.
        note: Why it is not the newest one, or why there is none; empty where nothing is wrong.
    """

    topology: Topology | None = None
    published_at: datetime | None = None
    confirmed_at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest row, whatever its version; of two rows the one with the greater number is the newer."""

    number: int
    digest: str


def newest(connection: sa.Connection) -> Newest | None:
    """Returns the newest row; None before the first."""
    row = connection.execute(sa.select(rows.c.id, rows.c.digest).order_by(rows.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else Newest(row.id, row.digest)


def publish(connection: sa.Connection, topology: Topology, now: datetime) -> Published:
    """Puts a topology in force, and forgets old ones.

    What is in force already is confirmed; what was in force before something else, as after a rolled back deployment,
    becomes the newest row again.

    Args:
        connection: The caller's transaction, one publisher at a time.
        topology: What the location consists of.
        now: The moment.
    """
    digest = digest_of(topology)
    current = newest(connection)
    if current is not None and current.digest == digest:
        connection.execute(sa.update(rows).where(rows.c.digest == digest).values(confirmed_at=now))
        return Published.CONFIRMED
    connection.execute(sa.delete(rows).where(rows.c.digest == digest))
    row = {"version": VERSION, "digest": digest, "payload": to_payload(topology)}
    connection.execute(sa.insert(rows).values(**row, published_at=now, confirmed_at=now))
    _forget_old_ones(connection)
    return Published.NEW


def load_topology(connection: sa.Connection) -> LoadedTopology:
    """Returns the newest topology that this release understands; never raises for what stands in a row."""
    query = sa.select(rows.c.version, rows.c.payload, rows.c.published_at, rows.c.confirmed_at)
    notes: list[str] = []
    for row in connection.execute(query.order_by(rows.c.id.desc())):
        topology, why = _understood(row)
        if topology is not None:
            kept = [f"the last one before, of {row.published_at:%Y-%m-%d %H:%M} UTC, is in force"] if notes else []
            return LoadedTopology(topology, row.published_at, row.confirmed_at, "; ".join([*notes, *kept]))
        notes = notes or [why]
    return LoadedTopology(note="; ".join([*notes, "there is none that this release understands"]) if notes else _NONE)


_NONE = "the pipelines location has never published one"


def _understood(row: sa.Row[Any]) -> tuple[Topology | None, str]:
    if row.version != VERSION:
        return None, f"the newest topology has version {row.version}, this release reads version {VERSION}"
    try:
        return from_payload(row.payload), ""
    except UnreadableTopologyError as error:
        return None, f"the newest topology cannot be read ({error})"


def _forget_old_ones(connection: sa.Connection) -> None:
    """Keeps the newest few rows, and the newest of each version for readers of another release."""
    newest = sa.select(rows.c.id).order_by(rows.c.id.desc()).limit(KEPT)
    of_version = sa.select(sa.func.max(rows.c.id)).group_by(rows.c.version)
    connection.execute(sa.delete(rows).where(rows.c.id.not_in(newest), rows.c.id.not_in(of_version)))
