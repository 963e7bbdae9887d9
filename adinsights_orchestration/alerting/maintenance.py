"""Windows that a job opens around work of its own that would set alerts off: a backfill, a night of deletions.

Belongs here: opening and closing one. Does not belong here: windows of the alert file (`windows`), what a window does
(`notify`): it keeps what matches quiet, states are kept, and what still fires at its end is told then. A job that dies
leaves its window open until the latest end that it gave: hours too long, never for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from adinsights_orchestration.alerting import rows
from adinsights_orchestration.alerting.matching import Matcher, Quiet, Silence
from adinsights_orchestration.alerting.rows import Event
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.ops_store.store import OpsStore

LONGEST = timedelta(days=3)


@dataclass
class OpenWindow:
    """A window in force.

    Attributes:
        number: Its number, as `adinsights alerts list` shows it.
        ends_at: Its latest end.
    """

    number: int
    ends_at: datetime


@contextmanager
def open(  # noqa: A001  (read as `maintenance.open`)
    store: OpsStore,
    matchers: Iterable[str],
    *,
    at_most: timedelta,
    author: str,
    reason: str,
    linger: timedelta = timedelta(0),
    clock: Clock = utc_now,
) -> Iterator[OpenWindow]:
    """Keeps what matches quiet while the block runs.

    Args:
        store: The ops store.
        matchers: What the work sets off: `["rule=webhook_silent"]`. All must be met, as in a silence.
        at_most: The longest that the work takes; the window ends then by itself.
        author: Who opens it: the job.
        reason: Why, for whoever wonders why nothing is said.
        linger: How much longer it lasts after the block, where evaluations see the work's effects later.
        clock: The clock.

    Raises:
        ConfigurationError: A matcher is wrong, there is none, or it is to last for too long or no time.
        OpsStoreError: The ops store does not answer.
    """
    parsed = tuple(Matcher.parse(text) for text in matchers)
    if not parsed:
        raise ConfigurationError("a maintenance window needs a matcher", next_step="Name what the work sets off.")
    if not timedelta() < at_most <= LONGEST:
        raise ConfigurationError(f"a maintenance window lasts up to {LONGEST.days} days")
    now = clock()
    asked = Silence(0, parsed, now, now + at_most, author, reason, Quiet.MAINTENANCE)
    with store.begin() as connection:
        number = rows.add_silence(connection, asked, now)
        words = f"{number} by {author}: {', '.join(map(str, parsed))}, {reason}"
        rows.note(connection, [Event(now, "maintenance_opened", words)])
    window = OpenWindow(number, asked.ends_at)
    try:
        yield window
    finally:
        _close(store, window, author, linger, clock())


def _close(store: OpsStore, window: OpenWindow, author: str, linger: timedelta, now: datetime) -> None:
    with store.begin() as connection:
        if rows.end_silence(connection, window.number, min(now + linger, window.ends_at)):
            rows.note(connection, [Event(now, "maintenance_closed", f"{window.number} by {author}")])
