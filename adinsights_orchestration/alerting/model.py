"""Alerting's vocabulary: findings, the incidents that they make, and what changes an incident goes through.

Belongs here: immutable values and what follows from one value alone. Does not belong here: the changes themselves
(`incidents`), who is told (`notify`), rows (`bookkeeping`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TypeAlias

from adinsights_orchestration.alerting.audience import CUSTOMERS, noticed
from adinsights_orchestration.alerting.message import LONGEST_TITLE, Link, Severity, clean, moment, read_moment

SHORT_ID = 10  # characters of a fingerprint that people type


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule found to be wrong at one moment.

    Its texts say no age, only moments, so that they stay the same for as long as the matter does; where one cannot help
    it, `is_measured` says so.

    Attributes:
        rule: The rule's name.
        resource: What it is about: a partition key, a component, a job.
        severity: How urgent it is now.
        title: What is wrong, for people, with the tenant's or component's name.
        detail: Why, in one line, without secrets and personal data.
        since: Since when.
        tenant: The tenant's slug; None where it is nobody's in particular.
        labels: What else tells it apart from others of the rule, and what silences and routes may ask for.
        beside: What explanations may ask for beside its labels; no part of its name, so it may change.
        group: Whose message it belongs to.
        sla: The level that it missed, with its source.
        last_success: When it was last well.
        owner: Whom the runbook names.
        next_step: What to do first, in words.
        links: Where to look.
        asset: The asset that it speaks of; what lies downstream may be explained by it.
        explains: Further assets whose own trouble it explains.
        is_symptom: Whether something upstream may explain it.
        is_since_found: Whether `since` is only when it was found: the first one holds then.
        is_measured: Whether `detail` holds a figure that changes by itself; no message is edited for that alone.
    """

    rule: str
    resource: str
    severity: Severity
    title: str
    detail: str
    since: datetime
    tenant: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    group: tuple[str, ...] = ()
    sla: str = ""
    last_success: datetime | None = None
    owner: str = ""
    next_step: str = ""
    links: tuple[Link, ...] = ()
    asset: str | None = None
    explains: tuple[str, ...] = ()
    is_symptom: bool = False
    is_since_found: bool = False
    is_measured: bool = False
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Names the incident: the same matter has the same, whatever its value and whenever it is found."""
        return fingerprint(self.rule, self.tenant, self.resource, self.labels)

    @property
    def group_key(self) -> str:
        """The key of the group whose message it belongs to; its rule's own where none is given."""
        return "/".join(self.group or (self.rule,))


