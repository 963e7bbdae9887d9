"""What the local stack starts with: three tenants, eight connections, their sources and schedules.

Belongs here: the facts of the demo, the same ids on every machine, and putting them into the backend's tables and
into Airbyte, each only where it is missing. Does not belong here: the tables (`backend.schema`), the ad accounts
themselves (`ad_platforms`). Schedules are mixed on purpose: hourly cron as in production, 15 and 60 minute intervals
so that a demo at night has something due, and one connection that only runs by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import psycopg

from adinsights_orchestration.local.ad_platforms.accounts import LOCAL_TENANTS, AdTenant
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    AirbyteSchedule,
    Catalog,
    CatalogStream,
    NotFoundError,
    Workspace,
)
from adinsights_orchestration.local.airbyte.source_kinds import SOURCE_KINDS
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.tenants.model import Provider, Schedule, ScheduleType

NAMESPACE = UUID("9d4a3f0e-2f5b-5c6e-8a1d-0c7b6e5f4a3d")
WORKSPACE_ID = uuid5(NAMESPACE, "workspace")
DESTINATION_ID = uuid5(NAMESPACE, "destination")

# Loopback only: they open nothing but this machine's own demo.
AIRBYTE_CLIENT_ID = "0c1a6f52-local-orchestrator"
AIRBYTE_CLIENT_SECRET = "local-airbyte-secret-4f1d9b"  # noqa: S105
WEBHOOK_SECRET = "local-webhook-secret-8e2c71"  # noqa: S105
SERVICE_API_KEY = "local-service-key-b7d05a"
ALERTS_API_KEY = "local-alerts-key-31c9ee"

_NAMES = {"acme-jamaica": "Acme Jamaica Ltd", "globex-london": "Globex Media", "initech-ny": "Initech Inc."}
_CONNECTION_NAMES = {
    Provider.META: "Meta Ads",
    Provider.GOOGLE_ADS: "Google Ads",
    Provider.LINKEDIN_ADS: "LinkedIn Ads",
    Provider.TIKTOK_ADS: "TikTok Ads",
    Provider.GA4: "GA4",
    Provider.SEARCH_CONSOLE: "Search Console",
}
_HOURLY = Schedule(ScheduleType.CRON, cron="0 6-22 * * *")  # product: metrics sync hourly, 06:00 to 22:00 local
_EVERY_15 = Schedule(ScheduleType.INTERVAL, interval=timedelta(minutes=15))
_EVERY_60 = Schedule(ScheduleType.INTERVAL, interval=timedelta(minutes=60))
_SCHEDULES: Mapping[tuple[str, Provider], Schedule] = {
    ("acme-jamaica", Provider.META): _HOURLY,
    ("acme-jamaica", Provider.GOOGLE_ADS): _EVERY_15,
    ("acme-jamaica", Provider.GA4): _EVERY_60,
    ("globex-london", Provider.META): _HOURLY,
    ("globex-london", Provider.LINKEDIN_ADS): _EVERY_60,
    ("globex-london", Provider.SEARCH_CONSOLE): Schedule(ScheduleType.MANUAL),
    ("initech-ny", Provider.GOOGLE_ADS): _EVERY_15,
    ("initech-ny", Provider.TIKTOK_ADS): _HOURLY,
}
Streams = Callable[[Provider], tuple[CatalogStream, ...]]


@dataclass(frozen=True, slots=True)
class SeedConnection:
    """One connection of the demo."""

    tenant: AdTenant
    provider: Provider
    schedule: Schedule

    @property
    def key(self) -> str:
        """What its ids are made of."""
        return f"{self.tenant.slug}/{self.provider.value}"

    @property
    def row_id(self) -> UUID:
        """The backend's row."""
        return uuid5(NAMESPACE, f"row/{self.key}")

    @property
    def connection_id(self) -> UUID:
        """Airbyte's connection."""
        return uuid5(NAMESPACE, f"connection/{self.key}")

    @property
    def source_id(self) -> UUID:
        """Airbyte's source."""
        return uuid5(NAMESPACE, f"source/{self.key}")

    @property
    def name(self) -> str:
        """What people call it."""
        return _CONNECTION_NAMES[self.provider]


def tenant_id(tenant: AdTenant) -> UUID:
    """The tenant's id, in the backend and on every record of its connectors."""
    return uuid5(NAMESPACE, f"tenant/{tenant.slug}")


def connections() -> tuple[SeedConnection, ...]:
    """The demo's connections, tenant by tenant."""
    return tuple(
        SeedConnection(tenant, provider, _SCHEDULES[tenant.slug, provider])
        for tenant in LOCAL_TENANTS
        for provider in tenant.providers
    )


