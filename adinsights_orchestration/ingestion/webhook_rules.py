"""What the backend should be told about a finished job, and what an answer means: decisions only.

Belongs here: comparing a job with what the backend knows, the next step of a post, the reading of an answer. Does not
belong here: the ledger (`webhook_queue`), HTTP and the backend's table (`webhook`). The backend keeps one job per
connection and takes whatever it is posted, an older one too; so a post is made only while the backend is behind, and
whether an uncertain one arrived is read from the backend, never assumed. It also counts jobs, in its telemetry and its
audit log; so a sole sender owes it every one, and gives one up only when the backend takes others and not that one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from adinsights_orchestration.ingestion.airbyte_models import JobStatus
from adinsights_orchestration.ingestion.retry import RetryPolicy

# A post whose reply was lost may still be at work in the backend: longer than any request of it lives behind its
# workers' (30 s) and proxies' (60 s) timeouts. Only after this long does "still behind" mean "did not arrive".
SETTLE = timedelta(minutes=2)
# How far Airbyte's clock may be from the one that wrote the backend's row.
_CLOCK_SKEW = timedelta(minutes=2)
# A connection of which the backend cannot be told is looked at again after so long.
LOOK_AGAIN = timedelta(minutes=15)
# The backend was well at a moment if it took posts so shortly before it, and again after it.
WELL_WITHIN = timedelta(minutes=10)
# After so many posts in a row that were not taken, a round has met a backend in trouble, and not a job that is.
VAIN_POSTS = 3
# After a refused secret every post would be refused: one is tried each time this has passed, until one is taken.
AFTER_REFUSED_SECRET = timedelta(minutes=15)
_UNFINISHED = frozenset(status.value for status in JobStatus if not status.terminal)
_RETRIED_STATUSES = frozenset({408, 425, 429})
_SECRET_REFUSED = frozenset({401, 403})


class State(StrEnum):
    """How far the telling of a job is; the values of `webhook_post.state`."""

    POSTING = "posting"
    POSTED = "posted"
    NOT_NEEDED = "not_needed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A finished job of the ledger, and the attempts to tell the backend so far.

    `attempts` counts posts that may have arrived: only they are bounded. One that certainly did not arrive costs
    nobody anything, and a backend that was away for an hour must be told all the same. `tried_at` is when its state was
    last written, which for a job with attempts is after the last of them.
    """

    job_id: int
    connection_id: UUID
    tenant_id: UUID
    partition_key: str
    job_type: str
    status: str
    started_at: datetime
    ended_at: datetime
    rows_synced: int | None = None
    bytes_synced: int | None = None
    failure_message: str | None = None
    attempts: int = 0
    tried_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the backend's row of a connection says of its last job: the columns as text, and its last sign of life."""

    last_job_id: str
    last_job_status: str
    alive_at: datetime | None = None

    @property
    def unfinished(self) -> bool:
        """Whether the backend knows its last job only as started, so that no webhook of it has arrived."""
        return self.last_job_status.strip().lower() in _UNFINISHED

    @property
    def over_by(self) -> datetime | None:
        """When its last job was over at the latest. A job that began after that is a later one, whatever the ids."""
        return None if self.unfinished or self.alive_at is None else self.alive_at + _CLOCK_SKEW


class Told(StrEnum):
    """What the backend knows of a job."""

    BEHIND = "behind"  # an older job, or this one before it finished
    REACHED = "reached"  # this job, finished
    PASSED = "passed"  # a newer job
    UNREADABLE = "unreadable"  # its last job id is not a number
    MISSING = "missing"  # it has no such connection


class Step(StrEnum):
    """What to do about a job."""

    POST = "post"
    POSTED = "posted"
    NOT_NEEDED = "not_needed"
    UNREADABLE = "unreadable"
    MISSING = "missing"
    GIVE_UP = "give_up"


class Verdict(StrEnum):
    """What an answer to a post means."""

    TAKEN = "taken"
    SECRET_REFUSED = "secret_refused"  # noqa: S105
    UNKNOWN_CONNECTION = "unknown_connection"
    REFUSED = "refused"
    BUSY = "busy"  # not processed, and asked to come later
    UNREACHED = "unreached"  # certainly not arrived
    UNCERTAIN = "uncertain"


def told(job: FinishedJob, known: Known | None) -> Told:
    """Compares a job with the backend's row of its connection.

    Airbyte's job ids grow, and a connection runs one job at a time, so of two jobs of a connection the greater id is
    the later. Only an Airbyte that was set up anew, or restored from a backup, begins again with lower ones. The
    backend writes the id of a job that it starts itself before that job has finished.
    """
    if known is None:
        return Told.MISSING
    text = known.last_job_id.strip()
    if not text:
        return Told.BEHIND
    if not text.isdecimal():
        return Told.UNREADABLE
    if known.over_by is not None and known.over_by < job.started_at:
        return Told.BEHIND
    last = int(text)
    if last == job.job_id:
        return Told.BEHIND if known.unfinished else Told.REACHED
    return Told.BEHIND if last < job.job_id else Told.PASSED


