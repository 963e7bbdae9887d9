"""An executor that runs no connector: syncs take as long, and end as, a function says.

Belongs here: slots, queueing and retries in simulated time. Does not belong here: real syncs (`connector_executor`).
It is a discrete-event simulation driven by the world's clock: nothing happens between requests, and each request first
lets everything happen that is due by then, at the very moment it was due. Thousands of jobs cost neither threads nor
timers.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from adinsights_orchestration.local.airbyte.fates import forced_failure, schema_breaks, stays_empty
from adinsights_orchestration.local.airbyte.model import (
    ConfigType,
    FailureReason,
    Job,
    JobStatus,
    StreamStats,
)
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

_BYTES_PER_RECORD = 256


@dataclass(frozen=True, slots=True)
class SimulatedAttempt:
    """How one attempt goes: how long it takes, what it moves, why it fails (None: it succeeds)."""

    duration: timedelta
    streams: tuple[StreamStats, ...] = ()
    failure: FailureReason | None = None


Script = Callable[[Job, int], SimulatedAttempt]


def steady(duration: timedelta, records: int = 100) -> Script:
    """Every attempt takes `duration` and moves `records` of each stream."""

    def attempt(job: Job, _: int) -> SimulatedAttempt:
        size = records * _BYTES_PER_RECORD
        streams = tuple(StreamStats(s.name, s.namespace, records, size, records, size) for s in job.streams)
        return SimulatedAttempt(duration, streams)

    return attempt


class SimulatedExecutor:
    """Carries jobs out in simulated time.

    Args:
        world: Whose jobs; the executor attaches itself.
        script: How each attempt (job, attempt number from 0) goes.
        slots: How many attempts run at once; further jobs stay `pending`, in order.
        retry_delay: How long a job stays `incomplete` between two attempts.
    """

    def __init__(
        self,
        world: AirbyteWorld,
        script: Script,
        *,
        slots: int = 1_000_000,
        retry_delay: timedelta = timedelta(seconds=10),
    ) -> None:
        self._world = world
        self._script = script
        self._slots = slots
        self._retry_delay = retry_delay
        self._waiting: deque[int] = deque()
        self._running: dict[int, SimulatedAttempt] = {}
        # (moment, tie-breaker, job id): the attempt's end when the job is running, its next attempt when incomplete
        self._events: list[tuple[datetime, int, int]] = []
        self._order = count()
        world.attach(self)

    def submitted(self, job: Job) -> None:
        """Queues the job and starts it at once when a slot is free."""
        self._waiting.append(job.id)
        self._fill(job.updated_at)

    def cancelled(self, job: Job) -> None:
        """Frees the job's slot."""
        if self._running.pop(job.id, None) is not None:
            self._fill(job.updated_at)

    def settle(self, now: datetime) -> None:
        """Lets everything happen that is due by `now`, in order."""
        while self._events and self._events[0][0] <= now:
            moment, _, job_id = heapq.heappop(self._events)
            job = self._world.jobs.get(job_id)
            if job.status is JobStatus.RUNNING and job_id in self._running:
                self._finish(job, moment)
            elif job.status is JobStatus.INCOMPLETE:
                self._waiting.append(job_id)
            self._fill(moment)

    def _finish(self, job: Job, moment: datetime) -> None:
        attempt = self._running.pop(job.id)
        after = self._world.end_attempt(job.id, moment, attempt.streams, attempt.failure)
        if after.status is JobStatus.INCOMPLETE:
            self._at(moment + self._retry_delay, job.id)

    def _fill(self, moment: datetime) -> None:
        while self._waiting and len(self._running) < self._slots:
            job = self._world.jobs.get(self._waiting.popleft())
            if not job.terminal:
                self._begin(job, moment)

    def _begin(self, job: Job, moment: datetime) -> None:
        number = self._world.begin_attempt(job.id, moment).number
        if job.config_type is ConfigType.SYNC and schema_breaks(self._world.knobs, job):
            self._world.break_schema(job.id, moment)
            return
        attempt = self._fate(job, number)
        self._running[job.id] = attempt
        self._at(moment + attempt.duration, job.id)

    def _fate(self, job: Job, number: int) -> SimulatedAttempt:
        attempt = self._script(job, number)
        failure = forced_failure(self._world.knobs, job)
        if failure is not None:
            return SimulatedAttempt(attempt.duration, (), failure)
        if stays_empty(self._world.knobs, job):
            return SimulatedAttempt(attempt.duration, tuple(StreamStats(s.name, s.namespace) for s in job.streams))
        return attempt

    def _at(self, moment: datetime, job_id: int) -> None:
        heapq.heappush(self._events, (moment, next(self._order), job_id))
