"""Night: one planned start of every active connection, for environments that sync once a night.

Belongs here: which night it is, and planning its starts. Does not belong here: starting them and trying again what
failed (`trigger`). A night is a slot like those of the connections' own schedules: the ledger holds one start per
connection and slot, so that planning it again, in two runs at once or after a restart, adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.deps import Deps, RegistryView
from adinsights_orchestration.ingestion.due import CLOCK_SKEW
from adinsights_orchestration.ingestion.ledger import Planned
from adinsights_orchestration.settings import Driver
from adinsights_orchestration.tenants.cron import last_until, parse_cron


@dataclass(frozen=True, slots=True)
class Night:
    """What planning a night did.

    Attributes:
        slot: When the night's syncs are due, in UTC.
        active: Connections that are driven.
        planned: Those of them for which a start was planned now; the others had theirs.
        skipped: Why nothing was planned, or empty.
    """

    slot: datetime
    active: int
    planned: int = 0
    skipped: str = ""

    def describe(self) -> str:
        """One line for people."""
        if self.skipped:
            return self.skipped
        had = self.active - self.planned
        return f"{self.planned} starts planned for the night of {self.slot:%Y-%m-%d %H:%M}Z, {had} were planned before"


def plan_night(deps: Deps, cron: str, now: datetime) -> Night:
    """Plans a start of every active connection for the newest night.

    A connection that is being synced just now gets its start too: it follows when that sync is over.

    Args:
        deps: What engines work with.
        cron: When nights are, in the home timezone.
        now: The moment. A clock that is a little behind the scheduler's must not mean the night before.

    Raises:
        OpsStoreError: The ledger cannot be reached; nothing was planned.
    """
    slot = last_until(parse_cron(cron), deps.settings.home_timezone, now + CLOCK_SKEW)
    assert slot is not None  # the table's expressions have a moment every day
    view = RegistryView(deps.registry)
    if deps.settings.ingestion.driver is Driver.EXTERNAL:
        return Night(slot, len(view.active), skipped="the driver is external: nothing is started from here")
    with deps.store.begin() as connection:
        missing = ledger.unplanned(connection, dict.fromkeys(view.active, slot))
        starts = [Planned(key, view.places[key].partition_key, slot) for key in sorted(missing)]
        return Night(slot, len(view.active), ledger.plan(connection, starts, now))
