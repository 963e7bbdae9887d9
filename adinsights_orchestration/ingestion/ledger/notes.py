"""Ingestion's findings, many at a time.

Belongs here: opening and clearing findings by kind and subjects in one statement each. Does not belong here: what a
finding is (`ops_store.findings`), when there is one (`intents`, `observe`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.ops_store.findings import open_finding, open_findings
from adinsights_orchestration.ops_store.tables import finding


def open_notes(
    connection: sa.Connection, kind: str, details: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[str]:
    """Opens or renews a finding per subject; returns the subjects that are new."""
    return [subject for subject, detail in details.items() if open_finding(connection, kind, subject, detail, now)]


def clear_notes(connection: sa.Connection, kinds: Iterable[str], subjects: Collection[str], now: datetime) -> int:
    """Clears the open findings of these kinds and subjects; returns how many there were."""
    if not subjects:
        return 0
    which = sa.and_(finding.c.kind.in_(list(kinds)), finding.c.subject.in_(subjects), finding.c.cleared_at.is_(None))
    return connection.execute(sa.update(finding).where(which).values(cleared_at=now)).rowcount


def noted(connection: sa.Connection, kind: str) -> dict[str, Mapping[str, Any]]:
    """Returns the details of the open findings of a kind, by subject."""
    return {one.subject: one.detail for one in open_findings(connection, kind)}
