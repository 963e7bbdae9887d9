"""Starting what was claimed: one request per intent, many at once, the outcome of each recorded.

Belongs here: claiming in portions, sending, sorting out conflicts, recording. Does not belong here: what is claimed
(`trigger` for schedules, `wait` for a person), deciding what an outcome means (`intents`). The order is what makes it
safe: the claim is committed, then the request leaves, then its outcome is committed; a kill between any two of these
leaves an intent `starting`, which is looked into later and never simply sent again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion import intents
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_errors import (
    AirbyteDownError,
    AirbyteError,
    NoReplyError,
    NotAirbyteError,
    RateLimitedError,
    ServerError,
    SyncAlreadyRunningError,
    UnauthorizedError,
    out_of_time,
)
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobType
from adinsights_orchestration.ingestion.deps import Deps, RegistryView
from adinsights_orchestration.ingestion.intents import CLEARED_BY_A_START, Change, Intent, IntentState, Rules
from adinsights_orchestration.ingestion.ledger import (
    Placed,
    apply_changes,
    claim,
    clear_notes,
    hand_to_runs,
    open_notes,
    record_jobs,
    take_turn,
)

_PORTION = 10  # claims per worker at a time: few enough to be sent before their turn is over
_RECORD_EVERY = 25  # outcomes
_RECORD_AFTER_SECONDS = 1.0
# These concern Airbyte as a whole: what one request was told, the next would be told as well.
_ALL_ALIKE = (AirbyteDownError, UnauthorizedError, RateLimitedError, NotAirbyteError)
_PERHAPS_ALIKE = (NoReplyError, ServerError)


@dataclass(slots=True)
class Started:
    """What became of a round of starts.

    Attributes:
        started: Starts that made a job.
        followed: Starts that found a job running.
        postponed: Starts that were refused and are tried again later.
        given_up: Starts that will not happen.
        unanswered: Starts of which it is not known what became of them.
        unsent: Claims that were put back.
        stopped: Why the round ended early, or None.
        problem: What went wrong with Airbyte as a whole, whether or not the round ended early, or empty.
    """

    started: int = 0
    followed: int = 0
    postponed: int = 0
    given_up: int = 0
    unanswered: int = 0
    unsent: int = 0
    stopped: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one intent; `job` is what it follows now, `made` whether its own request started that job."""

    change: Change
    job: AirbyteJob | None = None
    made: bool = False


