"""Quiet times that are written down ahead: once, or again and again.

Belongs here: when such a time is in force, and which of them contradict each other; pure. Does not belong here: reading
them from a file (`alert_file`), what a quiet time does (`notify`), those that people and jobs ask for (`hands`,
`maintenance`). A recurring one is a cron expression for its beginnings and how long each lasts: the same expressions as
schedules have, read in its own timezone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from adinsights_orchestration.alerting.matching import Matcher, Quiet, Silence
from adinsights_orchestration.tenants.cron import Cron, first_after, last_until

_LOOKED_AT = 400  # beginnings: more than a year of nights
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # from when that is in force which names no beginning
_ANY_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Recurring:
    """A time that comes again.

    Attributes:
        name: What it is called.
        matchers: What it covers.
        cron: When it begins.
        timezone: In which that is meant.
        lasts: How long.
        author: Who wants it.
        reason: Why.
    """

    name: str
    matchers: tuple[Matcher, ...]
    cron: Cron
    timezone: str
    lasts: timedelta
    author: str
    reason: str

    def at(self, now: datetime) -> Silence | None:
        """The time that is in force at a moment, if one is."""
        begin = last_until(self.cron, self.timezone, now)
        return None if begin is None or now >= begin + self.lasts else self._from(begin)

    def after(self, now: datetime) -> Silence | None:
        """The first time that begins after a moment, if one does."""
        begin = first_after(self.cron, self.timezone, now)
        return None if begin is None else self._from(begin)

    def times(self, after: datetime = _ANY_YEAR, most: int = _LOOKED_AT) -> list[tuple[datetime, datetime]]:
        """The next times after a moment."""
        found: list[tuple[datetime, datetime]] = []
        while len(found) < most:
            begin = first_after(self.cron, self.timezone, found[-1][0] if found else after)
            if begin is None:
                break
            found.append((begin, begin + self.lasts))
        return found

    def _from(self, begin: datetime) -> Silence:
        end = begin + self.lasts
        return Silence(0, self.matchers, begin, end, self.author, self.reason, Quiet.MAINTENANCE, self.name)


Window = Silence | Recurring


def in_force(windows: Iterable[Window], now: datetime) -> list[Silence]:
    """Returns those that are in force."""
    found: list[Silence] = []
    for each in windows:
        silence = each.at(now) if isinstance(each, Recurring) else each
        if silence is not None and silence.starts_at <= now < silence.ends_at:
            found.append(silence)
    return found


def to_come(windows: Iterable[Window], now: datetime) -> list[Silence]:
    """Returns those that are in force or still to come; of one that comes again the nearest time."""
    found = [each.at(now) or each.after(now) if isinstance(each, Recurring) else each for each in windows]
    return [each for each in found if each is not None and each.ends_at > now]


def overlap(one: Window, other: Window) -> datetime | None:
    """Returns a moment at which both keep the very same quiet, which is one too many; None where there is none."""
    if set(one.matchers) != set(other.matchers):
        return None
    after = min((each.starts_at for each in (one, other) if isinstance(each, Silence)), default=_ANY_YEAR)
    times = _times(one, after), _times(other, after)
    if not all(times):
        return None
    # As many beginnings of the rarer one reach further, and each is looked for in the other, however often that begins.
    once = isinstance(one, Silence), isinstance(other, Silence)
    is_rarer = (once[0], times[0][-1]) >= (once[1], times[1][-1])
    rarer, second = (times[0], other) if is_rarer else (times[1], one)
    return next((moment for span in rarer if (moment := _first_of(second, *span)) is not None), None)


def overlaps_itself(one: Recurring) -> bool:
    """Whether it begins again before it is over."""
    return any(end > begin for (_, end), (begin, _) in pairwise(one.times()))


def _first_of(window: Window, begin: datetime, end: datetime) -> datetime | None:
    """The first moment of a span at which the window is in force."""
    met = [max(begin, start) for start, until in _times(window, begin, most=1) if start < end and begin < until]
    return met[0] if met else None


def _times(window: Window, after: datetime, most: int = _LOOKED_AT) -> Sequence[tuple[datetime, datetime]]:
    """The first times that end after a moment."""
    if isinstance(window, Silence):
        return [(window.starts_at, window.ends_at)]
    return window.times(after - window.lasts, most)
