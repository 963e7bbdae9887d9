"""Looking into what was left open: starts without an answer, jobs that were not seen for long, reasons not read yet.

Belongs here: asking Airbyte about single intents and jobs, a bounded number at a time. Does not belong here: the bulk
reading that makes this rare (`observe`). Each of these is safe to do again, and safe to leave for the next tick.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion import intents, ledger
from adinsights_orchestration.ingestion.absorb import absorb, finish_intents
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_errors import (
    AirbyteError,
    ForbiddenError,
    InvalidRequestError,
    MalformedReplyError,
    NotFoundError,
)
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob
from adinsights_orchestration.ingestion.deps import Deps, RegistryView
from adinsights_orchestration.ingestion.intents import Change, FindingKind, Intent
from adinsights_orchestration.ingestion.ledger import JobRow

UNSEEN_AFTER = timedelta(minutes=10)  # a running job that no listing showed for so long is looked up
DETAILS_WITHIN = timedelta(days=2)  # reasons that could not be read are asked for again for so long
_AT_ONCE = 20  # single look-ups per tick and kind
_FEW = 3  # up to so many jobs are looked up by id, more are listed
_STALE_AT_ONCE = 500
_LOST_AT_MOST = 500  # lost starts from which a tick chooses
# A start whose connection's jobs cannot be listed is given up after so long: its schedule makes new ones.
UNREADABLE_FOR = timedelta(hours=1)
# What Airbyte says about one connection, not about itself: the others are still worth asking about.
ABOUT_ONE = (ForbiddenError, NotFoundError, InvalidRequestError, MalformedReplyError)


@dataclass(slots=True)
class Settled:
    """What was found out.

    Attributes:
        found: Lost starts whose job was found.
        never_made: Lost starts that made none.
        vanished: Jobs that Airbyte does not know any more.
        explained: Failed jobs whose reason was read late.
        unreadable: Why a connection's jobs could not be listed when they were asked for last.
    """

    found: int = 0
    never_made: int = 0
    vanished: int = 0
    explained: int = 0
    unreadable: dict[UUID, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settler:
    """Looks into what is open, within a tick.

    Args:
        deps: What engines work with.
        api: An open client.
        clock: The tick's clock; nothing is asked once its budget is used up.
        view: The registry.
        rng: For delays.
    """

    deps: Deps
    api: AirbyteApi
    clock: TickClock
    view: RegistryView
    rng: random.Random

    async def lost_starts(
        self, settled: Settled, *, feed_shows_running_jobs: bool, only: Collection[int] | None = None
    ) -> None:
        """Resolves intents whose start was never answered.

        Their jobs are normally adopted from the bulk reading. Where that shows finished jobs only, and before it is
        concluded that no job was made, the connection's own jobs are listed. One connection that cannot be listed is a
        finding and keeps nobody else waiting.

        Args:
            settled: Told what is found out.
            feed_shows_running_jobs: Whether the bulk reading would have shown the jobs.
            only: The intents to look into; all of them by default.
        """
        now = self.clock.now()
        rules = self.deps.rules
        patience = rules.conclude_after if feed_shows_running_jobs else rules.search_after
        with self.deps.store.begin() as connection:
            lost = ledger.starting_since(connection, now - patience, _LOST_AT_MOST, only)
            if len(lost) > _AT_ONCE:  # by lot: those that cannot be listed must not take every turn
                lost = self.rng.sample(lost, _AT_ONCE)
        for intent in lost:
            if self.clock.left() <= 0:
                return
            try:
                jobs = await self.api.connection_jobs(intent.connection_id, since=None)
            except ABOUT_ONE as error:
                self._unreadable(intent, error)
                settled.unreadable[intent.connection_id] = str(error)
                continue
            settled.unreadable.pop(intent.connection_id, None)
            self._conclude(intent, jobs, settled)

    def _unreadable(self, intent: Intent, error: AirbyteError) -> None:
        now = self.clock.now()
        assert intent.posted_at is not None
        with self.deps.store.begin() as connection:
            ledger.take_turn(connection)
            note_unreadable(connection, intent.partition_key, intent.connection_id, error, now)
            if now - intent.posted_at >= UNREADABLE_FOR:
                why = f"the reply to its start was lost, and its connection's jobs cannot be listed: {error}"
                ledger.apply_changes(connection, [intents.abandoned(intent, why)], now)

    def _conclude(self, intent: Intent, jobs: Sequence[AirbyteJob], settled: Settled) -> None:
        now = self.clock.now()
        with self.deps.store.begin() as connection:
            known = ledger.known_jobs(connection, intent, jobs)
        change = intents.searched(intent, jobs, known, self.deps.rules, now, self.rng)
        if change is None:
            return
        with self.deps.store.begin() as connection:
            ledger.take_turn(connection)
            ledger.clear_notes(connection, (FindingKind.UNREADABLE,), (intent.partition_key,), now)
            absorb(connection, jobs, self.view, self.deps.rules, self.rng, now)
            self._apply(change, connection, now)
            finish_intents(connection, self.deps.rules, self.rng, now)
        if change.after.job_id is None:
            settled.never_made += 1
        else:
            settled.found += 1

    def _apply(self, change: Change, connection: sa.Connection, now: datetime) -> None:
        if ledger.apply_changes(connection, [change], now) and change.after.job_id is not None:
            ledger.own_jobs(connection, [change.after.id])
            ledger.hand_to_runs(connection, [change.after.id])

    async def unseen_jobs(self, settled: Settled, workspaces: Collection[UUID]) -> None:
        """Looks up jobs that should be running but were not seen for long: they may be over, or gone."""
        now = self.clock.now()
        with self.deps.store.begin() as connection:
            unseen = ledger.stale_running_jobs(connection, now - UNSEEN_AFTER, _STALE_AT_ONCE)
        if len(unseen) > _FEW:
            unseen = await self._without_running(unseen, workspaces)
        for row in unseen[:_AT_ONCE]:
            if self.clock.left() <= 0:
                return
            try:
                await self._look_up(row.job_id, settled)
            except ForbiddenError as error:
                with self.deps.store.begin() as connection:
                    note_unreadable(connection, row.partition_key, row.connection_id, error, self.clock.now())

    async def _without_running(self, unseen: list[JobRow], workspaces: Collection[UUID]) -> list[JobRow]:
        """Marks those that a listing of all running jobs shows, and returns the others."""
        try:
            running = await self._running_ids(min(row.started_at for row in unseen), workspaces)
        except AirbyteError:
            return unseen
        with self.deps.store.begin() as connection:
            ledger.touch_running(connection, running, self.clock.now())
        return [row for row in unseen if row.job_id not in running]

    async def _running_ids(self, since: datetime, workspaces: Collection[UUID]) -> set[int]:
        found: set[int] = set()
        offset = 0
        while self.clock.left() > 0:
            page = await self.api.running_changes(since, workspaces, offset=offset)
            found |= {job.job_id for job in page.jobs}
            offset += self.api.detailed_page_size
            if not page.full:
                break
        return found

    async def _look_up(self, job_id: int, settled: Settled) -> None:
        job = await read_job(self.api, job_id)
        now = self.clock.now()
        with self.deps.store.begin() as connection:
            ledger.take_turn(connection)
            if job is None:
                settled.vanished += ledger.note_missing(connection, job_id, now)
            else:
                ledger.touch_running(connection, [job_id], now)
            absorb(connection, [job] if job else [], self.view, self.deps.rules, self.rng, now)

    async def missing_details(self, settled: Settled) -> None:
        """Reads the reasons of failed jobs that the configuration API could not give at the time."""
        with self.deps.store.begin() as connection:
            bare = ledger.jobs_without_details(connection, self.clock.now() - DETAILS_WITHIN, _AT_ONCE)
        for job_id in bare:
            if self.clock.left() <= 0:
                return
            try:
                job = await self.api.detailed_job(job_id)
            except ABOUT_ONE:
                continue
            except AirbyteError:
                return  # the next tick asks again
            with self.deps.store.begin() as connection:
                absorb(connection, [job], self.view, self.deps.rules, self.rng, self.clock.now())
            settled.explained += 1


def note_unreadable(
    connection: sa.Connection, partition_key: str, connection_id: UUID, error: AirbyteError, now: datetime
) -> None:
    """Leaves a finding that a connection's jobs cannot be listed."""
    detail = {
        "connection_id": str(connection_id),
        "problem": str(error),
        "next_step": "See whether the credentials may read the connection's workspace, and whether it is still there.",
    }
    ledger.open_notes(connection, FindingKind.UNREADABLE, {partition_key: detail}, now)


async def read_job(api: AirbyteApi, job_id: int) -> AirbyteJob | None:
    """Reads a job, with details where the configuration API gives them; None when Airbyte does not know it."""
    try:
        return await api.detailed_job(job_id)
    except AirbyteError:
        pass  # the public API decides whether the job exists: a server may lack the other call
    try:
        return await api.job(job_id)
    except NotFoundError:
        return None
