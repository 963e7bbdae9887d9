"""What becomes of a wish to sync: the state machine of one intent, as decisions over plain values.

Belongs here: which state follows which event, when to try again, when to give up. Does not belong here: storing it
(`ledger.intents`), asking Airbyte (`trigger`, `settle`). The machine never starts a second sync for a first one that
may have been started: only when it is certain that nothing happened, or when nothing can be found after the longest
time that Airbyte takes, does an intent become `planned` again.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from adinsights_orchestration.ingestion.airbyte_errors import (
    AirbyteError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    StateConflictError,
)
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, Failure, JobStatus, JobType
from adinsights_orchestration.ingestion.due import CLOCK_SKEW
from adinsights_orchestration.ingestion.retry import RetryPolicy

# Airbyte's START_MANUAL_SYNC_JOB_ID_WAIT_TIMEOUT: so long after a request may the job that it asked for appear.
SERVER_STARTS_WITHIN = timedelta(seconds=60)
# A request that did not leave so long after its claim is not sent any more: others may be looking for its job already.
SENT_WITHIN = timedelta(seconds=10)
# Kinds of failures that a second try cannot mend.
_NOT_WORTH_RETRYING = frozenset(("config_error", "manual_cancellation", "refresh_schema"))


class IntentState(StrEnum):
    """Where an intent stands."""

    PLANNED = "planned"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to the intent."""
        return self not in OPEN_STATES


OPEN_STATES = (IntentState.PLANNED, IntentState.STARTING, IntentState.RUNNING)


class Reason(StrEnum):
    """Why an intent exists."""

    SCHEDULE = "schedule"
    MANUAL = "manual"


class FindingKind(StrEnum):
    """What ingestion leaves for a person to look at."""

    NOT_ACTIVE = "connection_not_active"
    MISSING = "connection_missing"
    REFUSED = "start_refused"
    VANISHED = "job_vanished"
    UNKNOWN_CONNECTION = "unknown_connection"
    UNREADABLE = "connection_jobs_unreadable"
    WORKSPACE = "workspace_unreadable"
    CONFIG_API = "airbyte_config_api"


REFUSED_STARTS = (FindingKind.NOT_ACTIVE, FindingKind.MISSING, FindingKind.REFUSED)
# A start that Airbyte accepts shows that these are over.
CLEARED_BY_A_START = (*REFUSED_STARTS, FindingKind.UNREADABLE)


@dataclass(frozen=True, slots=True)
class Intent:
    """One wish to sync one connection, for one due slot or at one person's request.

    `attempt` counts jobs asked for, `refusals` the times since the last one that Airbyte did not take one.
    """

    id: int
    connection_id: UUID
    partition_key: str
    due_slot: datetime
    reason: Reason
    job_type: JobType
    state: IntentState
    attempt: int = 0
    refusals: int = 0
    job_id: int | None = None
    run_id: str | None = None
    not_before: datetime | None = None
    posted_at: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """An intent's next form, and the finding that goes with it. Applied only if nobody changed the intent first."""

    before: Intent
    after: Intent
    finding: FindingKind | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the decisions need to know beside the intent.

    Attributes:
        retry: When and how often to try again.
        request_timeout: How long a start's request may be under way.
    """

    retry: RetryPolicy
    request_timeout: timedelta

    @property
    def search_after(self) -> timedelta:
        """How long after a claim its request is certainly over, so that looking for its job makes sense."""
        return SENT_WITHIN + self.request_timeout + timedelta(seconds=5)

    @property
    def conclude_after(self) -> timedelta:
        """How long after a claim a job that cannot be found was certainly never made, clock skew included."""
        return SENT_WITHIN + self.request_timeout + SERVER_STARTS_WITHIN + CLOCK_SKEW


def matches(wanted: JobType, found: JobType) -> bool:
    """Whether a job of type `found` is what an intent for `wanted` asked for; a sync may become a refresh."""
    if wanted is JobType.SYNC:
        return found.brings_data
    if wanted is JobType.REFRESH:
        return found is JobType.REFRESH
    return not found.brings_data


def serves(intent: Intent, job: AirbyteJob) -> bool:
    """Whether the job does what the intent asked for, so that following it is as good as starting another.

    A person is served by any sync that runs; a slot only by one that was created for it: an earlier one may have read
    its data before the slot came.
    """
    early = intent.reason is Reason.SCHEDULE and job.created_at < intent.due_slot - CLOCK_SKEW
    return matches(intent.job_type, job.type) and not early


def accepted(intent: Intent, job_id: int) -> Change:
    """Airbyte took the start, or a job that serves the intent was found: the intent follows that job."""
    after = replace(intent, state=IntentState.RUNNING, job_id=job_id, refusals=0, not_before=None, last_error=None)
    return Change(intent, after)


def refused(intent: Intent, error: AirbyteError, rules: Rules, now: datetime, rng: random.Random) -> Change:
    """Airbyte did not take the start.

    A connection that is switched off or gone is given up for this slot. An Airbyte that is down or busy is asked again,
    however often: being refused uses up none of the attempts. When the server may have acted, the intent stays
    `starting` until its job is found, or certainly does not exist.
    """
    if not error.nothing_happened:
        return Change(intent, replace(intent, last_error=str(error)))
    if isinstance(error, StateConflictError):
        return _given_up(intent, error, FindingKind.NOT_ACTIVE)
    if isinstance(error, NotFoundError):
        return _given_up(intent, error, FindingKind.MISSING)
    hopeless = isinstance(error, InvalidRequestError | ForbiddenError)
    if hopeless and intent.refusals + 1 >= rules.retry.max_attempts:
        return _given_up(intent, error, FindingKind.REFUSED)
    hint = error.retry_after_seconds if isinstance(error, RateLimitedError) else None
    return _postponed(intent, str(error), rules, now, rng, hint)


def blocked(intent: Intent, jobs: Iterable[AirbyteJob], rules: Rules, now: datetime, rng: random.Random) -> Change:
    """Airbyte says that a job of the connection runs already: that one is followed if it serves the intent."""
    running = [job for job in jobs if not job.status.terminal]
    wanted = [job for job in running if serves(intent, job)]
    if wanted:
        return accepted(intent, max(job.job_id for job in wanted))
    what = f"job {running[0].job_id} ({running[0].type}) runs" if running else "a job runs that is not listed"
    return _postponed(intent, f"the connection is busy: {what}", rules, now, rng)


def searched(
    intent: Intent,
    jobs: Iterable[AirbyteJob],
    known: Collection[int],
    rules: Rules,
    now: datetime,
    rng: random.Random,
) -> Change | None:
    """The connection's jobs were listed because the reply to its start was lost.

    Args:
        intent: In state `starting`.
        jobs: The connection's newest jobs.
        known: Jobs that were seen before this start, or belong to other intents.
        rules: Times and retries.
        now: The moment of the listing.
        rng: For the delay.

    Returns:
        The change, or None while it is too early to tell.
    """
    assert intent.posted_at is not None
    since = intent.posted_at - CLOCK_SKEW
    wanted = [job for job in jobs if serves(intent, job) and job.job_id not in known]
    found = [job for job in wanted if not job.status.terminal or job.created_at >= since]
    if found:
        newest = max(found, key=lambda job: (not job.status.terminal, job.job_id))
        return accepted(intent, newest.job_id)
    if now - intent.posted_at < rules.conclude_after:
        return None
    return _postponed(intent, "the reply to its start was lost, and no job was made", rules, now, rng)


def finished(
    intent: Intent, status: JobStatus, failure: Failure | None, rules: Rules, now: datetime, rng: random.Random
) -> Change:
    """The intent's job is over: a failed scheduled sync is tried again while attempts are left and it may help."""
    if status is JobStatus.SUCCEEDED:
        return Change(intent, replace(intent, state=IntentState.SUCCEEDED, last_error=None))
    if status is JobStatus.CANCELLED:
        return Change(intent, replace(intent, state=IntentState.CANCELLED, last_error=_words(failure, "cancelled")))
    return _failed(intent, _words(failure, "failed"), failure.type if failure else None, rules, now, rng)


