"""One round of probes: all at once, within a bound, kept in one transaction.

Belongs here: the order of a round, and its deadlines. Does not belong here: any probe, and showing anything
(`showing`). Whatever hangs, a round ends well inside a sensor's minute; what has not answered by then is a reading too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.clock import Clock
from adinsights_orchestration.freshness.sla import Sla, SlaTable
from adinsights_orchestration.health import recorded, samples, states
from adinsights_orchestration.health.asking import Asking
from adinsights_orchestration.health.catalog import Entry, watched
from adinsights_orchestration.health.model import Component, ComponentState, Health, Reading
from adinsights_orchestration.health.probes.api import note_own_requests
from adinsights_orchestration.health.samples import Resolution
from adinsights_orchestration.health.states import Transition
from adinsights_orchestration.health.web import Web
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.redaction import redact, redact_value
from adinsights_orchestration.settings import HealthSettings, Settings

LOCK = "health_probe"
MARGIN_SECONDS = 5.0  # beyond a probe's own deadline, for what it does around its questions
_STATEMENT_SECONDS = 8  # the whole round has a minute; a statement on a few hundred rows takes milliseconds
_log = get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did.

    Attributes:
        skipped: Why it did nothing, or empty.
        states: How every watched component is now.
        transitions: Those of another health than before.
        pruned: Samples that were deleted.
    """

    skipped: str = ""
    states: Mapping[Component, ComponentState] | None = None
    transitions: Sequence[Transition] = ()
    pruned: int = 0


def run(settings: Settings, store: OpsStore, sla: SlaTable, instance: dg.DagsterInstance, clock: Clock) -> Round:
    """Asks every component once and keeps what it said.

    Raises:
        OpsStoreError: The ops store does not answer; what is kept stays, with its age.
    """
    with store.exclusive(LOCK) as mine:
        if not mine:
            return Round(skipped="another round is under way")
        now = clock()
        window = sla[Sla.API_ERROR_RATE].window or timedelta(minutes=5)
        known = recorded.read(store, now, window)
        web = Web(settings.health.probe_timeout_seconds)
        ask = Asking(settings, sla, web, store, known, clock, instance, dict(known.memory))
        readings = _in_a_loop_of_its_own(ask_all(ask, watched(settings)))
        note_own_requests(ask.memory, web.answered, settings.backend.url, now)
        with store.begin() as connection:
            connection.execute(sa.text(f"set local statement_timeout = '{_STATEMENT_SECONDS}s'"))
            after, transitions = states.record(connection, readings, sla[Sla.PROBE_DOWN].warn_after, window)
            samples.add(connection, readings)
            pruned = samples.prune(connection, keeps(settings.health), now)
            recorded.remember(connection, ask.memory, now)
        return Round(states=after, transitions=transitions, pruned=pruned)


def keeps(settings: HealthSettings) -> dict[Resolution, timedelta]:
    """How long samples of each resolution are kept."""
    return {
        Resolution.MINUTE: timedelta(days=settings.keep_minute_samples_days),
        Resolution.HOUR: timedelta(days=settings.keep_hour_samples_days),
        Resolution.DAY: timedelta(days=settings.keep_day_samples_days),
    }


async def ask_all(ask: Asking, entries: Mapping[Component, Entry]) -> list[Reading]:
    """Asks these components at once; returns one reading of each, whatever happens."""
    async with ask.web:
        asked = (_ask_one(ask, component, entry) for component, entry in entries.items())
        return list(await asyncio.gather(*asked))


async def _ask_one(ask: Asking, component: Component, entry: Entry) -> Reading:
    limit = ask.timeout_seconds + MARGIN_SECONDS
    try:
        async with asyncio.timeout(limit):
            reading = await entry.probe(ask)
    except TimeoutError:
        reading = ask.reading(component, Health.UNKNOWN, "timeout", f"the probe took longer than {limit:g} s")
    except Exception as error:  # noqa: BLE001  (a defect of one probe must not hide the others' readings)
        _log.exception("a probe failed", component=component.value)
        said = f"the probe itself failed ({type(error).__name__}); see the log"
        reading = ask.reading(component, Health.UNKNOWN, "probe_error", said)
    return replace(reading, detail=redact(reading.detail), facts=redact_value(reading.facts))


def _in_a_loop_of_its_own(work: Coroutine[Any, Any, _T]) -> _T:
    """As `asyncio.run`, without waiting for threads: a resolver that hangs would hold up the whole round."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