@dataclass
class Starter:
    """Sends the starts of one round.

    Args:
        deps: What engines work with.
        api: An open client.
        clock: The round's clock; nothing is sent that could not be answered within its budget.
        view: The registry.
        run_id: Start what this run asked for; None starts what no run waits for.
        may_start: Looks at an intent just before it is sent; a text is the reason why it must not be.
        rules: When to try again; the settings' when None.
    """

    deps: Deps
    api: AirbyteApi
    clock: TickClock
    view: RegistryView
    run_id: str | None = None
    may_start: Callable[[Intent], str | None] | None = None
    rules: Rules | None = None
    report: Started = field(default_factory=Started)

    def __post_init__(self) -> None:
        self._rules = self.rules or self.deps.rules
        self._rng: random.Random = self.deps.rng()
        self._queue: deque[Intent] = deque()
        self._outcomes: list[_Outcome] = []
        self._recorded_at = self.clock.elapsed()
        self._exhausted = False
        self._failures_in_a_row = 0
        self._under_way = 0
        self._defect: Exception | None = None

    async def run(self) -> Started:
        """Starts until nothing is ready, the bound is reached, the budget is used up, or Airbyte is not up to it.

        Raises:
            OpsStoreError: The ledger cannot be reached.
            Exception: What no worker expected, once what is known is recorded and what was not sent is put back.
        """
        workers = self.deps.settings.airbyte.max_concurrent_requests
        # A request that is cut off here stays `starting`: whether it arrived is looked into later.
        try:
            async with asyncio.timeout(self.clock.left()):
                await asyncio.gather(*(self._work() for _ in range(workers)))
        except TimeoutError:
            self.report.unanswered += self._under_way
            self.report.problem = out_of_time(self.clock.budget_seconds, self.api.trouble, "the next one goes on")
        finally:
            self._leave_nothing_claimed()
        if self._defect is not None:
            raise self._defect
        return self.report

    def _leave_nothing_claimed(self) -> None:
        """Apart from each other: an outcome that cannot be recorded must not keep the claims of a whole round."""
        try:
            self._return_unsent()
        finally:
            self._record()

    async def _work(self) -> None:
        """One worker. What it does not expect ends the round; the others still hear what they asked, then stop too."""
        try:
            await self._start_one_after_another()
        except Exception as error:  # noqa: BLE001  (raised again by `run`)
            self._defect = self._defect or error

    async def _start_one_after_another(self) -> None:
        while (intent := self._next()) is not None:
            self._under_way += 1
            outcome = await self._start(intent)  # first: recording puts a new list in place of the old one
            self._under_way -= 1
            self._outcomes.append(outcome)
            waited = self.clock.elapsed() - self._recorded_at
            if len(self._outcomes) >= _RECORD_EVERY or waited >= _RECORD_AFTER_SECONDS:
                self._record()

    # -------------------------------------------------------------------------------------------------- what comes next

    def _next(self) -> Intent | None:
        while not self._over():
            if not self._queue and not self._claim():
                return None
            intent = self._queue[0]
            if self.clock.now() - _posted(intent) > intents.SENT_WITHIN:
                self._return_unsent()
                continue
            why = self.may_start(intent) if self.may_start else None
            self._queue.popleft()
            if why is None:
                return intent
            self._outcomes.append(_Outcome(intents.abandoned(intent, why)))
        return None

    def _over(self) -> bool:
        """Whether no further request may be sent: no time is left for its answer, or Airbyte or we are not up to it."""
        if self._defect is not None or self.report.stopped is not None:
            return True
        answer_needs = self._rules.request_timeout.total_seconds()
        return self.clock.left() < min(answer_needs, self.clock.budget_seconds / 2)

    def _claim(self) -> bool:
        if self._exhausted:
            return False
        portion = _PORTION * self.deps.settings.airbyte.max_concurrent_requests
        with self.deps.store.begin() as connection:
            self._queue.extend(
                claim(connection, bound=self.deps.bound, limit=portion, now=self.clock.now(), run_id=self.run_id)
            )
        self._exhausted = len(self._queue) < portion
        return bool(self._queue)

    def _return_unsent(self) -> None:
        """Puts claims back whose request was not sent; they are as they were."""
        self._commit([_Outcome(intents.never_sent(intent)) for intent in self._queue])
        self.report.unsent += len(self._queue)
        self._queue.clear()

    # -------------------------------------------------------------------------------------------------------- one start

    async def _start(self, intent: Intent) -> _Outcome:
        try:
            job = await self._send(intent)
        except SyncAlreadyRunningError:
            return await self._follow(intent)
        except AirbyteError as error:
            self._weigh(error)
            return _Outcome(intents.refused(intent, error, self._rules, self.clock.now(), self._rng))
        self._failures_in_a_row = 0
        self.report.started += 1
        return _Outcome(intents.accepted(intent, job.job_id), job, made=True)

    async def _send(self, intent: Intent) -> AirbyteJob:
        """The one request of a start. A clear would cancel a running sync, so it waits until there is none."""
        if intent.job_type is JobType.SYNC:
            return await self.api.start(intent.connection_id, JobType.SYNC)
        if await self.api.running_job(intent.connection_id) is not None:
            raise SyncAlreadyRunningError("a job of the connection is not over", place=intent.partition_key)
        if intent.job_type is JobType.REFRESH:
            job = await self.api.refresh(intent.connection_id)
            if job is None:
                raise SyncAlreadyRunningError("a job of the connection is not over", place=intent.partition_key)
            return job
        return await self.api.start(intent.connection_id, JobType.CLEAR)

    async def _follow(self, intent: Intent) -> _Outcome:
        """Airbyte says that a job runs: finds it."""
        self._failures_in_a_row = 0
        now = self.clock.now()
        try:
            job = await self.api.running_job(intent.connection_id)
        except AirbyteError as error:
            self._weigh(error)
            return _Outcome(intents.refused(intent, error, self._rules, now, self._rng))
        change = intents.blocked(intent, [job] if job else [], self._rules, now, self._rng)
        self.report.followed += change.after.state is IntentState.RUNNING
        return _Outcome(change, job)

    def _weigh(self, error: AirbyteError) -> None:
        """Says what went wrong, and stops the round when it would go wrong for every other start as well."""
        if isinstance(error, (*_ALL_ALIKE, *_PERHAPS_ALIKE)):
            self.report.problem = str(error)
        self._failures_in_a_row += isinstance(error, _PERHAPS_ALIKE)
        many = self._failures_in_a_row >= self.deps.settings.airbyte.max_concurrent_requests
        if isinstance(error, _ALL_ALIKE) or many:
            self.report.stopped = self.report.stopped or str(error)

    # ---------------------------------------------------------------------------------------------------------- record

    def _record(self) -> None:
        """Commits the outcomes so far; those that could not be committed are kept for the round's end."""
        self._recorded_at = self.clock.elapsed()
        self._commit(self._outcomes)
        self._outcomes = []

    def _commit(self, outcomes: list[_Outcome]) -> None:
        """Intents, jobs and findings together."""
        if not outcomes:
            return
        now = self.clock.now()
        changes = [outcome.change for outcome in outcomes]
        with self.deps.store.begin() as connection:
            take_turn(connection)
            # The jobs come first: what follows an old job of the same id is not what this one's intent becomes.
            record_jobs(connection, [placed for one in outcomes if (placed := self._placed(one)) is not None], now)
            apply_changes(connection, changes, now)
            following = [c.after for c in changes if c.after.state is IntentState.RUNNING]
            hand_to_runs(connection, [one.id for one in following if one.run_id is not None])
            clear_notes(connection, CLEARED_BY_A_START, [one.partition_key for one in following], now)
            for change in changes:
                if change.finding is not None:
                    detail = {"connection_id": str(change.after.connection_id), "said": change.after.last_error}
                    open_notes(connection, change.finding, {change.after.partition_key: detail}, now)
        self._count(changes)

    def _placed(self, outcome: _Outcome) -> Placed | None:
        intent, job = outcome.change.after, outcome.job
        place = self.view.places.get(intent.connection_id)
        if job is None or place is None:
            return None
        return Placed(job, place, intent.id if outcome.made else None)

    def _count(self, changes: list[Change]) -> None:
        for change in changes:
            state = change.after.state
            self.report.given_up += state is IntentState.ABANDONED
            self.report.unanswered += state is IntentState.STARTING
            self.report.postponed += state is IntentState.PLANNED and change.after.refusals > change.before.refusals


def _posted(intent: Intent) -> datetime:
    assert intent.posted_at is not None
    return intent.posted_at
