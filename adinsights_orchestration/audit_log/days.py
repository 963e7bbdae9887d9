"""Which days are closed, and which of those are still to be archived.

Belongs here: decisions about days, as functions of plain values. Does not belong here: reading any of it. A day is a
UTC day, and closed once it is over and transactions that began in it have had time to commit.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import UTC, date, datetime, timedelta


def last_closed(now: datetime, settle: timedelta) -> date:
    """The newest day that is closed."""
    return (now.astimezone(UTC) - settle).date() - timedelta(days=1)


def span(first: date, last: date) -> Iterator[date]:
    """The days from the first to the last, which is included."""
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def missing(first: date, last: date, archived: Container[date]) -> list[date]:
    """The days that are not archived."""
    return [day for day in span(first, last) if day not in archived]


def ranges(days: list[date]) -> list[tuple[date, date]]:
    """Sorted days as runs without a gap, each by its first and last day."""
    found: list[tuple[date, date]] = []
    for day in days:
        if found and found[-1][1] + timedelta(days=1) == day:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def named(days: list[date]) -> list[str]:
    """Sorted days for people: one entry for each run without a gap, however long it is."""
    return [
        str(first) if first == last else f"{first} to {last} ({(last - first).days + 1:,} days)"
        for first, last in ranges(days)
    ]
