"""A provider's watermark: up to when all of its active connections have delivered what was due.

Belongs here: the watermark as a pure function, and when it is news. Does not belong here: writing it (`showing`).
Dagster keeps one freshness state per asset, in which any partition's sync counts; the watermark turns that into the
worst tenant's. While connections are late it is the oldest last success among them, at the latest a moment old enough
to warn of; while none is, it is the moment of the evaluation, because a connection that sleeps till morning, or syncs
once a day, is not behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from adinsights_orchestration.tenants.model import Provider


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one provider's connections have delivered.

    Attributes:
        provider: The provider.
        active: How many active connections it has.
        late: How many of them are late.
        late_since: Up to when the late one that is furthest behind has delivered, at the latest as long before its
            deadline as the watermark warns after; None while none is late.
        worst: Its partition.
    """

    provider: Provider
    active: int = 0
    late: int = 0
    late_since: datetime | None = None
    worst: str | None = None


@dataclass(frozen=True, slots=True)
class Watermark:
    """Up to when a provider's active connections have delivered.

    Attributes:
        provider: The provider.
        at: The watermark.
        reported_at: The moment of the evaluation.
        active: How many active connections it has.
        late: How many of them are late.
        worst: The partition of the one that is furthest behind; None while none is late.
    """

    provider: Provider
    at: datetime
    reported_at: datetime
    active: int
    late: int
    worst: str | None

    def to_json(self) -> dict[str, Any]:
        """What is kept of it."""
        moments = {"at": self.at.isoformat(), "reported_at": self.reported_at.isoformat()}
        return {**moments, "active": self.active, "late": self.late, "worst": self.worst}

    @classmethod
    def from_json(cls, provider: Provider, kept: Mapping[str, Any]) -> Watermark:
        """What was kept, read back."""
        at, reported_at = (datetime.fromisoformat(kept[name]) for name in ("at", "reported_at"))
        return cls(provider, at, reported_at, kept["active"], kept["late"], kept["worst"])


def watermark_of(delivered: Delivered, last: Watermark | None, now: datetime) -> Watermark | None:
    """Returns the watermark of one provider.

    Args:
        delivered: What its connections have delivered.
        last: Its watermark that was reported last, or None.
        now: The moment of the evaluation.

    Returns:
        None for a provider that never had an active connection. One that has none any more goes on having a watermark:
        nothing is due of it, and a mark that nobody renews would turn red.
    """
    if not delivered.active and last is None:
        return None
    at = delivered.late_since if delivered.late_since is not None else now
    return Watermark(delivered.provider, at, now, delivered.active, delivered.late, delivered.worst)


def renewal_is_due(last: Watermark, renew_after: timedelta, now: datetime) -> bool:
    """Whether a reported watermark has to be looked at although no connection's state is another.

    That of a late provider does not move by itself, and is not renewed.
    """
    return not last.late and not timedelta() <= now - last.reported_at < renew_after


def is_news(mark: Watermark, last: Watermark | None, renew_after: timedelta) -> bool:
    """Whether the watermark has to be reported.

    Args:
        mark: What is true now.
        last: What was reported last; None for the first.
        renew_after: While nothing is late, how old a report may become.
    """
    if last is None or bool(mark.late) != bool(last.late):
        return True
    if mark.late:
        return mark.at != last.at
    return not timedelta() <= mark.at - last.at < renew_after
