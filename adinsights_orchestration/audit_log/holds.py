"""Holds on restored rows: kept in the ops store, with an end.

Belongs here: adding, reading and ending them. Does not belong here: what a hold means (`windows`), legal holds, which
stand in `tenants.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal
from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_hold

ENDED = "audit_log_hold_ended"


class NoSuchHoldError(AdinsightsError):
    """There is no hold of this number that could be ended."""


@dataclass(frozen=True, slots=True)
class KeptHold:
    """A hold with its number and its author."""

    id: int
    author: str
    hold: Hold


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
    return tuple(each.hold for each in list_holds(connection, source, now))


def list_holds(connection: sa.Connection, source: str, now: datetime, *, ended: bool = False) -> list[KeptHold]:
    """Returns the holds with their numbers; those that have ended too, where that is asked for."""
    query = sa.select(audit_hold).where(audit_hold.c.source == source)
    if not ended:
        query = query.where(audit_hold.c.ends_at > now)
    return [_kept(row) for row in connection.execute(query.order_by(audit_hold.c.id))]


def one_hold(connection: sa.Connection, source: str, number: int, now: datetime) -> KeptHold:
    """Returns a hold that is in force by its number.

    Raises:
        NoSuchHoldError: There is none, or it has ended.
    """
    for each in list_holds(connection, source, now):
        if each.id == number:
            return each
    raise NoSuchHoldError(
        f"no hold {number} is in force", next_step="`adinsights audit holds list` shows those that are."
    )


def end_hold(connection: sa.Connection, source: str, kept: KeptHold, actor: str, now: datetime) -> None:
    """Ends a hold at this moment, and journals who did; a tenant whose rows it held gets an audit row."""
    connection.execute(sa.update(audit_hold).where(audit_hold.c.id == kept.id).values(ends_at=now))
    hold = kept.hold
    detail = {
        "hold": kept.id,
        "first_day": hold.first_day.isoformat() if hold.first_day else None,
        "last_day": hold.last_day.isoformat() if hold.last_day else None,
        "would_have_ended": hold.until.isoformat() if hold.until else None,
    }
    entry = AuditEntry(hold.tenant_id, ENDED, journal.RESOURCE, source[:64], actor, now, detail)
    record(connection, entry)


def _kept(row: sa.Row[Any]) -> KeptHold:
    hold = Hold(
        HoldKind.RESTORE,
        row.reason,
        row.tenant_id,
        first_day=row.first_day,
        last_day=row.last_day,
        until=row.ends_at,
    )
    return KeptHold(row.id, row.author, hold)
