"""A backend whose archived rows have left the table, and restores of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log.restore.plan import Wanted
from adinsights_orchestration.audit_log.restore.report import RestoreReport
from adinsights_orchestration.audit_log.restore.run import Order, Restore
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.statements import midnight
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import World, serve
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.rows import FIRST, TABLE

RESTORED = "accounts_auditlog_restored"
LATER = datetime(2025, 6, 1, 7, tzinfo=UTC)  # every row is older than its window
UNTIL = LATER + timedelta(days=30)
EVERY_COLUMN = "id, tenant_id, user_id, action, resource_type, resource_id, metadata::text, created_at"


def whole_days(first: date, last: date, tenants: Sequence[UUID] = ()) -> Wanted:
    """All rows from the first day to the last, which is included."""
    return Wanted(midnight(first), midnight(last + timedelta(days=1)), tuple(tenants))


def all_days(*tenants: UUID) -> Wanted:
    return whole_days(FIRST, LAST, tenants)


def restorer(place: Place, now: datetime = LATER) -> Restore:
    return Restore(place.settings, place.ops, AUDIT_LOG, "a test", place.store, lambda: now)


def restore(place: Place, wanted: Wanted | None = None, **order: object) -> RestoreReport:
    """Into a table of its own, unless it is said otherwise."""
    values = {"wanted": wanted or all_days(), "apply": True, **order}
    return restorer(place).run(Order(**values))  # type: ignore[arg-type]


def restore_live(place: Place, wanted: Wanted | None = None) -> RestoreReport:
    return restore(place, wanted, live=True, hold_until=UNTIL)


def rows_of(place: Place, table: str = TABLE, columns: str = EVERY_COLUMN) -> list[tuple[object, ...]]:
    return place.backend.execute(f"select {columns} from {table} order by id")


def empty(place: Place) -> None:
    """As if retention had deleted everything, in the table alone."""
    place.backend.execute(f"delete from {TABLE}")


def retention(place: Place) -> World:
    """The real retention over the same backend and ledger."""
    serve(place.ops, [Tenant(tenant, f"Tenant {number}", f"t{number}") for number, tenant in enumerate(place.tenants)])
    return World(place.backend.dsn, place.ops, place.settings)


def audit_rows(place: Place, action: str = "audit_log_restored") -> list[sa.Row[tuple[object, ...]]]:
    query = sa.select(audit_entry).where(audit_entry.c.action == action).order_by(audit_entry.c.created_at)
    with place.ops.begin() as connection:
        return list(connection.execute(query))


def a_day(number: int) -> date:
    return FIRST + timedelta(days=number)
