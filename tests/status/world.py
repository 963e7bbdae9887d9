"""A world for the whole picture: an ops store with whatever rows a test wants in it, at a moment of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa

from adinsights_orchestration.freshness.model import ConnectionState, Facts, Freshness, Verdict
from adinsights_orchestration.freshness.states import Place, save_place, write_states
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.ops_store.findings import open_finding
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import component_health
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from adinsights_orchestration.tenants.store import write_failure, write_snapshot, write_success
from adinsights_orchestration.topology.model import Asset, Topology
from adinsights_orchestration.topology.store import publish

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
_DRIVEN = (Freshness.OK, Freshness.PENDING, Freshness.FAILING, Freshness.RUNNING_STALE)


def id_of(name: str) -> UUID:
    """The id of whatever is called so."""
    return uuid5(NAMESPACE_URL, name)


def state_of(
    partition: str,
    state: Freshness = Freshness.OK,
    *,
    provider: Provider = Provider.META,
    last_success_at: datetime | None = NOON - timedelta(minutes=20),
    valid_until: datetime | None = NOON + HOUR,
    detail: str = "Last success 11:40.",
) -> ConnectionState:
    """A connection of the tenant before its slash."""
    facts = Facts(partition, provider, id_of(partition.split("/", maxsplit=1)[0]), last_success_at=last_success_at)
    deadline = NOON - HOUR if state.is_late else NOON + HOUR if state in _DRIVEN else None
    verdict = Verdict(state, detail, valid_until if state in _DRIVEN else None, deadline)
    return ConnectionState(facts, verdict, NOON - HOUR, "every hour", NOON - 24 * HOUR)


class World:
    """Writes rows as their owners do."""

    def __init__(self, store: OpsStore, now: datetime = NOON) -> None:
        self.store, self.now = store, now

    def well(self) -> World:
        """Everything watched, evaluated, read and published a moment ago, and well."""
        self.read(dict.fromkeys(Component, Health.OK))
        self.evaluated()
        self.registry("acme", "globex")
        self.topology()
        return self

    def read(self, healths: Mapping[Component, Health], *, at: datetime | None = None, **words: Any) -> None:
        """Stores these components' newest readings."""
        at = at or self.now - timedelta(seconds=20)
        rows = [
            {
                "component": component.value,
                "health": health.value,
                "state": health.value,
                "detail": f"{component.value} said {health.value}",
                "facts": {},
                "since": at - HOUR,
                "last_ok_at": at if health is Health.OK else None,
                "checked_at": at,
                **words,
            }
            for component, health in healths.items()
        ]
        with self.store.begin() as connection:
            gone = component_health.c.component.in_([row["component"] for row in rows])
            connection.execute(sa.delete(component_health).where(gone))
            connection.execute(sa.insert(component_health), rows)

    def evaluated(self, states: Iterable[ConnectionState] = (), *, at: datetime | None = None) -> None:
        """Stores an evaluation with these connections."""
        at = at or self.now - timedelta(seconds=10)
        with self.store.begin() as connection:
            write_states(connection, list(states), at)
            save_place(connection, Place(at, 1, "rules"), at)

    def registry(self, *slugs: str, error: str | None = None, at: datetime | None = None, connections: int = 0) -> None:
        """Stores a registry that serves these tenants; with an error its source cannot be read any more."""
        at = at or self.now - timedelta(seconds=30)
        tenants = tuple(Tenant(id_of(slug), slug.title(), slug) for slug in slugs)
        served = tuple(_connection(slugs, number) for number in range(connections))
        with self.store.begin() as connection:
            snapshot = write_snapshot(connection, f"{slugs}", Registry(tenants, served, "a test", at), None)
            write_success(connection, snapshot, at)
            if error is not None:
                write_failure(connection, error, self.now)

    def topology(self, *keys: str) -> None:
        """Publishes a topology of these assets."""
        with self.store.begin() as connection:
            publish(connection, Topology("pipelines", tuple(map(Asset, keys))), self.now - HOUR)

    def finding(self, kind: str, subject: str) -> None:
        """Opens a finding."""
        with self.store.begin() as connection:
            open_finding(connection, kind, subject, {}, self.now)

    def later(self, passed: timedelta) -> World:
        """The same rows, seen later."""
        return World(self.store, self.now + passed)


def late(partition: str, **more: Any) -> ConnectionState:
    """A connection that is late."""
    return state_of(
        partition, Freshness.STALE, last_success_at=NOON - 3 * HOUR, detail="Last success 09:00; late.", **more
    )


def _connection(slugs: tuple[str, ...], number: int) -> Connection:
    tenant, name = slugs[number % len(slugs)], f"connection {number}"
    schedule = Schedule(ScheduleType.INTERVAL, HOUR)
    key = f"{tenant}/meta-{number}"
    return Connection(
        id_of(name), id_of(tenant), Provider.META, name, id_of(f"{name} in Airbyte"), schedule, partition_key=key
    )
