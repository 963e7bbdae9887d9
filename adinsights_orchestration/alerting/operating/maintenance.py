"""Windows that a job opens around work of its own that would set alerts off: a backfill, a night of deletions.

Belongs here: opening and closing one. Does not belong here: windows of the alert file (`windows`), what a window does
(`notify`): it keeps what matches quiet, states are kept, and what still fires at its end is told then. A job that dies
leaves its window open until the latest end that it gave: hours too long, never for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.alerting.matching import Matcher, Quiet, Silence
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import ConfigurationError, OpsStoreError
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore

LONGEST = timedelta(days=3)
RUN_LASTS = timedelta(hours=4)  # dagster.yaml ends a run then
_LINGERS = timedelta(minutes=2)  # a few evaluations see how it went before anybody is told
_log = get_logger(__name__)


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


@contextmanager
def around(store: OpsStore, *matchers: str, author: str, reason: str, clock: Clock = utc_now) -> Iterator[None]:
    """`open` for the work of a run: work goes on where the ops store does not answer, and is heard as ever then."""
    with ExitStack() as stack:
        try:
            stack.enter_context(
                open(store, matchers, at_most=RUN_LASTS, author=author, reason=reason, linger=_LINGERS, clock=clock)
            )
        except OpsStoreError as error:
            _log.warning("no maintenance window", author=author, reason=str(error))
        yield


def _close(store: OpsStore, window: OpenWindow, author: str, linger: timedelta, now: datetime) -> None:
    try:
        with store.begin() as connection:
            if rows.end_silence(connection, window.number, min(now + linger, window.ends_at)):
                rows.note(connection, [Event(now, "maintenance_closed", f"{window.number} by {author}")])
    except OpsStoreError as error:  # the work is done, however this goes, and the window has an end of its own
        _log.warning("maintenance window left open", author=author, until=window.ends_at, reason=str(error))
