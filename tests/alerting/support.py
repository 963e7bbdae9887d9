"""Findings and moments that the tests of alerting share."""

from __future__ import annotations

from datetime import UTC, datetime

from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Finding

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def finding(
    resource: str = "acme-meta", severity: Severity = Severity.WARN, rule: str = "connection_stale", **fields: object
) -> Finding:
    """A finding with everything that a test does not speak of."""
    given: dict[str, object] = {"title": f"{resource} is late", "detail": "no success since 08:00", "since": NOON}
    return Finding(rule=rule, resource=resource, severity=severity, **{**given, **fields})  # type: ignore[arg-type]
