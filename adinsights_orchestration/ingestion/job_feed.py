"""What changed in Airbyte since a moment, read in bulk and in the order in which it changed.

Belongs here: reading page after page so that no job is missed or read for ever, and which of the two APIs is asked.
Does not belong here: what is done with the jobs (`observe`), where the reader stands (`ledger`). Pages are found by the
moment of the last change, not by counting rows: a job that changes while pages are read moves to the end and would
shift every count. Only where more changed within one second than a page holds are rows counted: there each page begins
with the last row of the page before, and where it does not, that second is read again. The configuration API tells
changes of running jobs, failure reasons and statistics; where it does not answer, the public API tells what finished.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi, ListedJobs
from adinsights_orchestration.ingestion.airbyte_errors import AirbyteError, MalformedReplyError, PageRepeatsError
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobType

Fetch = Callable[[datetime, int], Awaitable[ListedJobs]]
Known = Callable[[Sequence[AirbyteJob], bool], Collection[int]]
_Mark = tuple[int, datetime | None]  # a job, as it last changed
_RESOLUTION = timedelta(seconds=1)  # Airbyte tells moments in whole seconds
_READ_AGAIN = 5  # times that one second is read again when its rows move; the overlap of the next tick is behind that
_ALL_PUBLIC_TYPES = (None, JobType.REFRESH, JobType.CLEAR)
# The public API takes workspaces in the request's first line, of which its server (Netty) reads 4,096 bytes: 36 of each
# id and 3 of each comma leave room for a hundred at most.
WORKSPACES_IN_ONE_LISTING = 80


@dataclass(frozen=True, slots=True)
class Harvest:
    """What a reading brought.

    Attributes:
        jobs: Every job that is not known yet, in its newest form.
        reached: Every change up to this moment was read.
        complete: Whether nothing was left to read.
        detailed: Whether the jobs carry attempts, reasons and statistics.
        problem: Why the configuration API was not used, or why reading stopped early.
    """

    jobs: tuple[AirbyteJob, ...]
    reached: datetime
    complete: bool
    detailed: bool
    problem: AirbyteError | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one reading takes: so many new jobs, and nothing new is asked for once `out_of_time` says so."""

    jobs: int
    out_of_time: Callable[[], bool] = field(default=lambda: False)


async def changed_since(
    api: AirbyteApi, start: datetime, workspaces: Collection[UUID], known: Known, limits: Limits
) -> Harvest:
    """Reads what changed at or after `start`.

    Args:
        api: The client.
        start: Airbyte's moment to begin at, inclusive.
        workspaces: Where to look.
        known: Returns the ids of jobs that need not be taken again; the flag says whether details are on offer.
        limits: How much to take.

    Raises:
        AirbyteError: Neither API could be read.
    """

    async def detailed(since: datetime, offset: int) -> ListedJobs:
        return await api.changes(since, workspaces, offset=offset)

    try:
        return await walk(detailed, start, known, limits, api.detailed_page_size, detailed=True)
    except AirbyteError as error:
        return await _public(api, start, workspaces, known, limits, error)


async def _public(
    api: AirbyteApi,
    start: datetime,
    workspaces: Iterable[UUID],
    known: Known,
    limits: Limits,
    reason: AirbyteError,
) -> Harvest:
    """The public API shows each kind of job in a listing of its own, and some workspaces at a time.

    Together they have come as far as the slowest.
    """
    parts = []
    for kind, portion in itertools.product(_ALL_PUBLIC_TYPES, in_portions(workspaces)):

        async def fetch(
            since: datetime, offset: int, kind: JobType | None = kind, portion: Sequence[UUID] = portion
        ) -> ListedJobs:
            return await api.public_changes(since, portion, kind, offset=offset)

        parts.append(await walk(fetch, start, known, limits, api.page_size, detailed=False))
    unfinished = [part.reached for part in parts if not part.complete]
    return Harvest(
        jobs=tuple({job.job_id: job for part in parts for job in part.jobs}.values()),
        reached=min(unfinished) if unfinished else max(part.reached for part in parts),
        complete=not unfinished,
        detailed=False,
        problem=reason,
    )


def in_portions(workspaces: Iterable[UUID]) -> list[Sequence[UUID]]:
    """Workspaces as the public API takes them: at most so many at a time, and one empty portion where none is named."""
    every = sorted(workspaces)
    starts = range(0, len(every), WORKSPACES_IN_ONE_LISTING)
    return [every[start : start + WORKSPACES_IN_ONE_LISTING] for start in starts] or [()]