def seed_backend(dsn: str, now: datetime) -> None:
    """Adds the demo's tenants, users and connections to the backend's tables; rows that are there stay as they are."""
    with psycopg.connect(dsn) as database, database.cursor() as cursor:
        for tenant in LOCAL_TENANTS:
            identifier = tenant_id(tenant)
            cursor.execute(_ADD_TENANT, (identifier, _NAMES[tenant.slug], now))
            user = (uuid5(NAMESPACE, f"user/{tenant.slug}"), identifier, f"owner@{tenant.site}")
            cursor.execute(_ADD_USER, user)
        for connection in connections():
            cursor.execute(_ADD_CONNECTION, _row(connection, now))


def seed_airbyte(world: AirbyteWorld, ads: World, local: LocalSettings, streams: Streams) -> None:
    """Adds the demo's workspace, destination, sources and connections to Airbyte, where they are missing."""
    now = world.clock()
    resources = world.resources
    if not _known(resources.workspace, WORKSPACE_ID):
        resources.put(Workspace(WORKSPACE_ID, "ADinsights"))
    if not _known(resources.destination, DESTINATION_ID):
        resources.put(_destination(local, now))
    for connection in connections():
        if not _known(resources.source, connection.source_id):
            resources.put(_source(connection, ads, local, now))
        if not _known(resources.connection, connection.connection_id):
            resources.put(_connection(connection, streams(connection.provider), local, now))


_ADD_TENANT = "insert into accounts_tenant (id, name, created_at) values (%s, %s, %s) on conflict do nothing"
_ADD_USER = "insert into accounts_user (id, tenant_id, email) values (%s, %s, %s) on conflict do nothing"
_ADD_CONNECTION = """
insert into integrations_airbyteconnection
  (id, tenant_id, provider, name, connection_id, workspace_id, schedule_type, interval_minutes, cron_expression,
   created_at, updated_at)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
"""


def _row(connection: SeedConnection, now: datetime) -> tuple[Any, ...]:
    schedule = connection.schedule
    minutes = int(schedule.interval.total_seconds() // 60) if schedule.interval else None
    return (
        connection.row_id,
        tenant_id(connection.tenant),
        connection.provider.backend_code,
        connection.name,
        connection.connection_id,
        WORKSPACE_ID,
        schedule.type.value,
        minutes,
        schedule.cron or "",
        now,
        now,
    )


def _destination(local: LocalSettings, now: datetime) -> Actor:
    configuration = {
        "destinationType": "postgres",
        "host": "127.0.0.1",
        "port": local.postgres_port,
        "database": "warehouse",
        "schema": "public",
        "username": "adinsights",
        "password": "adinsights-local",
        "ssl_mode": {"mode": "disable"},
    }
    kind = "postgres"
    return Actor(DESTINATION_ID, WORKSPACE_ID, "Warehouse", kind, _definition(kind), configuration, now)


def _source(connection: SeedConnection, ads: World, local: LocalSettings, now: datetime) -> Actor:
    tenant, provider = connection.tenant, connection.provider
    configuration = {
        "base_url": f"http://127.0.0.1:{local.service_port}/ads/{provider.value}",
        "access_token": ads.access_token(tenant, provider),
        "tenant_id": str(tenant_id(tenant)),
        "account_ids": [account.id for account in ads.accounts(tenant, provider)],
        "start_date": (now - timedelta(days=local.days)).date().isoformat(),
    }
    kind = SOURCE_KINDS[provider]
    name = f"{_NAMES[tenant.slug]}: {connection.name}"
    return Actor(connection.source_id, WORKSPACE_ID, name, kind, _definition(kind), configuration, now)


def _connection(
    connection: SeedConnection, streams: tuple[CatalogStream, ...], local: LocalSettings, now: datetime
) -> AirbyteConnection:
    return AirbyteConnection(
        id=connection.connection_id,
        workspace_id=WORKSPACE_ID,
        source_id=connection.source_id,
        destination_id=DESTINATION_ID,
        name=f"{_NAMES[connection.tenant.slug]}: {connection.name} to Warehouse",
        catalog=Catalog(uuid5(NAMESPACE, f"catalog/{connection.key}"), streams),
        created_at=now,
        schedule=_airbyte_schedule(connection) if local.airbyte_schedules else AirbyteSchedule(),
        namespace_definition="customformat",
        namespace_format=f"raw_{connection.provider.value}",
    )


def _airbyte_schedule(connection: SeedConnection) -> AirbyteSchedule:
    """Airbyte's form of the connection's schedule; it has no intervals in cron and no seconds in ours."""
    schedule = connection.schedule
    if schedule.interval is not None:
        return AirbyteSchedule("basic", units=int(schedule.interval.total_seconds() // 60), time_unit="minutes")
    if schedule.cron is not None:
        quartz = "0 " + schedule.cron[:-1] + "?"
        return AirbyteSchedule("cron", cron_expression=quartz, cron_timezone=connection.tenant.timezone)
    return AirbyteSchedule()


def _definition(kind: str) -> UUID:
    return uuid5(NAMESPACE, f"definition/{kind}")


def _known(find: Callable[[UUID], object], identifier: UUID) -> bool:
    try:
        find(identifier)
    except NotFoundError:
        return False
    return True
