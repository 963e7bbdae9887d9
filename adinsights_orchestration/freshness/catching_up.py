"""Whether the ledger may lie behind Airbyte, so that what it lacks says nothing about a connection.

Belongs here: since when it may, as a pure function, and for how long that excuses. Does not belong here: reading how
far the ledger is (`facts`), the rule of lateness (`evaluate`). When the ops store comes back after an hour, the first
to ask is as likely the evaluation as the reader of Airbyte's jobs: everything that ended meanwhile would be late at
once, and well again seconds later, with a page in between. So nobody turns late newly until the reader has been
through, at most for a while: a reader that stays away makes nothing look fresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

AWAY_AFTER = timedelta(minutes=3)  # without an evaluation, which comes once a minute or more often
EXCUSED_FOR = timedelta(minutes=10)
# The reader may have come back a little before the evaluation. Before both were away it wrote nothing as late as that:
# it ticks as often, and they were away for longer. It writes only where it finds something: what it did not write by
# the end of the excuse, there was not.
_TOGETHER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class LedgerReading:
    """How far the ledger's reader of Airbyte's jobs has come.

    Attributes:
        at: When it last took something in.
        complete: Whether nothing was left to read then.
    """

    at: datetime
    complete: bool


def behind_since(
    known: datetime | None, last_evaluation: datetime, reading: LedgerReading | None, now: datetime
) -> datetime | None:
    """Returns since when the ledger may lie behind; None while it does not.

    Args:
        known: What the last evaluation concluded.
        last_evaluation: When that was.
        reading: How far the ledger was read; None where nobody ever did, as where nothing is driven.
        now: The moment.
    """
    if reading is None:
        return None
    since = known
    if since is None and (now - last_evaluation > AWAY_AFTER or not reading.complete):
        since = now
    if since is None:
        return None
    since = min(since, now)  # a clock that was set back excuses nothing for longer
    was_through = reading.at >= since - _TOGETHER or not excuses(since, now)
    return None if reading.complete and was_through else since


def excuses(since: datetime | None, now: datetime) -> bool:
    """Whether a ledger that lies behind since then is a reason to call nobody late who was not."""
    return since is not None and now - since < EXCUSED_FOR


def describe(since: datetime | None, due: int, now: datetime) -> str:
    """What an evaluation says of it; empty while the ledger is up to date."""
    if since is None:
        return ""
    if not excuses(since, now):
        return f"Airbyte's jobs are not read up to date since {since:%H:%M} UTC, for too long to excuse anybody"
    held = f"{due} due" if due else "nobody is due"
    until = f"{since + EXCUSED_FOR:%H:%M} UTC"
    return f"the ledger may lie behind Airbyte: {held}, and nobody turns late before its jobs are read, or {until}"
