"""Holds on restored rows: kept in the ops store, with an end.

Belongs here: adding, reading and ending them. Does not belong here: what a hold means (`windows`), legal holds, which
stand in `tenants.yaml`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal
from adinsights_orchestration.audit_log.model import IN_FORCE
from adinsights_orchestration.audit_log.source import NOBODY
from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_chunk, audit_hold

ENDED = "audit_log_hold_ended"
LONGEST = timedelta(days=2_555)  # seven years, as the longest contract: a hold for longer is a mistyped year


class NoSuchHoldError(AdinsightsError):
    """There is no hold of this number that could be ended."""


@dataclass(frozen=True, slots=True)
class KeptHold:
    """A hold with its number and its author."""

    id: int
    author: str
    hold: Hold


def add_hold(connection: sa.Connection, source: str, hold: Hold, author: str, now: datetime) -> bool:
    """Keeps the hold's rows until its end; returns whether it is new: one that another includes is not written."""
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
        return False
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
    return True


def held_tenants(connection: sa.Connection, source: str, hold: Hold) -> list[UUID]:
    """Returns whose rows a hold on restored rows keeps: of a hold on everybody, those who have archived rows there."""
    if hold.tenant_id is not None:
        return [hold.tenant_id]
    table = audit_chunk.c
    query = sa.select(table.tenant_id).where(
        table.source == source,
        table.day.between(hold.first_day, hold.last_day),
        table.state.in_([state.value for state in IN_FORCE]),
        table.rows > 0,
    )
    return list(connection.execute(query.distinct().order_by(table.tenant_id)).scalars())


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


def end_hold(
    connection: sa.Connection, source: str, kept: KeptHold, actor: str, now: datetime, left: Collection[UUID] = ()
) -> None:
    """Ends a hold at this moment, and journals who did; each tenant whose rows it held gets an audit row.

    Args:
        connection: To the ops store.
        source: The table's name in the archive.
        kept: The hold.
        actor: Who ends it.
        now: The moment.
        left: Tenants that have left: of a hold on everybody their row stays in the journal, for nobody reads their log.
    """
    connection.execute(sa.update(audit_hold).where(audit_hold.c.id == kept.id).values(ends_at=now))
    hold = kept.hold
    detail = {
        "hold": kept.id,
        "first_day": hold.first_day.isoformat() if hold.first_day else None,
        "last_day": hold.last_day.isoformat() if hold.last_day else None,
        "would_have_ended": hold.until.isoformat() if hold.until else None,
    }
    for tenant in held_tenants(connection, source, hold) or [NOBODY]:
        departed = hold.tenant_id is None and tenant in left
        whose = None if tenant == NOBODY or departed else tenant
        about = {**detail, "tenant": str(tenant)} if departed else detail
        record(connection, AuditEntry(whose, ENDED, journal.RESOURCE, source[:64], actor, now, about))


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
