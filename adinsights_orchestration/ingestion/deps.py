"""What every engine of ingestion works with: settings, ledger, Airbyte, registry, bound.

Belongs here: that one value, and the registry arranged for look-ups. Does not belong here: making any of the parts
(`build.py`, tests). Engines get everything from here, so a test gives them another server or another moment instead of
patching them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from uuid import UUID

from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi, ApiFactory
from adinsights_orchestration.ingestion.intents import Rules
from adinsights_orchestration.ingestion.ledger import Place
from adinsights_orchestration.ingestion.retry import RetryPolicy
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection, Registry, Standing, Tenant


@dataclass(frozen=True, slots=True)
class Deps:
    """What the engines need.

    Attributes:
        settings: All settings.
        store: The ops store.
        api: Makes Airbyte clients.
        registry: The last good registry.
        bound: Syncs that may run at once, of all processes together.
        rng: Makes the source of jitter; a seeded one makes a tick repeatable.
    """

    settings: Settings
    store: OpsStore
    api: ApiFactory
    registry: Registry
    bound: int
    rng: Callable[[], random.Random] = random.Random

    @property
    def rules(self) -> Rules:
        """What the intents' decisions need of the settings."""
        return Rules(
            RetryPolicy.of(self.settings.ingestion),
            timedelta(seconds=self.settings.airbyte.request_timeout_seconds),
        )


def sync_bound(settings: Settings, at_once: int) -> int:
    """The bound on running syncs: the setting's, else the environment's."""
    return settings.ingestion.max_running_syncs or at_once


class RegistryView:
    """A registry arranged for look-ups by Airbyte's connection id."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._tenants: Mapping[UUID, Tenant] = {tenant.id: tenant for tenant in registry.tenants}

    @cached_property
    def places(self) -> Mapping[UUID, Place]:
        """Where each connection that has a partition belongs."""
        return {
            one.connection_id: Place(one.partition_key, one.provider, one.tenant_id)
            for one in self._registry.connections
            if one.partition_key
        }

    @cached_property
    def active(self) -> Mapping[UUID, tuple[Connection, Tenant]]:
        """Connections that are driven, with their tenants."""
        return {
            one.connection_id: (one, self._tenants[one.tenant_id])
            for one in self._registry.connections
            if one.standing is Standing.ACTIVE and one.partition_key and one.tenant_id in self._tenants
        }

    @property
    def workspaces(self) -> frozenset[UUID] | None:
        """The workspaces of all connections, or None where the registry does not name every one."""
        named = {one.workspace_id for one in self._registry.connections if not one.retired}
        return frozenset(one for one in named if one is not None) if named and None not in named else None


async def workspaces_of(api: AirbyteApi, settings: Settings, view: RegistryView) -> frozenset[UUID]:
    """Where to look for jobs: what the settings name, else the registry, else everything the credentials may see."""
    named: Iterable[UUID] | None = settings.airbyte.workspace_ids or view.workspaces
    return frozenset(named if named else await api.workspaces())
