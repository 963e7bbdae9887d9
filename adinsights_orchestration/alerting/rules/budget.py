"""Whether the API's error budget burns: several windows and burn rates, as in the SRE workbook.

Belongs here: from availability over windows to a finding, pure. Does not belong here: measuring (`history`), the
month's budget as a report. A rate counts only where it holds over the window and over its last twelfth: the long one
says that it matters, the short one that it has not stopped. A rate that spends two hundredths of the month's budget in
an hour pages; one that would spend the month's budget in a month is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from adinsights_orchestration.alerting.facts import Availability, Facts
from adinsights_orchestration.alerting.message import Severity, span
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.rules.rule import Rule, Verdict
from adinsights_orchestration.freshness.sla import Sla, SlaTable, Threshold
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.owners import PLATFORM_ENG

BURNING = "availability_burning"
_SHORT = 12  # the workbook: the short window is a twelfth of the long one
_SEVERITY = {
    Sla.BURN_RATE_1H: Severity.PAGE,
    Sla.BURN_RATE_6H: Severity.PAGE,
    Sla.BURN_RATE_1D: Severity.WARN,
    Sla.BURN_RATE_3D: Severity.WARN,
}
_LEAST_COVERED = 0.5  # of a window; of less it is not known how it was


def windows(sla: SlaTable) -> list[timedelta]:
    """The windows that availability is needed of."""
    return [each for name in _SEVERITY for each in _windows(sla[name])]


def burning(facts: Facts) -> Verdict:
    """The API's error budget is spent too fast."""
    slo = facts.sla[Sla.API_AVAILABILITY]
    budget = max(1 - slo.warn / 100, 1e-6)
    unknown = ""
    found: list[tuple[Threshold, float, float]] = []
    for name in _SEVERITY:
        level = facts.sla[name]
        long, short = (facts.availability.get(each) for each in _windows(level))
        if short is None:
            unknown = "no reading of the API lately"
        elif long is not None and _burns(long, level, budget) and _burns(short, level, budget):
            found.append((level, long.bad / budget, short.bad / budget))
    if not found:
        return Verdict(unknown={Component.API.value: unknown} if unknown else {})
    return Verdict([_finding(facts, slo, found)])


RULES = (Rule("error budget", (BURNING,), burning),)


def _windows(level: Threshold) -> tuple[timedelta, timedelta]:
    long = level.window or timedelta(hours=1)
    return long, long / _SHORT


def _burns(seen: Availability, level: Threshold, budget: float) -> bool:
    # What is not known of the window counts as well, up to half of it: a fresh deployment has no hour yet.
    share = seen.bad * min(seen.covered / _LEAST_COVERED, 1.0)
    return share >= level.page * budget


def _finding(facts: Facts, slo: Threshold, found: list[tuple[Threshold, float, float]]) -> Finding:
    rates = _said(found)
    level = found[0][0]  # the fastest
    longest = max(_windows(each)[0] for each, _, _ in found)
    return Finding(
        rule=BURNING,
        resource=Component.API.value,
        severity=max((_SEVERITY[each.name] for each, _, _ in found), key=lambda severity: severity.rank),
        title="The API's error budget burns",
        detail=f"Of the errors that {slo.warn:g} % availability allows, {'; '.join(rates.values())}.",
        since=facts.now - longest,
        is_since_found=True,
        labels={"component": Component.API.value},
        sla=level.describe(),
        owner=PLATFORM_ENG,
        next_step="Look at the backend's errors by view and at its last deployment; roll it back if it began there.",
        links=(*facts.places.component(Component.API)[:1], facts.places.runbook("the-error-budget-burns")),
        asset=f"health/{Component.API.value}",
        is_symptom=True,
        is_measured=True,
    )


def _said(found: list[tuple[Threshold, float, float]]) -> Mapping[Sla, str]:
    return {
        level.name: f"{rate:.1f} times as many over {span(_windows(level)[0].total_seconds())}"
        f" and {short:.1f} times over {span(_windows(level)[1].total_seconds())}"
        for level, rate, short in found
    }
