"""What a person is told, as a value: every channel renders the same message its own way.

Belongs here: the message, its JSON shape in the outbox, and plain text (the log, a channel's fallback text). Does not
belong here: what is said when (`notify`, `wording`), and any channel's markup. Texts are data: names of tenants and
errors of servers stand in them as they came, redacted and bounded, and a renderer escapes them for its channel.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

TEST_GROUP = "test"  # of a message that is sent to test a channel, and tells of nothing
LONGEST_TITLE = 150  # characters; a Slack header block takes as many
LONGEST_DETAIL = 600
_SHORTENED = "…"
# Everything that is neither printed nor a space: controls, and marks that turn the direction of what follows.
_UNPRINTED = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))
_JOINERS = frozenset("‍‌️")  # emoji and some scripts are made with them
_MOMENT = "%Y-%m-%d %H:%M UTC"
_SPACES = re.compile(r"\s+")


class Severity(StrEnum):
    """How urgent: `WARN` tells people, `PAGE` wakes somebody."""

    WARN = "warn"
    PAGE = "page"

    @property
    def rank(self) -> int:
        """The order of urgency."""
        return (Severity.WARN, Severity.PAGE).index(self)


class Standing(StrEnum):
    """How the matter of a message, or one incident in it, stands."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    SUPPRESSED = "suppressed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Link:
    """A page that helps, and its name for people."""

    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Item:
    """One incident of a message.

    Attributes:
        incident: Its id, as `adinsights alerts show` takes it.
        standing: How it stands.
        severity: How urgent it is.
        title: What is wrong, with the tenant or component.
        detail: Why, in one line.
        tenant: The tenant's slug; None where it is nobody's in particular.
        since: Since when.
        ended: When it was over; None while it is not.
        facts: What else to know, by name: age against its SLA, last success, owner, next step.
        links: Where to look.
        impact: What customers notice of it, in their words; empty where they notice nothing.
    """

    incident: str
    standing: Standing
    severity: Severity
    title: str
    detail: str
    tenant: str | None
    since: datetime
    ended: datetime | None = None
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[Link, ...] = ()
    impact: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: a group's first one, which is edited as it changes, or one line of its story.

    Attributes:
        group: The group's key; with `episode` it names the matter.
        episode: Which time it is that this group has something to say.
        standing: How the matter stands as a whole.
        severity: The worst of what is in it.
        title: The whole in one line.
        lines: What a person reads next, one line each; in a story's message all there is.
        items: The incidents, the worst first, at most a handful.
        more: How many others there are.
        since: When the first of them began.
        ended: When the last was over; None while one is not.
        owner: The team that it belongs to.
        note: What is unusual about the way that this message takes; empty mostly.
        broadcast: Whether a story's message is to be seen outside its thread too.
        alarms: Whether a story's message tells of something wrong that its readers may not know of; the second channel
            says that too where the first does not.
        impacts: What customers notice of what a story's message tells, in their words.
        more_impacts: How many further things customers notice that neither an item nor `impacts` says.
        origin: The environment that it is from; empty for production.
    """

    group: str
    episode: int
    standing: Standing
    severity: Severity
    title: str
    since: datetime
    lines: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    more: int = 0
    ended: datetime | None = None
    owner: str = ""
    note: str = ""
    broadcast: bool = False
    alarms: bool = False
    impacts: tuple[str, ...] = ()
    more_impacts: int = 0
    origin: str = ""

    @property
    def prefix(self) -> str:
        """What stands before titles, so that no reader takes staging for production."""
        return f"{self.origin}: " if self.origin else ""


_MESSAGES = TypeAdapter(Message)


def to_json(message: Message) -> dict[str, Any]:
    """Returns the message as the outbox keeps it."""
    kept: dict[str, Any] = _MESSAGES.dump_python(message, mode="json")
    return kept


def from_json(kept: Mapping[str, Any]) -> Message:
    """Returns the message that the outbox keeps; fields that this release does not know are ignored."""
    return _MESSAGES.validate_python(kept)


def clean(text: str, longest: int) -> str:
    """Returns the text in one line, bounded, without control characters and direction marks."""
    head = text[: longest * 8]  # a text of a megabyte costs no more than its beginning
    printed = "".join(c for c in _SPACES.sub(" ", head) if unicodedata.category(c) not in _UNPRINTED or c in _JOINERS)
    printed = printed.strip()
    return printed if len(printed) <= longest and len(head) == len(text) else printed[: longest - 1] + _SHORTENED


def plain_text(message: Message) -> str:
    """Returns the message for the log, a terminal, and where a channel takes nothing better."""
    return "\n".join(_plain(message))


def moment(at: datetime) -> str:
    """A moment for people: `2026-03-10 12:00 UTC`."""
    return f"{at.astimezone(UTC):{_MOMENT}}"


def read_moment(text: str) -> datetime:
    """Returns the moment that `moment` made a text of, to the minute."""
    return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)


def span(seconds: float) -> str:
    """A duration for people: `45 s`, `5 min`, `1 h 12 min`, `3 d 4 h`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def _plain(message: Message) -> Iterator[str]:
    yield f"[{message.standing.upper()} {message.severity.upper()}] {message.prefix}{message.title}"
    if message.note:
        yield message.note
    yield from message.lines
    for item in message.items:
        ended = f", over {moment(item.ended)}" if item.ended else ""
        yield f"- {item.standing} {item.severity}: {item.title} (since {moment(item.since)}{ended}, {item.incident})"
        yield f"  {item.detail}"
        yield from (f"  {name}: {value}" for name, value in item.facts)
        yield from (f"  {link.label}: {link.url}" for link in item.links)
    if message.more:
        yield f"and {message.more:,} more: adinsights alerts list"
