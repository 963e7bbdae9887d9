"""Findings and moments that the tests of alerting share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from adinsights_orchestration.alerting.evaluation.engine import After, Before, Surroundings, advance
from adinsights_orchestration.alerting.evaluation.incidents import acknowledge
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Absent, Finding, Incident, Unknown
from adinsights_orchestration.alerting.telling.grouping import Group, Op, Options, Order

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def finding(
    resource: str = "acme-meta", severity: Severity = Severity.WARN, rule: str = "connection_stale", **fields: object
) -> Finding:
    """A finding with everything that a test does not speak of."""
    given: dict[str, object] = {"title": f"{resource} is late", "detail": "no success since 08:00", "since": NOON}
    return Finding(rule=rule, resource=resource, severity=severity, **{**given, **fields})  # type: ignore[arg-type]


class World:
    """The engine in virtual time: what is wrong, who is told, and the messages as a channel would show them."""

    def __init__(self, options: Options | None = None, **around: object) -> None:
        self.around = Surroundings(options or Options(Routes(("main",))), **around)  # type: ignore[arg-type]
        self.now = NOON
        self.incidents: dict[str, Incident] = {}
        self.groups: dict[str, Group] = {}
        self.orders: list[Order] = []
        self.after: After | None = None
        self.memory: tuple[str, ...] = ()

    def tick(self, *findings: Finding, after: timedelta = timedelta(minutes=1), blind: bool = False) -> list[Order]:
        """Moves time on, evaluates, and returns what is to be said."""
        self.now += after
        window = self.around.options.storm.within if self.around.options.storm else timedelta()
        lately = sum(g.opened_at is not None and g.opened_at > self.now - window for g in self.groups.values())
        open_ones = {fp: each for fp, each in self.incidents.items() if each.is_open}
        known = open_ones | {
            f.fingerprint: self.incidents[f.fingerprint] for f in findings if f.fingerprint in self.incidents
        }
        self.after = advance(
            Before(known, self.groups, lately),
            findings,
            lambda _: Unknown("no answer") if blind else Absent(),
            self.around,
            self.now,
        )
        self.incidents |= {each.fingerprint: each for each in self.after.incidents}
        self.groups |= {each.key: each for each in self.after.groups}
        self.orders += self.after.orders
        return list(self.after.orders)

    def ack(self, resource: str, who: str = "ann") -> None:
        """Acknowledges the incident about the resource."""
        for fp, each in self.incidents.items():
            if each.finding.resource == resource:
                self.incidents[fp], _ = acknowledge(each, who, self.now)

    def said(self) -> list[tuple[str, str]]:
        """Everything said so far, edits left out: operation and reason."""
        return [(each.op.value, each.reason.value) for each in self.orders if each.op is not Op.UPDATE]
