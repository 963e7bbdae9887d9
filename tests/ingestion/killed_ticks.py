"""A process that a test kills: trigger and observe ticks in a loop, against a server and a ledger given by argument.

python -m tests.ingestion.killed_ticks '{"url": ..., "dsn": ..., "registry": [...], "seed": 1}'
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ingestion import observe, trigger
from adinsights_orchestration.ingestion.airbyte_api import api_factory
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AirbyteSettings, IngestionSettings, OpsStoreSettings, Settings
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant

TENANT = Tenant(UUID(int=1), "Acme", "acme", timezone="UTC")
ONCE_A_YEAR = Schedule(ScheduleType.CRON, cron="0 0 1 1 *")


def deps(arguments: dict[str, Any]) -> Deps:
    """The engines' dependencies, as this process and the test that starts it both make them."""
    url = arguments["url"]
    settings = Settings(
        airbyte=AirbyteSettings(
            public_api_url=f"{url}/api/public/v1", config_api_url=f"{url}/api/v1", request_timeout_seconds=1.0
        ),
        ingestion=IngestionSettings(observe_overlap_seconds=5.0, retry_base_seconds=1.0, tick_budget_seconds=5.0),
    )
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(arguments["dsn"])))
    connections = tuple(
        Connection(
            row_id=UUID(one["id"]),
            tenant_id=TENANT.id,
            provider=Provider.META,
            name=one["id"],
            connection_id=UUID(one["id"]),
            schedule=ONCE_A_YEAR,
            workspace_id=UUID(arguments["workspace"]),
            partition_key=f"acme/{one['id'][:8]}",
        )
        for one in arguments["registry"]
    )
    registry = Registry((TENANT,), connections, "test", utc_now())
    seed = arguments["seed"]
    return Deps(settings, store, api_factory(settings.airbyte), registry, 8, rng=lambda: random.Random(seed))


def main() -> None:
    """Ticks until it is killed; `shift` moves its clock, so that later lives see the time that lost starts need."""
    arguments = json.loads(sys.argv[1])
    parts, shift = deps(arguments), timedelta(seconds=arguments["shift"])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        asyncio.run(trigger.tick(parts, utc_now() + shift))
        asyncio.run(observe.tick(parts, utc_now() + shift))


if __name__ == "__main__":
    main()
