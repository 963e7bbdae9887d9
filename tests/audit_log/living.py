"""An archive whose rows have left the table long ago, and what happens to it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log.leaving.expiry import ExpiryReport, expire
from adinsights_orchestration.audit_log.leaving.removing import Archive
from adinsights_orchestration.audit_log.reading.verify import VerifyReport, verify_range
from adinsights_orchestration.audit_log.retention import chunks
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.ops_store.audit_tables import audit_chunk
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import serve
from tests.audit_log.conftest import LAST, NOW, Place
from tests.audit_log.restoring import empty
from tests.audit_log.rows import FIRST

MUCH_LATER = datetime(2026, 6, 1, 7, tzinfo=UTC)
LAST_OF_MONTH = date(2024, 1, 31)
KEEPS = 500  # days: every day of the tests is older at that time


def archive_of(place: Place, store: Store | None = None, now: datetime = MUCH_LATER) -> Archive:
    return Archive(place.settings, place.ops, AUDIT_LOG, "a test", store or place.store, lambda: now)


def register(place: Place, keeps: int | None = KEEPS, now: datetime = MUCH_LATER, **of_first: Any) -> None:
    """Makes the tenants the registry; the first of them with something of its own."""
    tenants = [
        Tenant(tenant, f"Tenant {number}", f"t{number}", archive_retention_days=keeps)
        for number, tenant in enumerate(place.tenants)
    ]
    serve(place.ops, [replace(tenants[0], **of_first), *tenants[1:]], now)


def let_the_month_end(place: Place) -> Place:
    """The month is over and archived; its rows are still in the table."""
    place.now = NOW + timedelta(days=30)
    place.archive(FIRST, LAST_OF_MONTH)
    register(place)
    return place


def leave_the_table(place: Place) -> None:
    """As retention leaves it: no row in the table, and the ledger knows."""
    empty(place)
    with place.ops.begin() as connection:
        rows = connection.execute(sa.select(audit_chunk.c.tenant_id, audit_chunk.c.day)).all()
        chunks.mark_gone(connection, AUDIT_LOG.name, {(row.tenant_id, row.day) for row in rows}, MUCH_LATER)


def expired(place: Place, *, apply: bool = True, store: Store | None = None) -> ExpiryReport:
    return expire(archive_of(place, store), apply=apply)


def verified(place: Place, store: Store | None = None) -> VerifyReport:
    return verify_range(store or place.store, AUDIT_LOG, FIRST, LAST)


def objects(place: Place) -> set[str]:
    return {key for key in place.store.keys("audit/v1/accounts_auditlog/") if key.endswith(".parquet")}


def rows_by_day(place: Place, *tenants: UUID) -> Mapping[date, int]:
    found: dict[date, int] = {}
    for row in place.rows:
        if not tenants or row.tenant in tenants:
            found[row.day] = found.get(row.day, 0) + 1
    return found
