"""Holds on restored rows: kept in the ops store, with an end.

Belongs here: adding and reading them. Does not belong here: what a hold means (`windows`), legal holds, which stand in
`tenants.yaml`.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from adinsights_orchestration.ops_store.audit_tables import audit_hold


def add_hold(connection: sa.Connection, source: str, hold: Hold, author: str, now: datetime) -> None:
    """Keeps the hold's rows until its end; a hold that another one includes is not written twice."""
    if hold.until is None or hold.first_day is None or hold.last_day is None:
        raise ValueError("a hold on restored rows has a first and a last day, and an end")
    table = audit_hold.c
    including = sa.select(table.id).where(
        table.source == source,
        sa.or_(table.tenant_id.is_(None), table.tenant_id == hold.tenant_id),
        table.first_day <= hold.first_day,
        table.last_day >= hold.last_day,
        table.ends_at >= hold.until,
    )
    if connection.execute(including.limit(1)).first() is not None:
        return
    row = {
        "source": source,
        "tenant_id": hold.tenant_id,
        "first_day": hold.first_day,
        "last_day": hold.last_day,
        "ends_at": hold.until,
        "reason": hold.reason,
        "author": author,
        "created_at": now,
    }
    connection.execute(sa.insert(audit_hold).values(row))


def holds_in_force(connection: sa.Connection, source: str, now: datetime) -> tuple[Hold, ...]:
    """Returns the holds on restored rows of a table."""
    query = sa.select(audit_hold).where(audit_hold.c.source == source, audit_hold.c.ends_at > now)
    return tuple(
        Hold(
            HoldKind.RESTORE,
            row.reason,
            row.tenant_id,
            first_day=row.first_day,
            last_day=row.last_day,
            until=row.ends_at,
        )
        for row in connection.execute(query.order_by(audit_hold.c.id))
    )
