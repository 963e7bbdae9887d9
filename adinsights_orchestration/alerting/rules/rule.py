"""What a rule is, and what it may say.

Belongs here: the shape. Does not belong here: any rule. A rule never knows what it said before: it looks at facts, and
says what is wrong and of what it knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, TypeVar, cast

from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.message import Severity, clean
from adinsights_orchestration.alerting.model import Absent, Finding, Incident, Observation, Unknown
from adinsights_orchestration.owners import PLATFORM_ENG

RULE_FAILED = "alert_rule_failed"
STORM_RULE = "alert_storm"  # the finding that speaks for the groups that are held back


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says.

    Attributes:
        findings: What is wrong.
        blind: Why nothing is known of anything that the rule speaks of; empty where something is.
        unknown: Resources of which nothing is known, with why.
    """

    findings: Sequence[Finding] = ()
    blind: str = ""
    unknown: dict[str, str] = field(default_factory=dict)


T = TypeVar("T")
Dated: TypeAlias = tuple[Sequence[T], datetime | None]  # and when time alone makes it another


def while_it_holds(facts: Facts, name: str, judge: Callable[[], Dated[T]]) -> Sequence[T]:
    """Returns what follows from `facts.connections`, the same as before while those are and no time has come.

    Args:
        facts: The facts.
        name: What names it among all that is kept.
        judge: Looks at every connection; returns what follows, and when that becomes another.
    """
    known = facts.memo.get(name)
    if known is not None:
        connections, at, until, found = known
        if connections is facts.connections and at <= facts.now and (until is None or facts.now < until):
            return cast("Sequence[T]", found)
    found, until = judge()
    facts.memo[name] = (facts.connections, facts.now, until, found)
    return found


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        name: The name of the function's job, for when it fails.
        speaks_of: The names of the findings that it may find.
        judge: The rule.
    """

    name: str
    speaks_of: tuple[str, ...]
    judge: Callable[[Facts], Verdict]


@dataclass(frozen=True)
class Judged:
    """What all rules say together."""

    findings: Sequence[Finding]
    verdicts: dict[str, Verdict]

    def unfound(self, incident: Incident) -> Observation:
        """Whether an open incident that was not found is over, or nothing is known of it."""
        finding = incident.finding
        verdict = self.verdicts.get(finding.rule)
        if verdict is None:
            return Absent("nothing watches it any more")
        if verdict.blind:
            return Unknown(verdict.blind)
        why = verdict.unknown.get(finding.resource)
        return Absent("not found any more") if why is None else Unknown(why)


def judge(rules: Iterable[Rule], facts: Facts) -> Judged:
    """Lets every rule judge the facts. One that raises is a finding itself, blinds nothing but itself, stops none."""
    findings: list[Finding] = []
    verdicts: dict[str, Verdict] = {RULE_FAILED: Verdict()}
    for rule in rules:
        try:
            verdict = rule.judge(facts)
            findings += verdict.findings
        except Exception as error:  # noqa: BLE001  (whatever a rule raises, the others go on)
            verdict = Verdict(blind=f"the rule failed: {type(error).__name__}")
            findings.append(_failed(rule, error, facts))
        verdicts |= dict.fromkeys(rule.speaks_of, verdict)
    return Judged(findings, verdicts)


def _failed(rule: Rule, error: Exception, facts: Facts) -> Finding:
    return Finding(
        rule=RULE_FAILED,
        resource=rule.name,
        severity=Severity.PAGE,
        title=f"The alert rule {rule.name} fails",
        detail=clean(f"{type(error).__name__}: {error}", 300),
        since=facts.now,
        is_since_found=True,
        owner=PLATFORM_ENG,
        next_step="What it watches is not watched now. Look at its error in the log of the monitoring location.",
        links=(facts.places.runbook("an-alert-rule-fails"),),
    )
