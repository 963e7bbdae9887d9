"""A registry with connections of one tenant, and a ledger of their syncs, for tests of rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa

from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from tests.alerting.plant import MINUTE, Plant
from tests.alerting.support import NOON

HOUR = timedelta(hours=1)
ACME = Tenant(UUID(int=7), "Acme", "acme")
HOURLY = Schedule(ScheduleType.INTERVAL, interval=HOUR)


def served(plant: Plant, *keys: str) -> None:
    connections = [
        Connection(uuid5(ACME.id, key), ACME.id, Provider.META, key, uuid5(ACME.id, f"{key} in Airbyte"), HOURLY)
        for key in keys
    ]
    registry = Registry((ACME,), tuple(replace(c, partition_key=c.name) for c in connections), "test", NOON)
    with plant.store.begin() as connection:
        snapshot = registry_store.write_snapshot(connection, "1", registry, None)
        registry_store.write_success(connection, snapshot, NOON)


def syncs(
    plant: Plant,
    key: str,
    rows: Iterable[int | None],
    first_id: int = 1,
    ended: datetime = NOON,
    every: timedelta = HOUR,
    **more: Any,
) -> None:
    """A sync an hour, the newest first."""
    made = []
    for n, count in enumerate(rows):
        at = ended - n * every
        row: dict[str, Any] = {"job_id": first_id + 9000 - n, "connection_id": uuid5(ACME.id, key)}
        row |= {"partition_key": key, "provider": "meta", "tenant_id": ACME.id, "job_type": "sync"}
        row |= {"status": "succeeded", "started_by": "external", "started_at": at - MINUTE, "ended_at": at}
        row |= {"rows_synced": count, "first_observed_at": at, "observed_at": at, "report_state": "reported"}
        made.append({**row, **more})
    with plant.store.begin() as connection:
        connection.execute(sa.insert(sync_job), made)
