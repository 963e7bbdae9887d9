"""Every job of a server, found by id, by connection, by state and by time without reading them all.

Belongs here: the order of jobs and the listing that both APIs share. Does not belong here: what changes a job
(`world`). A long-lived server holds many thousands of finished jobs and an orchestrator asks for the newest few every
second, so a listing starts from the smallest candidate set: one connection's jobs, the unfinished ones, or a window of
time.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal
from uuid import UUID

from adinsights_orchestration.local.airbyte.model import TERMINAL, ConfigType, Job, JobStatus, NotFoundError

_COMPACT_ABOVE = 1000


@dataclass(frozen=True, slots=True)
class JobQuery:
    """A listing: every filter that is set must hold; moments are inclusive."""

    connection_id: UUID | None = None
    workspace_ids: frozenset[UUID] | None = None
    config_types: frozenset[ConfigType] | None = None
    statuses: frozenset[JobStatus] | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    updated_from: datetime | None = None
    updated_to: datetime | None = None
    excluded_ids: frozenset[int] = frozenset()
    order_by: Literal["createdAt", "updatedAt"] = "createdAt"
    descending: bool = False
    limit: int = 20
    offset: int = 0

    @property
    def only_active(self) -> bool:
        """Whether no finished job can match."""
        return self.statuses is not None and self.statuses.isdisjoint(TERMINAL)

    def matches(self, job: Job) -> bool:
        """Whether the job passes every filter."""
        return (
            (self.connection_id is None or job.connection_id == self.connection_id)
            and (self.workspace_ids is None or job.workspace_id in self.workspace_ids)
            and (self.config_types is None or job.config_type in self.config_types)
            and (self.statuses is None or job.status in self.statuses)
            and _within(job.created_at, self.created_from, self.created_to)
            and _within(job.updated_at, self.updated_from, self.updated_to)
            and job.id not in self.excluded_ids
        )


class JobIndex:
    """The jobs of a server. Not thread-safe: the world's lock guards it."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._ids: list[int] = []
        self._by_connection: dict[UUID, list[int]] = defaultdict(list)
        self._active: dict[int, Job] = {}
        self._running: dict[UUID, int] = {}
        # Append-only record of changes, (updated_at, job id, revision); an entry whose revision is old is skipped.
        self._changes: list[tuple[datetime, int, int]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    @property
    def last_id(self) -> int:
        """The highest job id so far; 0 when there is none."""
        return self._ids[-1] if self._ids else 0

    def get(self, job_id: int) -> Job:
        """Returns the job; `NotFoundError` when there is none."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError("job", job_id)
        return job

    def add(self, job: Job) -> None:
        """Takes in a job; ids must come in ascending order."""
        self._jobs[job.id] = job
        self._ids.append(job.id)
        self._by_connection[job.connection_id].append(job.id)
        self.changed(job)

    def changed(self, job: Job) -> None:
        """Takes note of the job's new state and `updated_at`."""
        job.revision += 1
        entry = (job.updated_at, job.id, job.revision)
        if self._changes and entry < self._changes[-1]:
            bisect.insort(self._changes, entry)
        else:
            self._changes.append(entry)
        if job.terminal:
            self._active.pop(job.id, None)
            if self._running.get(job.connection_id) == job.id:
                del self._running[job.connection_id]
        else:
            self._active[job.id] = job
            self._running[job.connection_id] = job.id
        if len(self._changes) > 2 * len(self._jobs) + _COMPACT_ABOVE:
            self._changes = [entry for entry in self._changes if self._current(entry)]

    def active(self) -> list[Job]:
        """Every job that is not finished, oldest first."""
        return [self._active[job_id] for job_id in sorted(self._active)]

    def running(self, connection_id: UUID) -> Job | None:
        """The connection's unfinished job."""
        job_id = self._running.get(connection_id)
        return None if job_id is None else self._jobs[job_id]

    def of_connection(self, connection_id: UUID) -> list[Job]:
        """Every job of the connection, oldest first."""
        return [self._jobs[job_id] for job_id in self._by_connection.get(connection_id, ())]

    def page(self, query: JobQuery) -> list[Job]:
        """Returns one page of the listing."""
        candidates, order = self._candidates(query)
        matching: Iterable[Job] = filter(query.matches, candidates)
        if order != query.order_by:
            matching = sorted(matching, key=_KEYS[query.order_by], reverse=query.descending)
        return list(islice(matching, query.offset, query.offset + query.limit))

    def count(self, query: JobQuery) -> int:
        """How many jobs match, on all pages."""
        return sum(1 for job in self._candidates(query)[0] if query.matches(job))

    def _candidates(self, query: JobQuery) -> tuple[Iterable[Job], str]:
        """The smallest set that holds every match, and the order it comes in (in the query's direction)."""
        if query.connection_id is not None:
            return self._by_id(self._by_connection.get(query.connection_id, []), query), "createdAt"
        if query.only_active:
            return self._by_id(sorted(self._active), query), "createdAt"
        if query.order_by == "updatedAt" or query.updated_from or query.updated_to:
            return self._by_change(query), "updatedAt"
        return self._by_id(self._ids[self._first_created(query.created_from) :], query), "createdAt"

    def _by_id(self, ids: list[int], query: JobQuery) -> Iterator[Job]:
        return map(self._jobs.__getitem__, reversed(ids) if query.descending else ids)

    def _by_change(self, query: JobQuery) -> Iterator[Job]:
        start = bisect.bisect_left(self._changes, query.updated_from, key=_moment) if query.updated_from else 0
        end = bisect.bisect_right(self._changes, query.updated_to, key=_moment) if query.updated_to else None
        window = self._changes[start:end]
        for entry in reversed(window) if query.descending else window:
            if self._current(entry):
                yield self._jobs[entry[1]]

    def _first_created(self, moment: datetime | None) -> int:
        if moment is None:
            return 0
        return bisect.bisect_left(self._ids, moment, key=lambda job_id: self._jobs[job_id].created_at)

    def _current(self, entry: tuple[datetime, int, int]) -> bool:
        return self._jobs[entry[1]].revision == entry[2]


def _moment(entry: tuple[datetime, int, int]) -> datetime:
    return entry[0]


_KEYS: dict[str, Callable[[Job], tuple[datetime, int]]] = {
    "createdAt": lambda job: (job.created_at, job.id),
    "updatedAt": lambda job: (job.updated_at, job.id),
}


def _within(moment: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or moment >= start) and (end is None or moment <= end)