@lru_cache(maxsize=65536)
def _digest(rule: str, tenant: str | None, resource: str, labels: tuple[tuple[str, str], ...]) -> str:
    identity = json.dumps([rule, tenant, resource, labels], ensure_ascii=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def fingerprint(rule: str, tenant: str | None, resource: str, labels: Mapping[str, str]) -> str:
    """Returns the digest of what names an incident."""
    return _digest(rule, tenant, resource, tuple(sorted(labels.items())))


class State(StrEnum):
    """Where an incident stands. `PENDING` is not yet believed, `RESOLVING` not yet believed to be over."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVING = "resolving"

    @property
    def is_firing(self) -> bool:
        """Whether people are to think that it is the case."""
        return self in (State.FIRING, State.ACKNOWLEDGED, State.RESOLVING)


@dataclass(frozen=True, slots=True)
class Present:
    """The rule found it."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class Absent:
    """The rule looked, with data, and did not find it."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The rule could not tell: no data never begins and never ends anything."""

    reason: str = ""


Observation: TypeAlias = Present | Absent | Unknown


@dataclass(frozen=True, slots=True)
class Flap:
    """When an incident counts as flapping, and how long it must then be quiet to be over.

    Attributes:
        episodes: So many times ...
        within: ... in so long.
        quiet: For how long it must then not be found.
    """

    episodes: int = 3
    within: timedelta = timedelta(hours=1)
    quiet: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Policy:
    """How soon a rule's findings are believed. The thresholds of the SLA table have time in them; so none by default.

    Attributes:
        for_: How long it must be found before it fires.
        keep_firing: How long it must not be found before it is over.
        flap: What to do about flapping; None for nothing.
    """

    for_: timedelta = timedelta()
    keep_firing: timedelta = timedelta()
    flap: Flap | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """One matter over all of its occurrences.

    Attributes:
        fingerprint: Its name.
        finding: The newest finding; while it is over, the last one.
        state: Where it stands.
        episode: How many times it has fired.
        severity: How urgent it is.
        since: When it came into its state.
        pending_since: Since when it has been found without a break, while it is pending.
        fired_at: When this episode fired.
        ended_at: When the last episode was over; None while it is not.
        absent_since: Since when it has not been found, with data, while it is resolving.
        unknown_since: Since when there has been no data; None while there is.
        recent: When its last episodes fired, oldest first; kept for flapping.
        acked_by: Who acknowledged this episode.
        acked_at: When.
        acked_severity: How urgent it was then.
        told: Whether the readers of its group's message think that it is firing.
        told_severity: The severity that they know of.
        suppressed_by: What keeps it from them, as `telling.quiet` writes and reads it; empty while nothing does.
    """

    fingerprint: str
    finding: Finding
    state: State
    episode: int
    severity: Severity
    since: datetime
    pending_since: datetime | None = None
    fired_at: datetime | None = None
    ended_at: datetime | None = None
    absent_since: datetime | None = None
    unknown_since: datetime | None = None
    recent: tuple[datetime, ...] = ()
    acked_by: str | None = None
    acked_at: datetime | None = None
    acked_severity: Severity | None = None
    told: bool = False
    told_severity: Severity | None = None
    suppressed_by: str = ""

    @property
    def id(self) -> str:
        """What people call it."""
        return self.fingerprint[:SHORT_ID]

    @property
    def is_firing(self) -> bool:
        """Whether people are to think that it is the case."""
        return self.state.is_firing

    @property
    def is_open(self) -> bool:
        """Whether anything about it may still change or have to be told without it being found again."""
        return self.state is not State.OK or self.told

    @property
    def all_labels(self) -> dict[str, str]:
        """What silences, routes and inhibitions may ask for."""
        finding = self.finding
        own = {"rule": finding.rule, "resource": finding.resource, "severity": self.severity.value}
        own |= {"owner": finding.owner.partition("@")[0]} if finding.owner else {}
        own |= {"audience": CUSTOMERS} if noticed(finding.rule, finding.labels) else {}
        return {**finding.beside, **finding.labels, **own, **({"tenant": finding.tenant} if finding.tenant else {})}


class Change(StrEnum):
    """What happened to an incident."""

    PENDING = "pending"
    DROPPED = "dropped"  # it was pending and is not found any more
    FIRED = "fired"
    WORSENED = "worsened"
    EASED = "eased"
    RESOLVING = "resolving"
    RETURNED = "returned"  # it was resolving and is found again
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    ACK_CANCELLED = "ack_cancelled"
    NO_DATA = "no_data"
    DATA_AGAIN = "data_again"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What an incident was when it fired: the detail of that change, because later episodes overwrite the finding.

    Attributes:
        severity: How urgent it was.
        since: Since when it was so, to the minute; None in lines of releases that did not keep it.
        title: What it was called; empty in such lines.
    """

    severity: Severity
    since: datetime | None = None
    title: str = ""

    @classmethod
    def of(cls, incident: Incident) -> Beginning:
        """The beginning of an incident that fires now."""
        return cls(incident.severity, incident.finding.since, clean(incident.finding.title, LONGEST_TITLE))

    @classmethod
    def parse(cls, detail: str) -> Beginning:
        """Returns what `str` of one made a text of."""
        about, _, title = detail.partition(": ")
        severity, _, since = about.partition(" since ")
        return cls(Severity(severity), read_moment(since) if since else None, title)

    def __str__(self) -> str:
        return f"{self.severity} since {moment(self.since)}: {self.title}" if self.since else self.severity.value


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of one incident, as it is kept for ever."""

    fingerprint: str
    episode: int
    change: Change
    at: datetime
    detail: str = ""
