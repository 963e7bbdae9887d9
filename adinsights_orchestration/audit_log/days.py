"""Which days are closed, and which of those are still to be archived.

Belongs here: decisions about days, as functions of plain values, and the one spelling that people write them in. Does
not belong here: reading any of it from a store. A day is a UTC day, and closed once it is over and transactions that
began in it have had time to commit.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from datetime import UTC, date, datetime, timedelta

from adinsights_orchestration.errors import ConfigurationError

# Python reads more spellings of a day (20260131, 2026-W05-6): which of them is a day and which a moment is a guess.
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(_DAY.pattern + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?")


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


def day_of(text: str, place: str) -> date:
    """The day that a person wrote.

    Raises:
        ConfigurationError: It is none; `place` says where it was written.
    """
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ConfigurationError(f"{text!r} is no day", place=place, next_step="Write it as 2026-01-31; days are UTC.")


def moment_of(text: str, place: str, *, end: bool = False) -> datetime:
    """The moment that a person wrote; a day stands for its beginning, or as the end of a range for its end.

    Raises:
        ConfigurationError: It is neither a day nor a moment, or none that a moment follows; `place` says where it was
            written.
    """
    if not (_DAY.fullmatch(text) or _MOMENT.fullmatch(text)):
        raise _no_moment(text, place)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment + timedelta(days=1) if end and _DAY.fullmatch(text) else moment
    except ValueError:
        raise _no_moment(text, place) from None
    except OverflowError:
        raise ConfigurationError(
            f"{text!r} is beyond the years that can be reckoned with", place=place, next_step="Name a nearer one."
        ) from None


def _no_moment(text: str, place: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r} is neither a day nor a moment",
        place=place,
        next_step="Write it as 2026-01-31 or 2026-01-31T08:30; times are UTC.",
    )
