"""What people call a tenant whose rows are counted.

Belongs here: from ids to slugs, by the registry as it was read last. Does not belong here: deciding anything by them:
a tenant that has left keeps its rows, and has no name any more.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants.store import load_registry

TenantName = Callable[[UUID], str]


def tenant_names(store: OpsStore) -> TenantName:
    """Gives each id the slug of its tenant; the id itself where the registry does not know it."""
    slugs = {tenant.id: tenant.slug for tenant in load_registry(store).tenants}
    return lambda tenant_id: slugs.get(tenant_id) or str(tenant_id)