class _Reading:
    """Where a walk stands: what it has, from which moment and row it reads on, and whether it still gets anywhere."""

    def __init__(self, start: datetime, known: Known, *, detailed: bool) -> None:
        self.since, self.offset, self.reached = start, 0, start
        self.jobs: dict[int, AirbyteJob] = {}
        self._known, self._detailed = known, detailed
        self._seen: set[_Mark] = set()
        self._idle_pages = 0
        self._last: _Mark | None = None  # with which the next page must begin, where rows are counted
        self._read_again = 0

    def take(self, page: ListedJobs) -> None:
        """Takes a page in."""
        marks = {_mark(job) for job in page.jobs}
        self._idle_pages = 0 if marks - self._seen else self._idle_pages + 1
        self._seen |= marks
        if page.jobs:
            passed_over = self._known(page.jobs, self._detailed)
            self.jobs |= {job.job_id: job for job in page.jobs if job.job_id not in passed_over}
        self.reached = max([self.reached, *(job.updated_at for job in page.jobs if job.updated_at)])

    def starts_over(self, page: ListedJobs) -> bool:
        """Whether rows before this page moved away since they were counted; their second is read anew then."""
        last, self._last = self._last, None
        begins_with_it = bool(page.jobs) and _mark(page.jobs[0]) == last
        if last is None or begins_with_it or self._read_again >= _READ_AGAIN:
            return False
        self.offset, self._read_again = 0, self._read_again + 1
        self._seen.clear()  # what is read again is no page that repeats
        return True

    def move_on(self, page: ListedJobs, page_size: int) -> None:
        """Chooses the next page. `PageRepeatsError` when two full pages in a row brought nothing."""
        if self._idle_pages >= 2:
            raise PageRepeatsError(
                "a listing of jobs gives the same page again",
                place="Airbyte jobs",
                next_step="The next tick tries again from there; look for a cache between here and Airbyte.",
            )
        moments = [job.updated_at for job in page.jobs if job.updated_at is not None]
        if moments and moments[0] < moments[-1]:
            self.since, self.offset, self._read_again = moments[-1], 0, 0
            return
        if moments and moments[-1] > self.since:  # the whole page lies in one second: go on behind it
            self.since, self.offset, self._read_again = moments[-1], 0, 0
        self.offset += page_size - 1
        self._last = _mark(page.jobs[-1])


def _mark(job: AirbyteJob) -> _Mark:
    return job.job_id, job.updated_at


async def walk(
    fetch: Fetch, start: datetime, known: Known, limits: Limits, page_size: int, *, detailed: bool
) -> Harvest:
    """Reads one listing from `start` on: `fetch` gives the page behind a moment and so many rows.

    Raises:
        MalformedReplyError: The listing is not filtered or not ordered as it was asked to be.
        AirbyteError: A page could not be read.
    """
    reading = _Reading(start, known, detailed=detailed)
    while True:
        page = await fetch(reading.since, reading.offset)
        _checked(page.jobs, reading.since)
        reading.take(page)
        starts_over = reading.starts_over(page)
        if not page.full and not starts_over:
            return _harvest(reading, complete=True, detailed=detailed)
        if len(reading.jobs) >= limits.jobs or limits.out_of_time():
            return _harvest(reading, complete=False, detailed=detailed)
        if starts_over:
            continue
        try:
            reading.move_on(page, page_size)
        except PageRepeatsError as error:
            return _harvest(reading, complete=False, detailed=detailed, problem=error)


def _harvest(reading: _Reading, *, complete: bool, detailed: bool, problem: AirbyteError | None = None) -> Harvest:
    return Harvest(tuple(reading.jobs.values()), reading.reached, complete, detailed, problem)


def _checked(jobs: Sequence[AirbyteJob], since: datetime) -> None:
    """A server that ignores the filter or the order would have us read all history, or miss what we look for."""
    moments = [job.updated_at for job in jobs if job.updated_at is not None]
    if any(moment < since - _RESOLUTION for moment in moments):
        raise MalformedReplyError("a listing ignores updatedAtStart", place="Airbyte jobs")
    if any(later < earlier for earlier, later in itertools.pairwise(moments)):
        raise MalformedReplyError("a listing ignores its order", place="Airbyte jobs")