def vanished(intent: Intent, rules: Rules, now: datetime, rng: random.Random) -> Change:
    """Airbyte does not know the intent's job any more."""
    change = _failed(intent, f"job {intent.job_id} is gone from Airbyte", None, rules, now, rng)
    return replace(change, finding=FindingKind.VANISHED)


def abandoned(intent: Intent, why: str) -> Change:
    """The intent is not wanted any more."""
    return Change(intent, replace(intent, state=IntentState.ABANDONED, last_error=why))


def never_sent(intent: Intent) -> Change:
    """The intent was claimed but its request was not sent: it is as it was before."""
    assert intent.state is IntentState.STARTING
    return Change(intent, replace(intent, state=IntentState.PLANNED, attempt=intent.attempt - 1, posted_at=None))


def _failed(
    intent: Intent, why: str, failure_type: str | None, rules: Rules, now: datetime, rng: random.Random
) -> Change:
    hopeless = failure_type in _NOT_WORTH_RETRYING or intent.attempt >= rules.retry.max_attempts
    if hopeless or intent.reason is Reason.MANUAL:
        return Change(intent, replace(intent, state=IntentState.FAILED, last_error=why))
    again = now + rules.retry.delay(intent.attempt, rng)
    after = replace(intent, state=IntentState.PLANNED, job_id=None, posted_at=None, not_before=again, last_error=why)
    return Change(intent, after)


def _given_up(intent: Intent, error: AirbyteError, kind: FindingKind) -> Change:
    after = replace(intent, state=IntentState.ABANDONED, attempt=intent.attempt - 1, last_error=str(error))
    return Change(intent, after, kind)


def _postponed(
    intent: Intent, why: str, rules: Rules, now: datetime, rng: random.Random, hint_seconds: float | None = None
) -> Change:
    if intent.reason is Reason.MANUAL and intent.run_id is None:
        # The run that asked is over: started later, a clear would delete what nobody wants deleted any more.
        return Change(intent, replace(intent, state=IntentState.ABANDONED, last_error=f"{why}; nobody waits for it"))
    refusals = intent.refusals + 1
    delay = rules.retry.delay(refusals, rng)
    if hint_seconds is not None:
        delay = max(delay, timedelta(seconds=hint_seconds))
    after = replace(
        intent,
        state=IntentState.PLANNED,
        attempt=intent.attempt - 1,
        refusals=refusals,
        not_before=now + delay,
        posted_at=None,
        last_error=why,
    )
    return Change(intent, after)


def _words(failure: Failure | None, otherwise: str) -> str:
    return failure.message if failure else f"Airbyte says only: {otherwise}"
