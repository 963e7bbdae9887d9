"""When each of Dagster's daemons beat last.

Belongs here: the instance's heartbeats as plain values. Does not belong here: when one is late. Dagster's own judgement
waits half an hour before it calls a daemon unhealthy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A daemon's last sign of life.

    Attributes:
        at: When; None when it never beat.
        errors: How many errors it told of with it.
    """

    at: datetime | None
    errors: int


def heartbeats(instance: dg.DagsterInstance) -> Mapping[str, Heartbeat]:
    """Returns the heartbeat of every daemon that this instance needs, by its name."""
    found = {}
    for name, status in instance.get_daemon_statuses().items():
        if status.required:
            beat = status.last_heartbeat
            at = datetime.fromtimestamp(beat.timestamp, UTC) if beat else None
            found[name] = Heartbeat(at, len(beat.errors or ()) if beat else 0)
    return found