def next_step(job: FinishedJob, known: Known | None, policy: RetryPolicy) -> Step:
    """Decides what to do about a job for which no post is under way."""
    match told(job, known):
        case Told.REACHED:
            return Step.POSTED if job.attempts else Step.NOT_NEEDED
        case Told.PASSED:
            return Step.NOT_NEEDED
        case Told.UNREADABLE:
            return Step.UNREADABLE
        case Told.MISSING:
            return Step.MISSING
        case Told.BEHIND:
            return Step.POST if job.attempts < policy.max_attempts else Step.GIVE_UP


def next_step_of_sole_sender(
    job: FinishedJob, known: Known | None, policy: RetryPolicy, since: datetime, *, others_taken: bool
) -> Step:
    """Decides the same for a sender that owes the backend every job.

    Args:
        job: The oldest job of its connection that is not settled.
        known: What the backend knows of the connection.
        policy: How often a post that may have arrived is repeated.
        since: From when on nobody else was to tell the backend.
        others_taken: Whether the backend took other connections' jobs around this one's last attempt.
    """
    step = next_step(job, known, policy)
    if step is Step.GIVE_UP and not others_taken:
        return Step.POST  # nothing shows that it is the job, and not the backend, that is in trouble
    # The backend started a newer job itself, before it heard of this one, which nobody else can have told it.
    overtaken = step is Step.NOT_NEEDED and told(job, known) is Told.PASSED and known is not None and known.unfinished
    return Step.POST if overtaken and not job.attempts and job.ended_at > since else step


@dataclass(frozen=True, slots=True)
class Settled:
    """Which jobs of a connection need no post by what the backend knows; a bound of None does not count.

    Attributes:
        job_id: The greatest id.
        ended_by: The last end.
        started_by: The last start.
    """

    job_id: int
    ended_by: datetime | None
    started_by: datetime | None


def settled_by(known: Known | None, since: datetime) -> Settled | None:
    """Returns which of a sole sender's jobs need no post; None where the backend knows nothing that settles any."""
    if known is None or not known.last_job_id.strip().isdecimal():
        return None
    last = int(known.last_job_id)
    return Settled(last - 1, since, None) if known.unfinished else Settled(last, None, known.over_by)


def superseded(step: Step) -> Step:
    """The step for a job of which a newer one of its connection is told instead.

    The backend remembers a connection's last job only. To post an older one would show it as the last until the newer
    one follows, and would write an audit row that says nothing the newer one's does not.
    """
    return step if step is Step.POSTED else Step.NOT_NEEDED


def verdict_on(status: int) -> Verdict:
    """Reads an HTTP status."""
    if 200 <= status < 300:
        return Verdict.TAKEN
    if status in _SECRET_REFUSED:
        return Verdict.SECRET_REFUSED
    if status == 404:
        return Verdict.UNKNOWN_CONNECTION
    if status in _RETRIED_STATUSES:
        return Verdict.BUSY
    # A 5xx may come from a proxy while the backend goes on with the request.
    return Verdict.UNCERTAIN if status >= 500 else Verdict.REFUSED


def try_again_at(job: FinishedJob, verdict: Verdict, now: datetime, policy: RetryPolicy) -> datetime:
    """When the backend may be asked again whether it has the job: base 2 with jitter; soon only if it was not taken in.

    Args:
        job: With the attempts so far, the one that was answered included.
        verdict: What came of that one.
        now: The moment of the answer.
        policy: Base, jitter.
    """
    delay = policy.delay(job.attempts, random.Random(f"{job.job_id}:{job.attempts}"))  # noqa: S311
    return now + (max(delay, SETTLE) if verdict in _MAY_STAY_SO else delay)


_MAY_STAY_SO = frozenset({Verdict.UNCERTAIN, Verdict.REFUSED, Verdict.UNKNOWN_CONNECTION})


def payload(job: FinishedJob) -> dict[str, Any]:
    """The body of a post: the job in the spellings of both of Airbyte's APIs, as the backend reads either."""
    started, ended = int(job.started_at.timestamp()), int(job.ended_at.timestamp())
    metrics = {
        "recordsCommitted": job.rows_synced,
        "bytesSynced": job.bytes_synced,
        "timeInMillis": max(ended - started, 0) * 1000,
    }
    told_job = {
        "id": job.job_id,
        "jobId": job.job_id,
        "connectionId": str(job.connection_id),
        "jobType": job.job_type,
        "status": job.status,
        "createdAt": started,
        "updatedAt": ended,
        "rowsSynced": job.rows_synced,
        "bytesSynced": job.bytes_synced,
        "error": job.failure_message,
        "attempts": [{"createdAt": started, "updatedAt": ended, "metrics": _said(metrics)}],
    }
    return {"connectionId": str(job.connection_id), "job": _said(told_job)}


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def by_connection(jobs: Iterable[FinishedJob]) -> dict[UUID, list[FinishedJob]]:
    """Groups jobs by connection, each oldest first."""
    grouped: dict[UUID, list[FinishedJob]] = {}
    for job in sorted(jobs, key=lambda job: job.job_id):
        grouped.setdefault(job.connection_id, []).append(job)
    return grouped
