"""What the connector tests share: platforms that serve, a warehouse, a runtime, and connections to sync."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.routing import Mount

from adinsights_orchestration.local.ad_platforms.accounts import Account, AdTenant, WorldSize
from adinsights_orchestration.local.ad_platforms.app import create_app
from adinsights_orchestration.local.ad_platforms.metrics import Metrics
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.connectors.catalog import declared_streams, load_manifest
from adinsights_orchestration.local.connectors.sync import ConnectorRuntime, StreamStats, SyncRequest, SyncResult
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.tenants.model import Provider

CONNECTORS_PYTHON = Path(__file__).parents[2] / ".venv-connectors" / "bin" / "python"
SMALL = WorldSize(accounts=2, campaigns=2, groups=1, ads=2, days=6)
META_KEY = ("account_id", "ad_id", "date_start", "region")
T = TypeVar("T")


class Now:
    """A clock that tests move; it starts ten days ago, because connectors never ask for days after the real today."""

    def __init__(self) -> None:
        today = datetime.now(UTC).replace(hour=20, minute=0, second=0, microsecond=0)
        self.moment = today - timedelta(days=10)

    def __call__(self) -> datetime:
        return self.moment

    def pass_days(self, days: int) -> None:
        self.moment += timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of one of the world's tenants, under a tenant id that no other test uses."""

    provider: Provider
    slug: str
    config: Mapping[str, Any]
    streams: tuple[str, ...]
    tenant_id: UUID
    id: UUID = field(default_factory=uuid4)


class Stack:
    """Running platforms, a warehouse and a connector runtime."""

    def __init__(self, world: World, clock: Now, knobs: Knobs, url: str, dsn: str, runtime: ConnectorRuntime) -> None:
        self.world, self.clock, self.knobs, self.dsn, self.runtime = world, clock, knobs, dsn, runtime
        self.ads_url = f"{url}/ads"
        self._jobs = itertools.count(1)
        self.runner = asyncio.Runner()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def connect(
        self, provider: Provider, slug: str | None = None, tenant_id: UUID | None = None, **config: Any
    ) -> Connection:
        tenant = next(t for t in self.world.tenants if provider in t.providers and slug in (None, t.slug))
        owner = tenant_id or uuid4()
        # Retries wait 1.05 s; a test has no time for the default.
        settings = {**self._config(tenant, owner, provider), "backoff_seconds": 0.05}
        names = tuple(spec.name for spec in declared_streams(provider, load_manifest(provider)))
        return Connection(provider, tenant.slug, {**settings, **config}, names, owner)

    def _config(self, tenant: AdTenant, owner: UUID, provider: Provider) -> dict[str, Any]:
        """What the local stack gives a tenant's connector, of the days that this world has."""
        accounts = self.world.accounts(tenant, provider)
        return {
            "base_url": f"{self.ads_url}/{provider.value}",
            "access_token": self.world.access_token(tenant, provider),
            "tenant_id": str(owner),
            "account_ids": [account.id for account in accounts],
            "start_date": (self.world.today(accounts[0]) - timedelta(days=self.world.size.days)).isoformat(),
        }

    def request(self, connection: Connection, **changes: Any) -> SyncRequest:
        values: dict[str, Any] = {
            "job_id": next(self._jobs),
            "attempt": 1,
            "connection_id": connection.id,
            "tenant_id": connection.tenant_id,
            "provider": connection.provider,
            "config": connection.config,
            "streams": connection.streams,
            "generation_id": 0,
        }
        return SyncRequest(**{**values, **changes})

    def sync(self, connection: Connection, **changes: Any) -> SyncResult:
        return self.run(self.runtime.sync(self.request(connection, **changes)))

    def sync_all(self, *connections: Connection) -> list[SyncResult]:
        """Syncs them side by side, three at a time; results in the order of the connections."""
        slots = asyncio.Semaphore(3)

        async def one(connection: Connection) -> SyncResult:
            async with slots:
                return await self.runtime.sync(self.request(connection))

        async def work() -> list[SyncResult]:
            return await asyncio.gather(*map(one, connections))

        return self.run(work())

    def rows(self, connection: Connection, stream: str) -> list[dict[str, Any]]:
        return self.query(
            f"select * from raw_{connection.provider.value}.{stream} where tenant_id = %s", str(connection.tenant_id)
        )

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row) as session:
            return session.execute(statement, parameters).fetchall()

    def state(self, connection: Connection, stream: str) -> dict[str, Any] | None:
        found = self.query(
            "select state from airbyte_internal.stream where connection_id = %s and stream = %s", connection.id, stream
        )
        return found[0]["state"] if found else None

    def accounts(self, connection: Connection) -> tuple[Account, ...]:
        return self.world.accounts(self.world.tenant(connection.slug), connection.provider)

    def expected_meta(self, connection: Connection) -> dict[tuple[str, ...], Metrics]:
        """What the platform knows now of the connection's whole history, by key."""
        found: dict[tuple[str, ...], Metrics] = {}
        start = datetime.fromisoformat(connection.config["start_date"]).date()
        for account in self.accounts(connection):
            for day in self.world.days(account, start, self.world.today(account)):
                for ad in self.world.ads(account):
                    for part in self.world.region_days(ad, day, self.clock()):
                        found[account.id, ad.id, day.isoformat(), part.region.spelling] = part.metrics
        return found

    def meta_rows(self, connection: Connection) -> dict[tuple[str, ...], dict[str, Any]]:
        """The connection's rows in the warehouse, by key."""
        rows = self.rows(connection, "ad_insights")
        return {tuple(str(row[name]) for name in META_KEY): row for row in rows}

    def has_all_of_meta(self, connection: Connection) -> bool:
        """Whether the warehouse holds every row of the platform exactly once, with its present figures."""
        expected, stored = self.expected_meta(connection), self.meta_rows(connection)
        same_keys = set(expected) == set(stored) and len(self.rows(connection, "ad_insights")) == len(expected)
        return same_keys and all(
            (row["impressions"], row["clicks"], round(float(row["spend"]) * 1e6))
            == (expected[key].impressions, expected[key].clicks, expected[key].spend_micros)
            for key, row in stored.items()
        )

    def close(self) -> None:
        self.runtime.close()
        self.runner.close()


@contextmanager
def running_stack(dsn: str, size: WorldSize = SMALL, **runtime: Any) -> Iterator[Stack]:
    """Starts platforms and a runtime over an empty warehouse."""
    if not CONNECTORS_PYTHON.exists():
        pytest.fail("the connectors' environment is missing; run `make install`")
    clock, knobs = Now(), Knobs()
    world = World(size=size, clock=clock)
    app = Starlette(routes=[Mount("/ads", create_app(world, knobs))])
    with running(app) as url, tempfile.TemporaryDirectory(prefix="adinsights-connectors-") as folder:
        connectors = ConnectorRuntime(CONNECTORS_PYTHON, dsn, Path(folder), **runtime)
        stack = Stack(world, clock, knobs, url, dsn, connectors)
        try:
            yield stack
        finally:
            stack.close()


def stats_of(result: SyncResult, stream: str) -> StreamStats:
    return next(stats for stats in result.streams if stats.name == stream)
