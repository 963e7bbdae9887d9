"""Whether a connection is due: whether the newest slot of its schedule still waits for a sync.

Belongs here: the decision over plain values. Does not belong here: the slots themselves (`tenants.slots`), starting
anything (`trigger`), lateness (`freshness`). Slots that were missed collapse into the newest, and a sync that anybody
started at or after a slot satisfies it, unless it failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from adinsights_orchestration.tenants.model import Connection, Standing
from adinsights_orchestration.tenants.slots import Slots

CLOCK_SKEW = timedelta(minutes=1)  # how far Airbyte's clock may be from ours


@dataclass(frozen=True, slots=True)
class Activity:
    """What is known of a connection's syncs, whoever started them.

    Attributes:
        started_at: Start of its newest sync that did not fail, on Airbyte's clock.
        running: Whether a sync of it runs, or is being started.
    """

    started_at: datetime | None = None
    running: bool = False


IDLE = Activity()


def is_due(connection: Connection, around: Slots, activity: Activity) -> datetime | None:
    """Returns the slot for which the connection should start now, or None.

    A running sync is let end first: what it leaves undone is due when it is over. A slot for which a start is planned
    already is not asked about: the ledger knows those (`ledger.unplanned`).

    Args:
        connection: Only an active one is ever due.
        around: The slots around now.
        activity: What is known of its syncs.
    """
    if connection.standing is not Standing.ACTIVE or activity.running:
        return None
    slot = around.latest
    # A sync that anybody started at or after the slot is the slot's, give or take the skew.
    if slot is None or (activity.started_at is not None and activity.started_at >= slot - tolerance(around)):
        return None
    return slot


def tolerance(around: Slots) -> timedelta:
    """The clock skew that is allowed for; less for slots so close that one's sync could pass for the next one's."""
    return CLOCK_SKEW if around.gap is None else min(CLOCK_SKEW, around.gap / 4)
