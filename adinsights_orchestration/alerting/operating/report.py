"""An incident's report: the Markdown that starts a root-cause ticket.

Belongs here: reading one episode's story and cost, and writing it down (`markdown`, pure). Does not belong here:
finding causes: the last section is for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.alerting.audience import owner_name
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.alerting.message import Severity, clean, moment, span
from adinsights_orchestration.alerting.model import Beginning, Change, Finding, Incident, State
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.freshness.sla import Sla, SlaTable
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.health.samples import Resolution
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import health_sample

MONTH = timedelta(days=30)
_LONGEST_LINE = 300
_ENDS = (Change.RESOLVED.value,)
_BEGINS = (Change.PENDING.value, Change.FIRED.value)
_WORDS = {
    "fired": "opened",
    "acknowledged": "acknowledged by",
    "ack_cancelled": "acknowledgement undone:",
    "no_data": "no data:",
    "data_again": "data again",
    "evaluated_by_hand": "evaluated by hand;",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What the episode cost of the API's error budget.

    Attributes:
        slo: Percent of what is asked that must be answered.
        bad: How long the API was unavailable during the episode, as if wholly.
        known: How much of the episode was measured.
    """

    slo: float
    bad: timedelta
    known: timedelta

    @property
    def of_budget(self) -> float:
        """The share of a month's budget, in percent."""
        budget = MONTH * (1 - self.slo / 100)
        return 100 * self.bad / budget if budget else 100.0


@dataclass(frozen=True)
class Report:
    """One episode.

    Attributes:
        incident: The incident, as it stands; what its finding says of the matter may be another episode's.
        episode: Which of its episodes.
        finding: What was found; None of an earlier episode, whose finding a later one took the place of.
        title: What it was called.
        severity: How urgent it was at its worst.
        since: Since when it was so; None where that is not kept.
        began: When it fired.
        ended: When it was over; None while it is not.
        events: What happened, oldest first.
        cost: What it cost.
        now: When the report was made.
    """

    incident: Incident
    episode: int
    finding: Finding | None
    title: str
    severity: Severity
    since: datetime | None
    began: datetime
    ended: datetime | None
    events: Sequence[Event]
    cost: Cost
    now: datetime


def read_report(store: OpsStore, sla: SlaTable, incident_id: str, now: datetime, episode: int | None = None) -> Report:
    """Reads one episode of an incident; the newest where none is named.

    Raises:
        ConfigurationError: There is no such incident or episode, or its history is not kept any more.
    """
    story = hands.story(store, incident_id, limit=2000)
    incident = story.incident
    which = incident.episode if episode is None else episode
    events = _of_episode(story.history, which)
    fired = next((each for each in events if each.kind == Change.FIRED.value), None)
    if fired is None:
        raise ConfigurationError(
            f"nothing is kept of episode {which} of {incident.id}",
            next_step=f"It has had {incident.episode}; the history is kept for 400 days.",
        )
    ended = next((each.at for each in events if each.kind in _ENDS and each.fingerprint), None)
    beginning = Beginning.parse(fired.detail)
    # While the next episode is pending, the finding is its own already.
    is_newest = which == incident.episode and incident.state is not State.PENDING
    finding = incident.finding if is_newest else None
    since = finding.since if finding is not None else beginning.since
    with store.begin() as connection:
        cost = _cost(connection, sla, min(since or fired.at, fired.at), ended or now)
    return Report(
        incident=incident,
        episode=which,
        finding=finding,
        title=finding.title if finding is not None else beginning.title or _named(incident.finding),
        severity=_worst(beginning.severity, events),
        since=since,
        began=fired.at,
        ended=ended,
        events=events,
        cost=cost,
        now=now,
    )


def markdown(report: Report) -> str:
    """Returns the report's text."""
    return "\n".join(_lines(report)) + "\n"


def _of_episode(history: Sequence[Event], episode: int) -> list[Event]:
    """The events of an episode: the incident's own, and those of its group's message while it lasted."""
    own = [each for each in history if each.fingerprint is not None]
    fired = [n for n, each in enumerate(own) if each.kind == Change.FIRED.value and each.episode == episode]
    if not fired:
        return []
    first = fired[0]
    if first and own[first - 1].kind == Change.PENDING.value:
        first -= 1
    after = next(
        (n for n, each in enumerate(own) if n > fired[0] and each.kind in _BEGINS and each.episode != episode), None
    )
    begin, end = own[first].at, own[after].at if after is not None else None
    inside = [each for each in history if each.at >= begin and (end is None or each.at < end)]
    # A group's later message, after this episode was over, tells of others.
    message = next((each.episode for each in inside if each.fingerprint is None and each.episode is not None), None)
    return [each for each in inside if each.fingerprint is not None or each.episode in (None, message)]


def _worst(first: Severity, events: Iterable[Event]) -> Severity:
    """The worst severity of an episode: its first one, and those that it worsened to ("warn to page")."""
    later = [each.detail.rpartition(" ")[2] for each in events if each.kind == Change.WORSENED.value]
    return max((first, *map(Severity, later)), key=lambda one: one.rank)


def _named(finding: Finding) -> str:
    """What it is called where no title is kept: by what names the incident, which no episode changes."""
    return f"{finding.rule} on {finding.resource}"


