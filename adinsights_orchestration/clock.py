"""The clock that decisions are given, and the clock of one tick.

Every function that depends on the time takes a `Clock`, a `TickClock` or a moment; only process entry points use
`utc_now`. Tests pass their own. All moments in the project are timezone-aware; naive ones are a defect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Returns the current moment in UTC."""
    return datetime.now(UTC)


def elapsed_seconds() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps; only differences mean anything."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class TickClock:
    """The moment within a tick: the one it was given, and what has passed since.

    Attributes:
        start: The moment at which the tick began.
        budget_seconds: How long it may work.
        seconds: Measures what has passed.
    """

    start: datetime
    budget_seconds: float
    seconds: Callable[[], float] = elapsed_seconds
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_begun", self.seconds())

    def now(self) -> datetime:
        """The present moment."""
        return self.start + timedelta(seconds=self.elapsed())

    def elapsed(self) -> float:
        """Seconds since the tick began."""
        return self.seconds() - self._begun

    def left(self) -> float:
        """Seconds of the budget that remain; not negative."""
        return max(self.budget_seconds - self.elapsed(), 0.0)

    def part(self, share: float) -> TickClock:
        """A clock that begins now and has this share of what is left, for one of several pieces of work."""
        return TickClock(self.now(), self.left() * share, self.seconds)
