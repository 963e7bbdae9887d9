"""Wait: starts what a person asked for and follows it to the end.

Belongs here: one run's loop over its own intents: claim, start, follow, tell. Does not belong here: starting itself
(`starter`), the ledger's rules (`absorb`), Dagster. Everything that matters is in the ledger, so a run that is killed
loses nothing: its syncs go on and are reported by whoever observes. Stopping a run, which ends it
at any of these steps, cancels no sync.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from adinsights_orchestration.clock import Clock, TickClock, utc_now
from adinsights_orchestration.ingestion import intents, ledger
from adinsights_orchestration.ingestion.absorb import absorb
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_errors import AirbyteError, ForbiddenError
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobType
from adinsights_orchestration.ingestion.deps import Deps, RegistryView, workspaces_of
from adinsights_orchestration.ingestion.intents import Intent, IntentState, Rules
from adinsights_orchestration.ingestion.job_feed import Limits
from adinsights_orchestration.ingestion.ledger import JobRow
from adinsights_orchestration.ingestion.manual import ask_for
from adinsights_orchestration.ingestion.outcomes import Progress, SyncOutcome, outcome
from adinsights_orchestration.ingestion.settle import Settled, Settler, read_job
from adinsights_orchestration.ingestion.starter import Starter
from adinsights_orchestration.ingestion.workspaces import read_changes
from adinsights_orchestration.tenants.model import Connection

POLL_SECONDS = 3.0
PATIENCE = timedelta(minutes=15)  # how long a run waits for an Airbyte that does not answer
_FIRST_RETRY = timedelta(seconds=10)  # a person waits: the first retry of a start comes sooner than a schedule's
_PROGRESS_SECONDS = 5.0
_MOST_REFUSALS = 6  # starts that were not taken; with delays from ten seconds on, some ten minutes
_FEW = 3  # up to so many jobs are read by id, more are listed
_STEP_SECONDS = 30.0
_LISTED_AT_ONCE = 1000


def sync_and_wait(
    deps: Deps,
    connections: Sequence[Connection],
    *,
    run_id: str,
    requested_by: str,
    job_type: JobType = JobType.SYNC,
    progress: Callable[[Progress], None] | None = None,
    clock: Clock = utc_now,
    poll_seconds: float = POLL_SECONDS,
) -> Iterator[SyncOutcome]:
    """Starts or adopts a sync of each connection and yields its outcome as soon as it is over.

    The caller reports an outcome that is `owned` and marks it (`ledger.mark_reported`) before it asks for the next one.

    Args:
        deps: What engines work with.
        connections: What to run; each at most once.
        run_id: The waiting run; asking again under the same id goes on with what it asked for before.
        requested_by: Who asked, for the audit log.
        job_type: `sync`, `refresh` or `clear`.
        progress: Told how far things are, every few seconds.
        clock: Our clock.
        poll_seconds: Pause between two looks at Airbyte.

    Yields:
        One outcome per connection.

    Raises:
        OpsStoreError: The ledger cannot be reached.
    """
    waiting = _Wait(deps, connections, run_id, requested_by, job_type, clock)
    with asyncio.Runner() as runner:
        try:
            waiting.ask()
            runner.run(waiting.open())
            while True:
                yield from waiting.told(runner.run(waiting.step()))
                waiting.tell(progress)
                if waiting.done:
                    return
                if waiting.out_of_patience():
                    break
                time.sleep(poll_seconds)
            yield from waiting.told(waiting.give_up())
        finally:
            try:
                runner.run(waiting.close())
            finally:
                waiting.release()


class _Wait:
    """One waiting run."""

    def __init__(
        self,
        deps: Deps,
        connections: Sequence[Connection],
        run_id: str,
        requested_by: str,
        job_type: JobType,
        clock: Clock,
    ) -> None:
        self._deps, self._run_id, self._requested_by, self._job_type = deps, run_id, requested_by, job_type
        self._connections = {one.connection_id: one for one in connections}
        self._clock = clock
        self._view = RegistryView(deps.registry)
        self._rng: random.Random = deps.rng()
        self._rules = _impatient(deps.rules)
        self._began = self._contact = self._read_up_to = clock()
        self._client: AirbyteApi | None = None
        self._workspaces: frozenset[UUID] | None = None
        self._open: list[Intent] = []
        self._told: dict[UUID, SyncOutcome] = {}
        self._problem = ""  # what stands in the way of everything
        self._settled = Settled()  # kept between steps: with it why a connection's jobs cannot be read
        self._progress_at = 0.0

    # ------------------------------------------------------------------------------------------------ beginning and end

    def ask(self) -> None:
        """Records what is wanted; everything else follows from that."""
        wanted = list(self._connections.values())
        with self._deps.store.begin() as connection:
            self._open = ask_for(
                connection,
                wanted,
                self._job_type,
                run_id=self._run_id,
                requested_by=self._requested_by,
                now=self._began,
            )
        oldest = [intent.posted_at for intent in self._open if intent.posted_at is not None]
        self._read_up_to = min([self._began, *oldest]) - timedelta(minutes=2)

    async def open(self) -> None:
        """Opens the client on the loop that everything runs on."""
        self._client = self._deps.api()
        self._client.hurry()
        await self._client.__aenter__()

    async def close(self) -> None:
        """Closes the client."""
        if self._client is not None:
            await self._client.__aexit__(None, None, None)

    @property
    def done(self) -> bool:
        """Whether every connection has its outcome."""
        return len(self._told) == len(self._connections)

    def told(self, outcomes: Sequence[SyncOutcome]) -> Iterator[SyncOutcome]:
        """Yields outcomes, remembering each before it is handed over: it may be reported from then on."""
        for one in outcomes:
            self._told[one.connection.connection_id] = one
            yield one

    def release(self) -> None:
        """Lets go of what is left; jobs that were handed over stay the run's own, since it may have reported them."""
        handed_over = [one.job.job_id for one in self._told.values() if one.owned and one.job is not None]
        with self._deps.store.begin() as connection:
            ledger.release_run(connection, self._run_id, self._clock(), keep=handed_over)

    def out_of_patience(self) -> bool:
        """Whether Airbyte has not answered, or not about any connection that is left, for too long."""
        problem = self._in_the_way()
        if not problem or self._clock() - self._contact < PATIENCE:
            return False
        self._problem = f"no answer from Airbyte for {PATIENCE.total_seconds() / 60:.0f} minutes ({problem})"
        return True

    def give_up(self) -> list[SyncOutcome]:
        """Ends the waiting: nothing more starts, and what runs goes on."""
        return self._outcomes(only_over=False, why=self._problem)

    # --------------------------------------------------------------------------------------------------------- one step

    async def step(self) -> list[SyncOutcome]:
        """Starts what may start, looks at what runs, and returns what is over now."""
        self._problem = ""
        try:
            await self._start()
            await self._follow()
        except AirbyteError as error:
            self._problem = str(error)
        if not self._problem and self._something_is_heard_of():
            self._contact = self._clock()
        return self._outcomes(only_over=True)

    def _in_the_way(self) -> str:
        """The problem to speak of: everybody's, else that of one connection whose jobs cannot be read."""
        return self._problem or next(iter(self._settled.unreadable.values()), "")

    def _something_is_heard_of(self) -> bool:
        """Whether anything is left that Airbyte speaks of: what it refuses to tell of one keeps nobody else short."""
        unreadable = self._settled.unreadable
        if not unreadable:
            return True
        return any(i.connection_id not in unreadable for i in self._intents() if not i.state.over)

    async def _start(self) -> None:
        now = self._clock()
        with self._deps.store.begin() as connection:
            ledger.follow_running(connection, self._run_id, now)
            ledger.keep_waiting(connection, self._run_id, now)
        if not any(intent.state is IntentState.PLANNED for intent in self._intents()):
            return
        starter = Starter(
            self._deps, self._api, TickClock(now, _STEP_SECONDS), self._view, self._run_id, rules=self._rules
        )
        started = await starter.run()
        self._problem = started.stopped or ""
        self._give_up_refused()

    def _give_up_refused(self) -> None:
        """A start that is refused again and again must not keep the others' run open for ever."""
        refused = [
            intents.abandoned(one, f"given up after {one.refusals} refusals: {one.last_error}")
            for one in self._intents()
            if one.state is IntentState.PLANNED and one.refusals >= _MOST_REFUSALS
        ]
        with self._deps.store.begin() as connection:
            ledger.apply_changes(connection, refused, self._clock())

    async def _follow(self) -> None:
        """Reads how the jobs are doing: a few by id, many by what changed."""
        mine = self._intents()
        running = {i.job_id: i for i in mine if i.state is IntentState.RUNNING and i.job_id is not None}
        lost = [i.connection_id for i in mine if i.state is IntentState.STARTING]
        for found in self._settled.unreadable.keys() - lost:
            del self._settled.unreadable[found]
        if len(running) <= _FEW:
            for job_id, intent in running.items():
                await self._follow_one(job_id, intent.connection_id)
        else:
            await self._read_changes()
        settler = Settler(self._deps, self._api, TickClock(self._clock(), _STEP_SECONDS), self._view, self._rng)
        own = {intent.id for intent in self._open}  # other people's lost starts are for the ticks
        await settler.lost_starts(self._settled, feed_shows_running_jobs=False, only=own)
        if running:
            await settler.unseen_jobs(self._settled, await self._where())

    async def _follow_one(self, job_id: int, connection_id: UUID) -> None:
        try:
            self._take_one(job_id, await read_job(self._api, job_id))
        except ForbiddenError as error:  # about this job alone: the others are followed to their end
            self._settled.unreadable[connection_id] = str(error)

    async def _where(self) -> frozenset[UUID]:
        if self._workspaces is None:
            self._workspaces = await workspaces_of(self._api, self._deps.settings, self._view)
        return self._workspaces

    async def _read_changes(self) -> None:
        workspaces = await self._where()
        overlap = timedelta(seconds=self._deps.settings.ingestion.observe_overlap_seconds)
        since = self._read_up_to - overlap
        reading = await read_changes(self._api, since, workspaces, self._known, Limits(_LISTED_AT_ONCE))
        if reading.refused:  # the others are read on; this run's own jobs there are waited for as long as for a silence
            self._problem = str(reading.why)
        harvest = reading.harvest
        self._take(harvest.jobs)
        self._read_up_to = max(self._read_up_to, min(harvest.reached, self._clock()))

    def _known(self, jobs: Sequence[AirbyteJob], detailed: bool) -> set[int]:
        with self._deps.store.begin() as connection:
            return ledger.nothing_new(connection, jobs, self._clock(), detailed=detailed)

    def _take_one(self, job_id: int, job: AirbyteJob | None) -> None:
        if job is None:
            with self._deps.store.begin() as connection:
                ledger.note_missing(connection, job_id, self._clock())
        self._take((job,) if job else ())

    def _take(self, jobs: Sequence[AirbyteJob]) -> None:
        now = self._clock()
        with self._deps.store.begin() as connection:
            absorb(connection, jobs, self._view, self._deps.rules, self._rng, now)

    # ----------------------------------------------------------------------------------------------------------- ledger

    @property
    def _api(self) -> AirbyteApi:
        assert self._client is not None
        return self._client

    def _intents(self) -> list[Intent]:
        """This run's intents of this kind, as the ledger has them."""
        ids = {intent.id for intent in self._open}
        with self._deps.store.begin() as connection:
            mine = ledger.intents_by_id(connection, ids)
        return [intent for intent in mine if intent.connection_id in self._connections]

    def _jobs(self, intents: Sequence[Intent]) -> dict[int, JobRow]:
        with self._deps.store.begin() as connection:
            return ledger.jobs_by_id(connection, {i.job_id for i in intents if i.job_id is not None})

    def _outcomes(self, *, only_over: bool, why: str = "") -> list[SyncOutcome]:
        untold = [i for i in self._intents() if i.connection_id not in self._told]
        new = [i for i in untold if i.state.over or not only_over]
        jobs = self._jobs(new)
        return [outcome(self._connections[i.connection_id], i, jobs.get(i.job_id or 0), self._run_id, why) for i in new]

    def tell(self, progress: Callable[[Progress], None] | None) -> None:
        """Reports progress, at most every few seconds."""
        if progress is None or (time.monotonic() - self._progress_at < _PROGRESS_SECONDS and not self.done):
            return
        self._progress_at = time.monotonic()
        mine = self._intents()
        states = [intent.state for intent in mine]
        good = sum(1 for one in self._told.values() if one.succeeded)
        progress(
            Progress(
                waiting=states.count(IntentState.PLANNED),
                starting=states.count(IntentState.STARTING),
                running=states.count(IntentState.RUNNING),
                succeeded=good,
                failed=len(self._told) - good,
                seconds=(self._clock() - self._began).total_seconds(),
                problem=self._in_the_way(),
                held=self._held([intent for intent in mine if intent.state is IntentState.PLANNED]),
            )
        )

    def _held(self, planned: Sequence[Intent]) -> str:
        """Why what is planned does not start, where Airbyte is not the reason."""
        if not planned or self._problem:
            return ""
        now = self._clock()
        with self._deps.store.begin() as connection:
            places = ledger.shares(connection, self._deps.bound, now).held(people=True)
        refused = [one for one in planned if one.last_error]
        if places or not refused:
            return places or "waiting for the job that runs for the connection already"
        first = min(refused, key=lambda one: one.not_before or now)
        return f"{first.last_error}; tried again at {first.not_before or now:%H:%M:%S} UTC"


def _impatient(rules: Rules) -> Rules:
    return replace(rules, retry=replace(rules.retry, base=min(rules.retry.base, _FIRST_RETRY)))
