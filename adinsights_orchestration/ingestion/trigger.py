"""Trigger: starts what is due, once per slot, within the bound.

Belongs here: one tick: which slots wait, planning them, handing them to the starter. Does not belong here: what becomes
of a start (`starter`), what finished (`observe`). A tick waits for no sync. With driver `external` it does nothing:
Celery or Airbyte's own schedule starts syncs then, and two drivers would start each twice. Nor does a new deployment
start anything before it has observed Airbyte once: what seems never synced may have been synced by others a minute ago.
Where a night plans the starts (`night`), a tick plans none of its own: it only starts what is planned, and tries again
what failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID
from weakref import WeakKeyDictionary

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.deps import Deps, RegistryView
from adinsights_orchestration.ingestion.due import IDLE, Activity, is_due
from adinsights_orchestration.ingestion.intents import Intent, Reason
from adinsights_orchestration.ingestion.ledger import Planned
from adinsights_orchestration.ingestion.starter import Started, Starter
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Driver
from adinsights_orchestration.tenants.slots import Slots, SlotTable

LOCK = "ingestion_trigger"
NOT_OBSERVED = (
    "waiting for the first observation: no scheduled sync is started before ingestion_observe has read once what "
    "Airbyte did lately; if this stays, see what that sensor's ticks say"
)


@dataclass(frozen=True, slots=True)
class TriggerReport:
    """What a tick did.

    Attributes:
        skipped: Why it did nothing, or empty.
        planned: Slots for which a start was planned.
        satisfied: Planned starts that somebody else's sync made unnecessary.
        starts: What became of the starts.
        waiting: Starts that are due and have no place yet.
        held: Why those wait, or empty.
        requests: Requests sent.
    """

    skipped: str = ""
    planned: int = 0
    satisfied: int = 0
    starts: Started = field(default_factory=Started)
    waiting: int = 0
    held: str = ""
    requests: int = 0


async def tick(deps: Deps, now: datetime, *, own_slots: bool = True) -> TriggerReport:
    """Plans what is due at `now` and starts what may start; returns within the tick budget.

    Args:
        deps: What engines work with.
        now: The moment.
        own_slots: Whether the connections' own schedules are followed; false starts only what was planned elsewhere.

    Raises:
        OpsStoreError: The ledger cannot be reached; nothing was started that it does not know of.
    """
    if deps.settings.ingestion.driver is Driver.EXTERNAL:
        return TriggerReport(skipped="the driver is external: nothing is started from here")
    with deps.store.exclusive(LOCK) as mine:
        if not mine:
            return TriggerReport(skipped="another tick is at work")
        return await _tick(deps, TickClock(now, deps.settings.ingestion.tick_budget_seconds), own_slots)


async def _tick(deps: Deps, clock: TickClock, own_slots: bool) -> TriggerReport:
    view = RegistryView(deps.registry)
    plan = plan_due(deps, view, clock.start, own_slots=own_slots)
    if plan is None:
        return TriggerReport(skipped=NOT_OBSERVED)
    report = TriggerReport(planned=plan.planned, satisfied=plan.satisfied)
    if not plan.waiting:
        return report
    if plan.room:
        report = await _start(deps, clock, view, report)
    with deps.store.begin() as connection:
        shares = ledger.shares(connection, deps.bound, clock.now())
    held = shares.held(people=False)
    return replace(report, held=held, waiting=shares.schedules.waiting if held else 0)


async def _start(deps: Deps, clock: TickClock, view: RegistryView, report: TriggerReport) -> TriggerReport:
    def may_start(intent: Intent) -> str | None:
        if intent.reason is Reason.MANUAL:
            return "the run that asked for it is over"
        return None if intent.connection_id in view.active else "the connection is not active any more"

    async with deps.api() as api:
        starter = Starter(deps, api, clock, view, may_start=may_start)
        starts = await starter.run()
        return replace(report, starts=starts, requests=api.requests)


@dataclass(frozen=True, slots=True)
class Plan:
    """What planning found.

    Attributes:
        planned: New starts.
        satisfied: Older ones that somebody else satisfied.
        waiting: Whether any could start now.
        room: Whether the bound leaves room for one.
    """

    planned: int
    satisfied: int
    waiting: bool
    room: bool


# For each ledger, the newest slot of each connection that is known to be planned. A planned slot stays planned, so what
# is known here need not be asked again; what is not known (in a new process: everything) is asked of the ledger.
_planned: WeakKeyDictionary[OpsStore, dict[UUID, datetime]] = WeakKeyDictionary()


def plan_due(deps: Deps, view: RegistryView, now: datetime, *, own_slots: bool = True) -> Plan | None:
    """Plans a start for every slot that waits for one; without slots of its own it looks only at what is planned.

    Returns:
        What it found, or None before the first observation, when nothing may be started.
    """
    known = _planned.setdefault(deps.store, {})
    around = _unknown_slots(view, now, known) if own_slots else {}
    with deps.store.begin() as connection:
        agenda = ledger.trigger_agenda(connection, now)
        if not agenda.observed:
            return None
        satisfied = ledger.adopt_satisfied(connection, now) if agenda.planned else 0
        candidates = ledger.unplanned(connection, {key: slot for key, (slot, _) in around.items()})
        due = _due(ledger.activity(connection, candidates), around, candidates, view)
        planned = ledger.plan(connection, due, now)
    done = around.keys() - candidates | {one.connection_id for one in due}
    known.update({key: around[key][0] for key in done})
    return Plan(planned, satisfied, waiting=agenda.ready or planned > 0, room=agenda.running < deps.bound)


def _unknown_slots(
    view: RegistryView, now: datetime, known: Mapping[UUID, datetime]
) -> dict[UUID, tuple[datetime, Slots]]:
    """The newest slot of every connection of which it is not known yet that it is planned."""
    table = SlotTable(now)
    found = {}
    for key, (connection, tenant) in view.active.items():
        slots = table.of(connection, tenant.timezone)
        if slots.latest is not None and known.get(key) != slots.latest:
            found[key] = (slots.latest, slots)
    return found


def _due(
    activity: Mapping[UUID, Activity],
    around: Mapping[UUID, tuple[datetime, Slots]],
    candidates: Iterable[UUID],
    view: RegistryView,
) -> list[Planned]:
    waiting = ((key, is_due(view.active[key][0], around[key][1], activity.get(key, IDLE))) for key in candidates)
    return [Planned(key, view.places[key].partition_key, slot) for key, slot in waiting if slot is not None]
