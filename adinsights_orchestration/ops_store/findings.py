"""Findings: what a person should know, kept in the ops store until it is no longer so.

Belongs here: opening, clearing and listing them. Does not belong here: deciding that something is one (each domain's
rules), telling anybody (alerting). A finding is named by its kind and subject; while it is open there is one row of it,
however often it is seen, and its detail is that of the last time. Details hold no secrets and no personal data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.ops_store.tables import finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One open finding."""

    kind: str
    subject: str
    detail: Mapping[str, Any]
    first_seen_at: datetime
    last_seen_at: datetime


def open_finding(connection: sa.Connection, kind: str, subject: str, detail: Mapping[str, Any], now: datetime) -> bool:
    """Opens the finding, or renews the open one; returns whether it is new.

    Args:
        connection: The caller's transaction.
        kind: What sort of finding: `webhook_missed`, `registry_problem`.
        subject: What it is about; with `kind` its identity while it is open.
        detail: What a person needs beside that: a reason, a next step, identifiers. Must fit JSON.
        now: The moment it was seen.
    """
    fresh = insert(finding).values(kind=kind, subject=subject, detail=dict(detail), first_seen_at=now, last_seen_at=now)
    kept = fresh.on_conflict_do_update(
        index_elements=[finding.c.kind, finding.c.subject],
        index_where=finding.c.cleared_at.is_(None),
        set_={"detail": fresh.excluded.detail, "last_seen_at": fresh.excluded.last_seen_at},
    )
    # The row version of an update carries the id of the transaction that locked the old one; an insert's carries none.
    inserted = sa.literal_column("xmax = 0", sa.Boolean)
    return bool(connection.execute(kept.returning(inserted)).scalar_one())


def clear_finding(connection: sa.Connection, kind: str, subject: str, now: datetime) -> bool:
    """Clears the open finding of this kind and subject; returns whether there was one."""
    return _clear(connection, sa.and_(finding.c.kind == kind, finding.c.subject == subject), now) > 0


def replace_findings(
    connection: sa.Connection, kind: str, details: Mapping[str, Mapping[str, Any]], now: datetime
) -> None:
    """Makes `details` (by subject) the open findings of this kind: opens what is new, clears what is not among them."""
    gone = sa.and_(finding.c.kind == kind, finding.c.subject.not_in(list(details)))
    _clear(connection, gone, now)
    for subject, detail in details.items():
        open_finding(connection, kind, subject, detail, now)


def open_findings(connection: sa.Connection, kind: str | None = None) -> tuple[Finding, ...]:
    """Returns the open findings, oldest first; those of one kind when it is given."""
    columns = (finding.c.kind, finding.c.subject, finding.c.detail, finding.c.first_seen_at, finding.c.last_seen_at)
    query = sa.select(*columns).where(finding.c.cleared_at.is_(None)).order_by(finding.c.first_seen_at, finding.c.id)
    if kind is not None:
        query = query.where(finding.c.kind == kind)
    return tuple(Finding(*row) for row in connection.execute(query))


def _clear(connection: sa.Connection, which: sa.ColumnElement[bool], now: datetime) -> int:
    cleared = sa.update(finding).where(which, finding.c.cleared_at.is_(None)).values(cleared_at=now)
    return connection.execute(cleared).rowcount
