"""Whether alerting itself is alive: when it last evaluated and last delivered.

Belongs here: the two ages and the judgement. Does not belong here: what asks for it (a container's probe, a command).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.environments import UNATTENDED, Automation
from adinsights_orchestration.freshness.sla import Sla, SlaTable
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

_MISSED_TICKS = 4


@dataclass(frozen=True, slots=True)
class Pulse:
    """One of the two sensors.

    Attributes:
        sensor: Its name.
        last_at: When it last came to its end; None when it never did.
        age: Since then.
        oldest: How old that may be.
    """

    sensor: str
    last_at: datetime | None
    age: timedelta | None
    oldest: timedelta

    @property
    def alive(self) -> bool:
        """Whether it has ticked lately."""
        return self.age is not None and self.age <= self.oldest


def pulses(
    store: OpsStore, settings: Settings, sla: SlaTable, now: datetime, oldest: timedelta | None = None
) -> Sequence[Pulse]:
    """Returns how both sensors are; none where this environment declares none.

    Args:
        store: The ops store.
        settings: Whose environment says how often they tick.
        sla: From what age on a sensor counts as silent, at least four of its intervals.
        now: The moment.
        oldest: Another age instead.

    Raises:
        OpsStoreError: It does not answer, so nothing is evaluated and nothing delivered.
    """
    with store.begin() as connection:
        last = {
            Automation.ALERT_EVALUATE: rows.last_evaluation(connection),
            Automation.ALERT_DELIVER: rows.last_delivery(connection),
        }
    found = []
    for automation, at in last.items():
        declared = UNATTENDED[settings.environment].get(automation)
        if declared is None or declared.every_seconds is None or (declared.stack_only and not settings.local_stack):
            continue
        allowed = max(sla[Sla.HEARTBEAT_AGE].page_after, _MISSED_TICKS * timedelta(seconds=declared.every_seconds))
        # A clock that was set back makes nothing older than new.
        age = max(now - at, timedelta()) if at is not None else None
        found.append(Pulse(automation.value, at, age, oldest or allowed))
    return found
