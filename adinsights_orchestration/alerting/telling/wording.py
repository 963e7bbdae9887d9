"""The words of messages: a group's first one, and the lines of its story.

Belongs here: from incidents to a `Message`, pure. Does not belong here: when it is said (`notify`), any markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from adinsights_orchestration.alerting.audience import noticed, owner_name, team
from adinsights_orchestration.alerting.message import (
    LONGEST_DETAIL,
    LONGEST_TITLE,
    Item,
    Message,
    Severity,
    Standing,
    clean,
    moment,
    span,
)
from adinsights_orchestration.alerting.model import Incident
from adinsights_orchestration.alerting.telling.quiet import explained, kind_of
from adinsights_orchestration.redaction import redact

SHOWN = 10  # incidents of a message: more than a person reads, and well inside Slack's limits
NAMED = 5  # titles in a line of the story
_THINGS = frozenset(("automation", "check", "component", "connection", "daemon", "provider", "run"))  # that one counts
_STATES = {"component_down": "not well"}  # a degraded one is told under the same rule


@dataclass(frozen=True, slots=True)
class Matter:
    """A group's incidents as people are told of them.

    Attributes:
        key: The group's key.
        episode: Which of its messages.
        visible: What fires and is told, the worst first.
        ended: What was told and is over.
        hidden: What fires and is kept from people.
        explained: Rules of what this group's incidents explain elsewhere.
        since: When the oldest matter of the episode began.
        severity: The worst of the episode.
        title: What it was called at its worst; empty before it was told.
        most: The most incidents at once.
    """

    key: str
    episode: int
    visible: Sequence[Incident]
    ended: Sequence[Incident]
    hidden: Sequence[Incident]
    explained: Sequence[str]
    since: datetime
    severity: Severity
    title: str
    most: int

    @property
    def standing(self) -> Standing:
        """How it stands as a whole."""
        if self.visible:
            acked = all(each.acked_at is not None for each in self.visible)
            return Standing.ACKNOWLEDGED if acked else Standing.FIRING
        return Standing.SUPPRESSED if self.hidden else Standing.RESOLVED

    @property
    def over_at(self) -> datetime | None:
        """When the last of it was over; None while something fires, or where none of it was told."""
        if self.standing is not Standing.RESOLVED:
            return None
        return max((each.ended_at for each in self.ended if each.ended_at), default=None)


def root(matter: Matter, now: datetime | None) -> Message:
    """Returns the message of the matter as it stands.

    Args:
        matter: What to say.
        now: The moment, for ages; None leaves them out, so that two messages that say the same are equal.
    """
    standing = matter.standing
    shown = [*matter.visible, *matter.ended][:SHOWN]
    over = standing is Standing.RESOLVED
    return Message(
        group=matter.key,
        episode=matter.episode,
        standing=standing,
        severity=matter.severity if over or not matter.visible else _worst(matter.visible),
        title=title(matter),
        since=matter.since,
        lines=tuple(_lines(matter)),
        items=tuple(item(each, now) for each in shown),
        more=max(len(matter.visible or matter.ended) - len(shown), 0),
        more_impacts=len(_impacts(matter.visible)) - len(_impacts(matter.visible[:SHOWN])),
        ended=matter.over_at,
        owner=teams(shown),
    )


def title(matter: Matter) -> str:
    """The matter in one line: the incident's own title, or how many of what there are, and that it is over."""
    if matter.visible:
        return _several(matter.visible)
    worst = matter.title or _several(matter.ended or matter.hidden)
    over = f"Over after {lasted(matter, matter.over_at)}: " if matter.over_at is not None else ""
    return clean(over + worst, LONGEST_TITLE)


def lasted(matter: Matter, until: datetime) -> str:
    """How long it went on, for people."""
    return span((until - matter.since).total_seconds())


def teams(incidents: Iterable[Incident]) -> str:
    """The teams whose they are, the first one's first: `Data Engineering and Platform Engineering`."""
    return " and ".join(dict.fromkeys(team(each.finding.owner) for each in incidents if each.finding.owner))


def story(
    matter: Matter,
    words: str,
    now: datetime,
    *,
    news: Sequence[Incident] = (),
    ended: Sequence[Incident] = (),
    broadcast: bool,
    alarms: bool,
) -> Message:
    """Returns a line of the story.

    Args:
        matter: The matter.
        words: What it says.
        now: The moment.
        news: The incidents that it tells of.
        ended: Those whose end it tells.
        broadcast: Whether it is seen outside the thread too.
        alarms: Whether what it tells of is wrong.
    """
    impacts = _told_impacts(matter, news, ended)
    return Message(
        group=matter.key,
        episode=matter.episode,
        standing=matter.standing,
        severity=matter.severity if not matter.visible else _worst(matter.visible),
        title=title(matter),
        since=matter.since,
        lines=(f"{moment(now)}: {words}",),
        ended=matter.over_at,
        owner=teams(matter.visible or matter.ended),
        broadcast=broadcast,
        alarms=alarms,
        impacts=tuple(impacts[:SHOWN]),
        more_impacts=len(impacts[SHOWN:]),
    )


