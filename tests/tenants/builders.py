"""Short ways to say what a registry source holds."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType
from adinsights_orchestration.tenants.overlay import parse_overlay
from adinsights_orchestration.tenants.raw import RawConnection, RawRegistry, RawTenant
from adinsights_orchestration.tenants.rules import build_registry
from adinsights_orchestration.tenants.store import NEVER_READ

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOURLY = Schedule(ScheduleType.INTERVAL, interval=timedelta(hours=1))
ACME = UUID("a0000000-0000-4000-8000-000000000001")
GLOBEX = UUID("b0000000-0000-4000-8000-000000000002")


def raw_tenant(tenant_id: UUID = ACME, name: str = "Acme Jamaica Ltd") -> RawTenant:
    """One tenant of a source."""
    return RawTenant(tenant_id, name, f"tenant {tenant_id}")


def raw_connection(tenant_id: UUID = ACME, name: str = "Meta Ads", **others: Any) -> RawConnection:
    """One connection of a source: an hourly Meta one, unless `others` say otherwise."""
    row_id = others.pop("row_id", None) or uuid.uuid4()
    values: dict[str, Any] = {
        "row_id": row_id,
        "tenant_id": tenant_id,
        "provider": "META",
        "name": name,
        "connection_id": uuid.uuid4(),
        "workspace_id": None,
        "schedule_type": "interval",
        "interval_minutes": 60,
        "cron_expression": "",
        "is_active": True,
        "place": f"row {name}",
        **others,
    }
    return RawConnection(**values)


def raw_registry(*rows: RawTenant | RawConnection) -> RawRegistry:
    """A source that holds these rows."""
    tenants = tuple(row for row in rows if isinstance(row, RawTenant))
    return RawRegistry("a test", tenants, tuple(row for row in rows if isinstance(row, RawConnection)))


def built(*rows: RawTenant | RawConnection, overlay: str = "", previous: Registry = NEVER_READ) -> Registry:
    """The registry that the rules make of these rows."""
    return build_registry(
        raw_registry(*rows),
        parse_overlay(overlay, "tenants.yaml"),
        previous,
        default_timezone="America/Jamaica",
        read_at=NOW,
    )


def connection(row_id: UUID, connection_id: UUID, tenant_id: UUID = ACME, name: str = "Meta Ads") -> Connection:
    """A usable connection."""
    return Connection(row_id, tenant_id, Provider.META, name, connection_id, HOURLY)
