"""The vocabulary of telling: groups, when they speak, what a deployment may say about it, and what comes of it.

Belongs here: immutable values, and Alertmanager's rule of when a group speaks (`needsUpdate`, notify/dedup_stage.go).
Does not belong here: applying them (`flush`, `notify`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from adinsights_orchestration.alerting.inhibition import Inhibition
from adinsights_orchestration.alerting.matching import Hours, Routes
from adinsights_orchestration.alerting.message import Message, Severity
from adinsights_orchestration.alerting.model import Incident

FAREWELL = "From now on told in "  # how the note begins that a message gets where it is edited no more


@dataclass(frozen=True, slots=True)
class Timing:
    """When a group speaks.

    One evaluation sees everything that is wrong at a moment, and a message is edited as its group grows: there is
    nothing to wait for before the first.

    Attributes:
        group_wait: How long a new group waits for more before its first message.
        group_interval: The least time between two notices of a group.
        repeat_interval: After how long a group that nobody acknowledged is told again; looked at every group interval.
        linger: How long a group keeps its clock after its end, so that one that comes and goes speaks no more often.
    """

    group_wait: timedelta = timedelta()
    group_interval: timedelta = timedelta(minutes=5)
    repeat_interval: timedelta = timedelta(hours=4)
    linger: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Storm:
    """How many groups may open a message in how long; what is beyond waits, and one message says so."""

    groups: int = 20
    within: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Escalation:
    """The next contact: whom a page goes to as well that nobody has acknowledged for so long.

    Attributes:
        after: How long, since the page was told.
        to: The contact, which may depend on the incident's owner.
    """

    after: timedelta
    to: Routes


@dataclass(frozen=True)
class Options:
    """What a deployment may say about telling; by default nothing is held back but by a storm.

    Attributes:
        routes: Where what is told.
        timing: When.
        storm: How many messages may be opened at once; None for any number.
        hours: Office hours of a severity.
        escalation: The next contacts for pages, one after another.
        inhibitions: Explanations by labels, beside those of the graph.
        grace: How long what a cause explained stays quiet after the cause is over: it recovers by itself mostly.
        sinks: All that there are; None where that is not known.
    """

    routes: Routes
    timing: Timing = Timing()
    storm: Storm | None = Storm()
    hours: Mapping[Severity, Hours] = field(default_factory=dict)
    escalation: tuple[Escalation, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()
    grace: timedelta = timedelta(minutes=5)
    sinks: Collection[str] | None = None

    def missing(self, sinks: Iterable[str]) -> tuple[str, ...]:
        """Those of the sinks that the configuration does not have any more."""
        return () if self.sinks is None else tuple(sink for sink in sinks if sink not in self.sinks)


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it is kept; the table `alert_group` says what each field means."""

    key: str
    episode: int = 0
    seq: int = 0
    sinks: tuple[str, ...] = ()
    flush_at: datetime | None = None
    told_at: datetime | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    since: datetime | None = None
    title: str = ""
    severity: Severity = Severity.WARN
    most: int = 0
    escalated: int = 0
    unacked_at: datetime | None = None
    shown: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its message is about something that is not over."""
        return bool(self.shown)


class Op(StrEnum):
    """What a sink is asked to do."""

    POST = "post"
    UPDATE = "update"
    REPLY = "reply"


class Reason(StrEnum):
    """Why a group speaks, or its message is edited."""

    FIRST = "first"
    MORE = "more"
    LESS = "less"
    WORSENED = "worsened"
    RESOLVED = "resolved"
    REPEAT = "repeat"
    ESCALATED = "escalated"
    EDITED = "edited"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to be said to one sink; in the order of `seq` within group, episode and sink."""

    group: str
    episode: int
    seq: int
    sink: str
    op: Op
    reason: Reason
    message: Message


@dataclass(frozen=True)
class Plan:
    """What follows from an evaluation.

    Attributes:
        groups: Those that are to be kept.
        incidents: Those whose bookkeeping changed.
        orders: What is to be said.
        held: Titles of groups that a storm holds back, the most urgent first.
        notices: Why each group that spoke did so.
    """

    groups: Sequence[Group]
    incidents: Sequence[Incident]
    orders: Sequence[Order]
    held: Sequence[str]
    notices: Mapping[str, Reason]


def needs_update(
    *, is_open: bool, firing: int, new: int, ended: int, worsened: bool, repeat_is_due: bool
) -> Reason | None:
    """Returns why a group speaks now, or None: Alertmanager's rule, and worsening.

    Args:
        is_open: Whether its readers were told of anything that they do not know to be over.
        firing: How many incidents fire that are not kept quiet.
        new: How many of them the readers do not know of.
        ended: How many that they know of are over.
        worsened: Whether one that they know of is more urgent than they know.
        repeat_is_due: Whether they were told so long ago that they are told again.
    """
    if not is_open:
        return Reason.FIRST if firing else None
    if new:
        return Reason.MORE
    if worsened:
        return Reason.WORSENED
    if ended:
        return Reason.LESS if firing else Reason.RESOLVED
    return Reason.REPEAT if firing and repeat_is_due else None