def named(incidents: Sequence[Incident]) -> str:
    """Their titles, a handful of them."""
    shown = [clean(each.finding.title, LONGEST_TITLE) for each in incidents[:NAMED]]
    rest = len(incidents) - len(shown)
    return "; ".join(shown) + (f"; and {rest:,} more" if rest else "")


def counted(rules: Iterable[str]) -> str:
    """How many of what: `12 connections stale, 1 dbt stale`."""
    return ", ".join(f"{count:,} {_called(rule, count)}" for rule, count in sorted(Counter(rules).items()))


def item(incident: Incident, now: datetime | None) -> Item:
    """One incident of a message."""
    finding = incident.finding
    return Item(
        incident=incident.id,
        standing=_standing(incident),
        severity=incident.severity,
        title=clean(finding.title, LONGEST_TITLE),
        detail="" if now is None and finding.is_measured else clean(redact(finding.detail), LONGEST_DETAIL),
        tenant=finding.tenant,
        since=finding.since,
        ended=incident.ended_at,
        facts=tuple(_facts(incident, now)),
        links=finding.links,
        impact=_impact(incident),
    )


def _impact(incident: Incident) -> str:
    finding = incident.finding
    return clean(noticed(finding.rule, finding.labels, finding.tenant), LONGEST_TITLE)


def _impacts(incidents: Iterable[Incident]) -> list[str]:
    return list(filter(None, dict.fromkeys(map(_impact, incidents))))


def _told_impacts(matter: Matter, news: Sequence[Incident], ended: Sequence[Incident]) -> list[str]:
    """What customers notice of what a line tells; of all that fires, where it tells them nothing new."""
    still = _impacts(matter.visible)
    if not matter.visible:
        return []  # that nothing is left says the message's standing
    over = [f"Over: {each}" for each in _impacts(ended) if each not in still]
    return [*_impacts(news), *over] or [f"Still so: {each}" for each in still]


def _called(rule: str, count: int) -> str:
    thing, _, state = rule.partition("_")
    state = _STATES.get(rule, state.replace("_", " "))
    return f"{thing}s {state}" if count != 1 and thing in _THINGS else f"{thing} {state}".strip()


def _several(incidents: Sequence[Incident]) -> str:
    if len(incidents) == 1:
        return clean(incidents[0].finding.title, LONGEST_TITLE)
    rules = [each.finding.rule for each in incidents]
    total = f"{len(incidents):,} alerts: " if len(set(rules)) > 1 else ""
    return clean(total + counted(rules), LONGEST_TITLE)


def _standing(incident: Incident) -> Standing:
    if not incident.is_firing:
        return Standing.RESOLVED
    return Standing.ACKNOWLEDGED if incident.acked_at is not None else Standing.FIRING


def _lines(matter: Matter) -> Iterable[str]:
    if matter.over_at is not None and matter.most > 1:
        yield f"At most {matter.most:,} at once."
    who = sorted({each.acked_by for each in matter.visible if each.acked_by})
    if who:
        yield f"Acknowledged by {', '.join(clean(each, 80) for each in who)}."
    own = {explained(each.fingerprint) for each in matter.visible}
    quiet = [each for each in matter.hidden if each.suppressed_by not in own]  # the others are counted below
    if quiet:
        yield f"{kept_quiet(quiet)}."
    if matter.explained:
        yield f"Explains {len(matter.explained):,} further: {counted(matter.explained)}."


def kept_quiet(hidden: Sequence[Incident]) -> str:
    """How many go on of which people are not told, and why: `2 kept quiet: silenced`."""
    return f"{len(hidden):,} kept quiet: {', '.join(sorted({kind_of(each.suppressed_by) for each in hidden}))}"


def _facts(incident: Incident, now: datetime | None) -> Iterable[tuple[str, str]]:
    finding = incident.finding
    if finding.tenant:
        yield "Tenant", clean(finding.tenant, 80)
    if incident.unknown_since is not None:
        yield "No data", f"since {moment(incident.unknown_since)}"
    # Of what is over this is the one before it: that would mislead, and nothing is left to be done.
    if finding.last_success is not None and incident.is_firing and not (now is None and finding.is_measured):
        age = f", {span((now - finding.last_success).total_seconds())} ago" if now is not None else ""
        yield "Last success", f"{moment(finding.last_success)}{age}"
    if finding.sla:
        yield "SLA", finding.sla
    if incident.acked_by and incident.acked_at is not None:
        yield "Acknowledged", f"by {clean(incident.acked_by, 80)}, {moment(incident.acked_at)}"
    if finding.owner:
        yield "Owner", clean(owner_name(finding.owner), LONGEST_TITLE)
    if finding.next_step and incident.is_firing:
        yield "Next", clean(finding.next_step, LONGEST_DETAIL)


def _worst(incidents: Iterable[Incident]) -> Severity:
    return max((each.severity for each in incidents), key=lambda severity: severity.rank)
