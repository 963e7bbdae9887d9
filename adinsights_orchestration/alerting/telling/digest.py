"""Digests: one message a day about what is not urgent: what began, what ended, what is still so.

Belongs here: when one is due and what it says; pure. Does not belong here: reading what happened (`rows`), sending. A
digest takes nothing away from routes: what is to be told at once is told at once. Its moments are of the clock on the
wall; one that was missed, because nothing ran, is made up for once, and covers all the time since the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from adinsights_orchestration.alerting.matching import Matcher, all_match
from adinsights_orchestration.alerting.message import Message, Severity, Standing, moment
from adinsights_orchestration.alerting.model import Incident
from adinsights_orchestration.alerting.telling import wording
from adinsights_orchestration.alerting.telling.grouping import Op, Order, Reason
from adinsights_orchestration.alerting.telling.quiet import OUT_OF_HOURS

GROUP = "digest"
KEPT_AS = "told_digests"  # in what an evaluation remembers
_SHOWN = 50  # incidents of a digest


@dataclass(frozen=True, slots=True)
class Told:
    """What the newest digest of a channel covered.

    Attributes:
        until: Up to when it told; before the first, when the digest was first looked at.
        due: The moment at which it was due; None before the first.
    """

    until: datetime
    due: datetime | None = None

    @classmethod
    def all_from(cls, memory: Mapping[str, Any]) -> dict[str, Told]:
        """Returns what an evaluation remembers, by channel; the releases before kept the two moments apart."""
        kept = memory.get(KEPT_AS)
        if kept is None:
            untils, dues = memory.get("digests", {}), memory.get("digests_told", {})
            kept = {sink: (until, dues.get(sink)) for sink, until in untils.items()}
        return {
            sink: cls(datetime.fromisoformat(until), datetime.fromisoformat(due) if due else None)
            for sink, (until, due) in kept.items()
        }

    def to_json(self) -> tuple[str, str | None]:
        """What is kept of it."""
        return self.until.isoformat(), self.due.isoformat() if self.due is not None else None


@dataclass(frozen=True)
class Digest:
    """One channel's digest.

    Attributes:
        sink: The channel.
        matchers: Which incidents.
        at: At what time of day.
        timezone: In which that is meant.
    """

    sink: str
    matchers: tuple[Matcher, ...]
    at: time
    timezone: str

    def last_due(self, now: datetime) -> datetime:
        """The newest moment at or before `now` at which it was due."""
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone).date()
        days = (today + timedelta(days=shift) for shift in (1, 0, -1, -2))
        moments = (datetime.combine(day, self.at, zone).astimezone(UTC) for day in days)
        return next(each for each in moments if each <= now)

    def since(self, now: datetime, told: Told) -> datetime | None:
        """From when on a digest that is due now has to tell; None where none is due.

        Args:
            now: The moment.
            told: What the last one covered.
        """
        told_until, due = min(told.until, now), self.last_due(now)  # the clock may have been set back
        # Across this very moment: it was told. By days: what is due before that moment comes again is not left out.
        was_told = told.due is not None and due <= told.due < due + timedelta(days=1)
        return None if was_told or told_until >= due else told_until


@dataclass(frozen=True)
class Lately:
    """What happened within some time, and what is so at its end.

    Attributes:
        began: Fingerprints of what fired.
        ended: Fingerprints of what was over.
        incidents: All of them, and all that fire now.
    """

    began: frozenset[str]
    ended: frozenset[str]
    incidents: Sequence[Incident]


def order(digest: Digest, lately: Lately, since: datetime, now: datetime) -> Order | None:
    """Returns the digest that is due; None where there is nothing to tell.

    Args:
        digest: Whose.
        lately: What happened since, of everybody.
        since: From when on.
        now: The moment.
    """
    mine = [each for each in lately.incidents if all_match(digest.matchers, each.all_labels) and _is_told(each)]
    firing = [each for each in mine if each.is_firing]
    began = [each for each in mine if each.fingerprint in lately.began]
    ended = [each for each in mine if not each.is_firing and each.fingerprint in lately.ended]
    told = [*_sorted(firing), *_sorted(ended)]
    if not told:
        return None
    counts = f"{len(began):,} began, {len(ended):,} ended, {len(firing):,} open"
    message = Message(
        group=f"{GROUP}/{digest.sink}",
        episode=_number(digest, now),
        standing=Standing.FIRING if firing else Standing.RESOLVED,
        severity=max((each.severity for each in firing), key=lambda one: one.rank, default=Severity.WARN),
        title=f"Alerts of the day: {counts}",
        since=since,
        lines=(f"From {moment(since)} to {moment(now)}: {counts}.",),
        items=tuple(wording.item(each, now) for each in told[:_SHOWN]),
        more=max(len(told) - _SHOWN, 0),
        ended=None if firing else now,
    )
    return Order(message.group, message.episode, 1, digest.sink, Op.POST, Reason.DIGEST, message)


def _number(digest: Digest, now: datetime) -> int:
    """The number of the moment at which it was due: a second digest of one moment would be the same message."""
    return int(digest.last_due(now).timestamp() // 60)


def _is_told(incident: Incident) -> bool:
    return incident.suppressed_by in ("", OUT_OF_HOURS)


def _sorted(incidents: Sequence[Incident]) -> list[Incident]:
    return sorted(incidents, key=lambda each: (-each.severity.rank, each.finding.since, each.fingerprint))
