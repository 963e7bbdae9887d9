"""A connector's configuration for an account of the local world.

Belongs here: which account ids, token and address a tenant's connector is given. Does not belong here: what it does
with them (its manifest).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.tenants.model import Provider

LOOKBACK_DAYS = 3  # as long as conversions arrive late


def connector_config(
    world: World, tenant_slug: str, tenant_id: UUID, provider: Provider, ads_url: str
) -> dict[str, Any]:
    """Returns the configuration of a tenant's connector for one platform.

    Args:
        world: What the platforms report on; its size says how many days a first sync reads.
        tenant_slug: The tenant in the world.
        tenant_id: What its records carry as `tenant_id`.
        provider: The platform.
        ads_url: Where the ad platforms are mounted, without a trailing slash: `http://127.0.0.1:18000/ads`.
    """
    tenant = world.tenant(tenant_slug)
    accounts = world.accounts(tenant, provider)
    if not accounts:
        raise KeyError(f"{tenant_slug} has no account on {provider.value}")
    return {
        "base_url": f"{ads_url}/{provider.value}",
        "access_token": world.access_token(tenant, provider),
        "tenant_id": str(tenant_id),
        "account_ids": [account.id for account in accounts],
        "start_date": (world.today(accounts[0]) - timedelta(days=world.size.days)).isoformat(),
        "lookback_days": LOOKBACK_DAYS,
    }
