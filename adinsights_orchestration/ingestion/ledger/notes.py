"""Ingestion's findings, many at a time.

Belongs here: opening and clearing findings by kind and subjects in one statement each. Does not belong here: what a
finding is (`ops_store.findings`), when there is one (`intents`, `observe`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from adinsights_orchestration.ops_store.findings import open_finding, open_findings
from adinsights_orchestration.ops_store.tables import finding

_CLEAR = (
    sa.update(finding)
    .where(
        finding.c.kind == sa.any_(sa.bindparam("kinds", type_=ARRAY(sa.Text))),
        finding.c.subject == sa.any_(sa.bindparam("subjects", type_=ARRAY(sa.Text))),
        finding.c.cleared_at.is_(None),
    )
    .values(cleared_at=sa.bindparam("now", type_=sa.DateTime(timezone=True)))
)


def open_notes(
    connection: sa.Connection, kind: str, details: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[str]:
    """Opens or renews a finding per subject; returns the subjects that are new."""
    return [subject for subject, detail in details.items() if open_finding(connection, kind, subject, detail, now)]


def clear_notes(connection: sa.Connection, kinds: Iterable[str], subjects: Collection[str], now: datetime) -> int:
    """Clears the open findings of these kinds and subjects; returns how many there were."""
    if not subjects:
        return 0
    return connection.execute(_CLEAR, {"kinds": list(kinds), "subjects": list(subjects), "now": now}).rowcount


def noted(connection: sa.Connection, kind: str) -> dict[str, Mapping[str, Any]]:
    """Returns the details of the open findings of a kind, by subject."""
    return {one.subject: one.detail for one in open_findings(connection, kind)}