def _cost(connection: sa.Connection, sla: SlaTable, began: datetime, ended: datetime) -> Cost:
    sample = health_sample.c
    probed = (sample.ok + sample.degraded + sample.down).label("probed")
    query = sa.select(probed, sample.down, sample.value_count, sample.value_sum, sample.component)
    minutes = query.where(
        sample.component.in_((Component.API.value, Component.BACKEND.value)),
        sample.resolution == Resolution.MINUTE.value,
        sample.at >= Resolution.MINUTE.start(began),
        sample.at <= ended,
    ).add_columns(sample.at)
    bad: dict[datetime, float] = {}
    for row in connection.execute(minutes):
        is_rate = row.component == Component.API.value
        if is_rate and 0 < row.value_count <= row.probed:
            share = row.value_sum / row.value_count / 100
        elif not is_rate and row.probed:
            share = row.down / row.probed
        else:
            continue
        bad[row.at] = max(bad.get(row.at, 0.0), min(share, 1.0))
    minute = timedelta(minutes=1)
    return Cost(sla[Sla.API_AVAILABILITY].warn, sum(bad.values()) * minute, len(bad) * minute)


def _lines(report: Report) -> Iterator[str]:
    incident, ended = report.incident, report.ended
    yield f"# {_text(report.title)}"
    yield ""
    yield f"Incident `{incident.id}`, episode {report.episode} of {incident.episode}; written {moment(report.now)}."
    yield ""
    yield from _facts(report)
    yield ""
    yield "## What happened"
    yield ""
    yield "| UTC | what |"
    yield "|---|---|"
    if report.since is not None:
        yield f"| {_when(report.since)} | it began, as far as is known |"
    yield from (f"| {_when(each.at)} | {_said(each)} |" for each in report.events)
    yield ""
    yield "## Runs and pages"
    yield ""
    yield from _links(report)
    yield ""
    yield "## What it cost"
    yield ""
    yield from _costs(report)
    yield ""
    yield "## Root cause"
    yield ""
    yield "_Why did it happen, why was it not noticed earlier, and what keeps it from happening again?_"
    if ended is None:
        yield ""
        yield "_It is not over yet._"


def _facts(report: Report) -> Iterator[str]:
    finding = report.incident.finding
    over = moment(report.ended) if report.ended else "not yet"
    lasted = span(((report.ended or report.now) - report.began).total_seconds())
    acked = [each for each in report.events if each.kind == Change.ACKNOWLEDGED.value]
    pairs = [
        ("Rule", f"`{finding.rule}` on `{_text(finding.resource)}`"),
        ("Tenant", _text(finding.tenant) if finding.tenant else "none in particular"),
        ("Severity", report.severity.value),
        *_found(report.finding),
        ("Opened", moment(report.began)),
        ("Resolved", f"{over}, after {lasted}" if report.ended else f"{over}; open for {lasted}"),
        ("Acknowledged", _ack(acked[0], report.began) if acked else "by nobody"),
        ("Owner", _text(owner_name(finding.owner)) or "nobody"),
    ]
    yield from (f"- **{name}:** {value}" for name, value in pairs)


def _found(finding: Finding | None) -> Iterable[tuple[str, str]]:
    if finding is None:
        return
    yield "Why", _text(finding.detail)
    yield "SLA", _text(finding.sla) if finding.sla else "none"


def _links(report: Report) -> Iterable[str]:
    if report.finding is None:
        yield "_Links, reason and SLA are kept of the newest episode only._"
        return
    yield from (f"- {link.label}: <{link.url}>" for link in report.finding.links)


def _ack(event: Event, began: datetime) -> str:
    after = span((event.at - began).total_seconds())
    return f"by {_text(event.detail)}, {moment(event.at)}, {after} after it opened"


def _costs(report: Report) -> Iterable[str]:
    end, cost, finding = report.ended or report.now, report.cost, report.finding
    yield f"- The matter lasted {span((end - min(report.since or report.began, report.began)).total_seconds())}."
    if finding is not None and finding.last_success is not None and finding.last_success <= end:
        yield f"- Last success before it: {moment(finding.last_success)}."
    if cost.known:
        yield (
            f"- API: unavailable for {span(cost.bad.total_seconds())} of {span(cost.known.total_seconds())} measured,"
            f" {cost.of_budget:.1f} % of the month's error budget at {cost.slo:g} %."
        )
    else:
        yield "- API: no readings are kept for the time."


def _said(event: Event) -> str:
    words = _WORDS.get(event.kind, event.kind.removeprefix("group_").replace("_", " "))
    told = "told: " if event.kind.startswith("group_") else ""
    detail = Beginning.parse(event.detail).severity.value if event.kind == Change.FIRED.value else event.detail
    return f"{told}{words} {_text(detail)}".strip()


def _when(at: datetime) -> str:
    return moment(at).removesuffix(" UTC")


def _text(text: str) -> str:
    """A text of others in a table or list of Markdown: one line, no markup of its own."""
    plain = clean(text, _LONGEST_LINE)
    for mark in ("\\", "|", "`", "<", ">", "*", "_", "[", "]"):
        plain = plain.replace(mark, f"\\{mark}")
    return plain
