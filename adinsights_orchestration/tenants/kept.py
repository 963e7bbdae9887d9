"""What keeps audit rows, from one read of the overlay to the next: a hold that was served ends in writing only.

Belongs here: what a tenant's legal holds and windows are now, given what its entry says and what was served before.
Does not belong here: which entry means which tenant (`overlay`), what follows from a hold (the audit log). An entry
that stopped matching, a key that fell out and an emptied file look the same from here, and the same as a hold that
somebody meant to lift. Only one of these may delete what a court wants, so silence changes nothing: what is served goes
on until an entry says otherwise, and a problem says so meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TypedDict
from uuid import UUID

from adinsights_orchestration.tenants.model import MINIMUM_RETENTION_DAYS, ResourceHold, Tenant
from adinsights_orchestration.tenants.overlay import TenantOverlay

_ANYBODY = Tenant(UUID(int=0), "", "")  # of whom no entry says anything


class Kept(TypedDict):
    """A tenant's values that say which of its audit rows stay, and for how long."""

    retention_days: int
    archive_retention_days: int | None
    legal_hold: bool
    legal_holds: tuple[ResourceHold, ...]


def kept_values(said: TenantOverlay, before: Tenant | None) -> Kept:
    """Returns what the entry says, and where it is silent what was served before."""
    last = before or _ANYBODY
    days = said.retention_days or last.retention_days
    archive_days = said.archive_retention_days  # without it the archive keeps rows for ever: silence loses none
    return Kept(
        retention_days=days,
        # The file was checked against the window that it states; a window that is still served may be longer.
        archive_retention_days=archive_days if archive_days is not None and archive_days > days else None,
        legal_hold=last.legal_hold if said.legal_hold is None else said.legal_hold,
        legal_holds=last.legal_holds if said.legal_holds is None else said.legal_holds,
    )


def gone_tenant(tenant: Tenant, slug: str, entry: TenantOverlay | None) -> Tenant:
    """Returns a tenant that has left with what its entry says now; without an entry with what it had."""
    retired = replace(tenant, slug=slug, retired=True)
    return replace(retired, **kept_values(entry, tenant)) if entry is not None else retired


def archived_alone(
    entries: Iterable[TenantOverlay], archived: Collection[UUID], known: Collection[UUID]
) -> list[Tenant]:
    """Returns tenants that neither the source nor the last registry knows, whose archived rows an entry keeps."""
    return [
        forgotten_tenant(entry.id)
        for entry in entries
        if entry.id is not None and entry.id in archived and entry.id not in known and entry.keeps_rows
    ]


def forgotten_tenant(tenant_id: UUID) -> Tenant:
    """A tenant of which nothing is left but its id."""
    return Tenant(tenant_id, "(forgotten)", f"tenant-{tenant_id.hex}", retired=True)


def unsaid(tenant: Tenant, entry: TenantOverlay | None, before: Tenant | None) -> str:
    """What is in force for a tenant although no entry says it any more, with the way to end it; empty if nothing is."""
    if before is None:
        return ""
    said = entry or TenantOverlay(place="")
    still = ["legal_hold: false"] if before.legal_hold and said.legal_hold is None else []
    still += ["legal_holds: []"] if before.legal_holds and said.legal_holds is None else []
    # Of a tenant that has left nothing waits for a shorter window.
    longer = before.retention_days > MINIMUM_RETENTION_DAYS and said.retention_days is None and not tenant.retired
    still += [f"retention_days: {MINIMUM_RETENTION_DAYS}"] if longer else []
    if not still:
        return ""
    return (
        f"the overlay does not say any more what keeps audit rows of {tenant.name!r}, so that stays in force; say it"
        f" again, or end it by an entry of the id {tenant.id} with {', '.join(still)}"
    )
