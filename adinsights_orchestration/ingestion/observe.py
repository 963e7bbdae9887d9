"""Observe: what became of every sync, whoever started it.

Belongs here: one tick: reading on from the ledger's position, taking in what is new, looking into what is open. Does
not belong here: how pages are read (`job_feed`), what follows for intents (`absorb`), reporting to Dagster (the shell).
Jobs and the position move in one transaction, so a kill loses nothing; the position is Airbyte's own time, so our clock
does not matter; each tick reads a little back, for changes that were committed late.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.absorb import Absorbed, absorb
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_errors import AirbyteError, out_of_time
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob
from adinsights_orchestration.ingestion.deps import Deps, RegistryView, workspaces_of
from adinsights_orchestration.ingestion.intents import CLEARED_BY_A_START, REFUSED_STARTS, FindingKind
from adinsights_orchestration.ingestion.job_feed import Harvest, Limits, changed_since
from adinsights_orchestration.ingestion.ledger import ObserveAgenda, Position
from adinsights_orchestration.ingestion.settle import (
    ABOUT_ONE,
    DETAILS_WITHIN,
    UNSEEN_AFTER,
    Settled,
    Settler,
    note_unreadable,
)
from adinsights_orchestration.ingestion.workspaces import Reading, note_position, note_refused, read_changes
from adinsights_orchestration.ops_store.findings import open_findings
from adinsights_orchestration.settings import Driver

LOCK = "ingestion_observe"
_SUBJECT = "airbyte"
_UNREADABLE_AGAIN = timedelta(hours=1)  # what cannot be listed is found again long before
_NEWCOMERS_AT_ONCE = 10  # connections that became known, whose earlier jobs one tick takes in


@dataclass(slots=True)
class ObserveReport:
    """What a tick saw.

    Attributes:
        skipped: Why it did nothing, or empty.
        absorbed: What taking jobs in changed.
        settled: What looking into open things found out.
        complete: Whether everything that Airbyte had to tell was read.
        detailed: Whether the configuration API answered.
        problem: Why the tick ended early, or empty.
        requests: Requests sent.
    """

    skipped: str = ""
    absorbed: Absorbed = field(default_factory=Absorbed)
    settled: Settled = field(default_factory=Settled)
    complete: bool = False
    detailed: bool = False
    problem: str = ""
    requests: int = 0


async def tick(deps: Deps, now: datetime, *, budget_seconds: float | None = None) -> ObserveReport:
    """Reads what changed in Airbyte since the last tick; returns within the tick budget, or the part that is given.

    An Airbyte that does not answer is a `problem` in the report: nothing is lost, the next tick reads on from the same
    position.

    Raises:
        OpsStoreError: The ledger cannot be reached.
    """
    with deps.store.exclusive(LOCK) as mine:
        if not mine:
            return ObserveReport(skipped="another tick is at work")
        return await _tick(deps, TickClock(now, budget_seconds or deps.settings.ingestion.tick_budget_seconds))


async def _tick(deps: Deps, clock: TickClock) -> ObserveReport:
    report = ObserveReport()
    async with deps.api() as api:
        try:
            async with asyncio.timeout(clock.left()):
                await _Observer(deps, api, clock, report).run()
        except TimeoutError:
            report.problem = out_of_time(clock.budget_seconds, api.trouble, "the next one reads on")
        except AirbyteError as error:
            report.problem = str(error)
        report.requests = api.requests
    return report


class _Observer:
    """One tick's work."""

    def __init__(self, deps: Deps, api: AirbyteApi, clock: TickClock, report: ObserveReport) -> None:
        self._deps, self._api, self._clock, self._report = deps, api, clock, report
        self._view = RegistryView(deps.registry)
        self._rng: random.Random = deps.rng()

    async def run(self) -> None:
        position, agenda = self._open()
        workspaces = await workspaces_of(self._api, self._deps.settings, self._view)
        start = self._start(position)
        reading = await read_changes(self._api, start, workspaces, self._known, self._limits())
        harvest = reading.harvest
        if reading.refused:  # noted before the position moves past what they have to tell
            self._note_refused(reading, start)
        self._take(harvest, position, agenda)
        settler = Settler(self._deps, self._api, self._clock, self._view, self._rng)
        settled = self._report.settled
        if agenda.unanswered:
            await settler.lost_starts(settled, feed_shows_running_jobs=harvest.detailed and harvest.complete)
        if agenda.unseen:
            await settler.unseen_jobs(settled, workspaces - reading.refused)
        if agenda.unexplained and harvest.detailed:
            await settler.missing_details(settled)
        if agenda.strangers:
            await self._take_newcomers()
        if agenda.refused:
            await self._catch_up(reading.refused, workspaces)

    def _open(self) -> tuple[Position | None, ObserveAgenda]:
        """Where the last tick ended, and what it left open."""
        now = self._clock.now()
        with self._deps.store.begin() as connection:
            agenda = ledger.observe_agenda(connection, now - UNSEEN_AFTER, now - DETAILS_WITHIN)
            if agenda.noted:
                self._forget_departed(connection, now)
            return ledger.load_position(connection), agenda

    def _forget_departed(self, connection: sa.Connection, now: datetime) -> None:
        """Clears what was found about starts of connections that nothing here starts: no accepted one would end it.

        That jobs cannot be listed may be found of such a connection anew, as long as something waits for one of them.
        """
        external = self._deps.settings.ingestion.driver is Driver.EXTERNAL
        driven = set() if external else {one.partition_key for one, _ in self._view.active.values()}
        for kind in CLEARED_BY_A_START:
            unseen_since = now if kind in REFUSED_STARTS else now - _UNREADABLE_AGAIN
            departed = [
                one.subject
                for one in open_findings(connection, kind)
                if one.subject not in driven and one.last_seen_at <= unseen_since
            ]
            ledger.clear_notes(connection, (kind,), departed, now)

    def _start(self, position: Position | None) -> datetime:
        """The moment from which this tick reads."""
        ingestion = self._deps.settings.ingestion
        if position is None:
            return self._clock.start - timedelta(hours=ingestion.first_observation_hours)
        if not position.complete:  # catching up: reading back each time could take all that a tick may take
            return position.reached
        return position.reached - timedelta(seconds=ingestion.observe_overlap_seconds)

    def _limits(self) -> Limits:
        most = self._deps.settings.ingestion.observe_max_jobs_per_tick
        half = self._clock.budget_seconds / 2  # the rest is for writing and for what is open
        return Limits(most, out_of_time=lambda: self._clock.left() < half)

    def _known(self, jobs: Sequence[AirbyteJob], detailed: bool) -> set[int]:
        with self._deps.store.begin() as connection:
            return ledger.nothing_new(connection, jobs, self._clock.now(), detailed=detailed)

    def _take(self, harvest: Harvest, position: Position | None, agenda: ObserveAgenda) -> None:
        """Commits the jobs and the position together.

        The position does not go beyond our own clock: one server whose clock runs ahead must not make us pass over
        what the others have yet to tell.
        """
        now = self._clock.now()
        reached = min(harvest.reached, now)
        caught_up = harvest.complete or (position is not None and position.caught_up)
        moved = Position(reached if position is None else max(position.reached, reached), harvest.complete, caught_up)
        self._report.complete, self._report.detailed = harvest.complete, harvest.detailed
        if harvest.detailed and harvest.problem is not None:
            self._report.problem = str(harvest.problem)
        if not harvest.jobs and moved == position and not (agenda.ended or agenda.unanswered or harvest.problem):
            return
        with self._deps.store.begin() as connection:
            self._report.absorbed = absorb(connection, harvest.jobs, self._view, self._deps.rules, self._rng, now)
            ledger.save_position(connection, moved, now)
            self._note_config_api(connection, harvest, now)

    def _note_config_api(self, connection: sa.Connection, harvest: Harvest, now: datetime) -> None:
        if harvest.detailed:
            ledger.clear_notes(connection, (FindingKind.CONFIG_API,), (_SUBJECT,), now)
        elif harvest.problem is not None:
            detail = {"problem": str(harvest.problem), "next_step": "Check ADINSIGHTS_AIRBYTE__CONFIG_API_URL."}
            ledger.open_notes(connection, FindingKind.CONFIG_API, {_SUBJECT: detail}, now)

    def _note_refused(self, reading: Reading, start: datetime) -> None:
        with self._deps.store.begin() as connection:
            noted = ledger.noted(connection, FindingKind.WORKSPACE)
            note_refused(connection, noted, reading, start, self._clock.now())

    async def _catch_up(self, refused: Collection[UUID], workspaces: Collection[UUID]) -> None:
        """Takes in what happened in workspaces that can be read again; forgets those that nobody wants to read."""
        with self._deps.store.begin() as connection:
            noted = ledger.noted(connection, FindingKind.WORKSPACE)
            left = [one for one in noted if UUID(one) not in workspaces]
            ledger.clear_notes(connection, (FindingKind.WORKSPACE,), left, self._clock.now())
        for workspace in noted.keys() - set(left) - {str(one) for one in refused}:
            since = datetime.fromisoformat(noted[workspace]["since"])
            harvest = await changed_since(self._api, since, (UUID(workspace),), self._known, self._limits())
            now = self._clock.now()
            with self._deps.store.begin() as connection:
                absorb(connection, harvest.jobs, self._view, self._deps.rules, self._rng, now)
                if harvest.complete:
                    ledger.clear_notes(connection, (FindingKind.WORKSPACE,), (workspace,), now)
                else:
                    note_position(connection, workspace, noted[workspace], harvest.reached, now)

    async def _take_newcomers(self) -> None:
        """Takes in what connections did before the registry knew them."""
        with self._deps.store.begin() as connection:
            strangers = ledger.noted(connection, FindingKind.UNKNOWN_CONNECTION)
        known = [subject for subject in strangers if UUID(subject) in self._view.places]
        if len(known) > _NEWCOMERS_AT_ONCE:  # by lot: those that cannot be listed must not take every turn
            known = self._rng.sample(known, _NEWCOMERS_AT_ONCE)
        for subject in known:
            since = datetime.fromisoformat(strangers[subject]["since"]) - timedelta(minutes=1)
            now, key = self._clock.now(), self._view.places[UUID(subject)].partition_key
            try:
                jobs = await self._api.connection_jobs(UUID(subject), since=since)
            except ABOUT_ONE as error:  # it stays unknown, and is asked about again
                with self._deps.store.begin() as connection:
                    note_unreadable(connection, key, UUID(subject), error, now)
                continue
            with self._deps.store.begin() as connection:
                ledger.take_turn(connection)
                ledger.clear_notes(connection, (FindingKind.UNREADABLE,), (key,), now)
                absorb(connection, jobs, self._view, self._deps.rules, self._rng, now)
                ledger.clear_notes(connection, (FindingKind.UNKNOWN_CONNECTION,), (subject,), now)
