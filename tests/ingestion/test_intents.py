"""The state machine of an intent: each event, and any order of events against a server that loses replies."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adinsights_orchestration.ingestion import intents
from adinsights_orchestration.ingestion.airbyte_errors import (
    AirbyteDownError,
    AirbyteError,
    ForbiddenError,
    InvalidRequestError,
    NoReplyError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    StateConflictError,
    UnauthorizedError,
)
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, Failure, JobStatus, JobType
from adinsights_orchestration.ingestion.intents import (
    Change,
    FindingKind,
    Intent,
    IntentState,
    Reason,
    Rules,
)
from adinsights_orchestration.ingestion.retry import RetryPolicy

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
RULES = Rules(RetryPolicy(jitter=0.0), request_timeout=timedelta(seconds=15))
CONNECTION = uuid4()
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def intent(**changes: Any) -> Intent:
    """A scheduled intent whose request has just been sent."""
    plain = Intent(
        id=1,
        connection_id=CONNECTION,
        partition_key="acme/meta-1",
        due_slot=NOW,
        reason=Reason.SCHEDULE,
        job_type=JobType.SYNC,
        state=IntentState.STARTING,
        attempt=1,
        posted_at=NOW,
    )
    return replace(plain, **changes)


def job(number: int = 7, status: JobStatus = JobStatus.RUNNING, **changes: Any) -> AirbyteJob:
    plain = AirbyteJob(number, CONNECTION, JobType.SYNC, status, NOW)
    return replace(plain, **changes)


def rng() -> random.Random:
    return random.Random(0)


def refused(error: AirbyteError, **changes: Any) -> Change:
    return intents.refused(intent(**changes), error, RULES, NOW, rng())


# ------------------------------------------------------------------------------------------------------------- starting


@pytest.mark.parametrize("kind", [JobType.SYNC, JobType.REFRESH, JobType.CLEAR])
def test_a_start_that_nobody_waits_for_any_more_is_given_up_and_never_sent_later(kind: JobType) -> None:
    orphan = {"reason": Reason.MANUAL, "job_type": kind, "run_id": None}
    change = refused(AirbyteDownError("down"), **orphan)
    assert change.after.state is IntentState.ABANDONED
    assert "nobody waits" in (change.after.last_error or "")
    waited_for = refused(AirbyteDownError("down"), **(orphan | {"run_id": "a run"}))
    assert waited_for.after.state is IntentState.PLANNED


def test_a_start_that_was_taken_follows_its_job() -> None:
    change = intents.accepted(intent(refusals=3, last_error="busy"), 7)
    assert (change.after.state, change.after.job_id, change.after.refusals) == (IntentState.RUNNING, 7, 0)
    assert change.after.last_error is None


@pytest.mark.parametrize("error", [NoReplyError("lost"), ServerError("500")])
def test_a_start_that_may_have_happened_stays_starting(error: AirbyteError) -> None:
    change = refused(error)
    assert change.after.state is IntentState.STARTING
    assert change.after.posted_at == NOW
    assert change.after.attempt == 1


@pytest.mark.parametrize("error", [AirbyteDownError("down"), RateLimitedError("429"), UnauthorizedError("401")])
def test_an_airbyte_that_is_down_or_busy_uses_up_no_attempt_however_often(error: AirbyteError) -> None:
    change = refused(error, attempt=1, refusals=40)
    assert change.after.state is IntentState.PLANNED
    assert (change.after.attempt, change.after.refusals) == (0, 41)
    assert change.after.posted_at is None


def test_refusals_are_asked_again_after_growing_delays() -> None:
    waits = [refused(AirbyteDownError("down"), refusals=n).after.not_before for n in range(4)]
    assert [w - NOW if w else None for w in waits] == [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]


def test_a_time_that_the_server_names_is_waited_for() -> None:
    change = refused(RateLimitedError("429", retry_after_seconds=600))
    assert change.after.not_before == NOW + timedelta(seconds=600)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StateConflictError("Could not fulfill request"), FindingKind.NOT_ACTIVE),
        (NotFoundError("no such connection"), FindingKind.MISSING),
    ],
)
def test_a_connection_that_is_off_or_gone_is_given_up_for_this_slot_with_a_finding(
    error: AirbyteError, kind: FindingKind
) -> None:
    change = refused(error)
    assert change.after.state is IntentState.ABANDONED
    assert change.finding is kind
    assert change.after.last_error == str(error)


@pytest.mark.parametrize("error", [InvalidRequestError("422"), ForbiddenError("403")])
def test_what_airbyte_does_not_accept_is_given_up_after_as_many_refusals_as_attempts(error: AirbyteError) -> None:
    assert refused(error, refusals=3).after.state is IntentState.PLANNED
    last = refused(error, refusals=4)
    assert (last.after.state, last.finding) == (IntentState.ABANDONED, FindingKind.REFUSED)


def test_a_connection_that_runs_already_is_followed() -> None:
    change = intents.blocked(intent(), [job(9), job(8, JobStatus.SUCCEEDED)], RULES, NOW, rng())
    assert (change.after.state, change.after.job_id) == (IntentState.RUNNING, 9)


def test_a_sync_that_was_begun_before_the_slot_is_let_end_and_the_slot_gets_its_own() -> None:
    begun = job(9, created_at=NOW - 20 * MINUTE)
    change = intents.blocked(intent(), [begun], RULES, NOW, rng())
    assert (change.after.state, change.after.refusals) == (IntentState.PLANNED, 1)
    assert "job 9 (sync) runs" in str(change.after.last_error)
    assert intents.searched(intent(), [begun], (), RULES, NOW + MINUTE, rng()) is None


def test_a_person_is_served_by_a_sync_that_runs_already_whenever_it_was_begun() -> None:
    begun = job(9, created_at=NOW - 20 * MINUTE)
    change = intents.blocked(intent(reason=Reason.MANUAL, run_id="a-run"), [begun], RULES, NOW, rng())
    assert (change.after.state, change.after.job_id) == (IntentState.RUNNING, 9)


def test_a_sync_does_not_follow_a_clear_but_waits_for_its_end() -> None:
    change = intents.blocked(intent(), [job(9, type=JobType.CLEAR)], RULES, NOW, rng())
    assert change.after.state is IntentState.PLANNED
    assert "job 9 (clear)" in str(change.after.last_error)


def test_a_conflict_without_a_running_job_is_asked_again_later() -> None:
    change = intents.blocked(intent(), [], RULES, NOW, rng())
    assert (change.after.state, change.after.refusals) == (IntentState.PLANNED, 1)


def test_a_claim_that_was_not_sent_is_as_it_was_before() -> None:
    after = intents.never_sent(intent(attempt=3, refusals=2)).after
    assert (after.state, after.attempt, after.refusals, after.posted_at) == (IntentState.PLANNED, 2, 2, None)


# --------------------------------------------------------------------------------------------------------- lost replies


def searched(jobs: list[AirbyteJob], known: set[int], passed: timedelta, **changes: Any) -> Change | None:
    return intents.searched(intent(**changes), jobs, known, RULES, NOW + passed, rng())


def test_a_lost_starts_job_is_found_among_the_connections_newest() -> None:
    change = searched([job(7, JobStatus.SUCCEEDED)], set(), MINUTE)
    assert change is not None
    assert change.after.job_id == 7


def test_a_running_job_is_preferred_to_a_finished_one() -> None:
    change = searched([job(9, JobStatus.FAILED), job(7)], set(), MINUTE)
    assert change is not None
    assert change.after.job_id == 7


def test_jobs_that_were_known_before_or_that_are_older_are_not_taken_for_it() -> None:
    old = job(6, JobStatus.SUCCEEDED, created_at=NOW - timedelta(minutes=5))
    assert searched([job(5, JobStatus.SUCCEEDED), old], {5}, MINUTE) is None


def test_an_airbyte_clock_that_is_a_minute_behind_does_not_hide_the_job() -> None:
    assert searched([job(7, JobStatus.SUCCEEDED, created_at=NOW - 59 * SECOND)], set(), MINUTE) is not None


def test_it_is_not_concluded_that_no_job_was_made_while_airbyte_may_still_make_it() -> None:
    latest = RULES.conclude_after
    assert latest >= timedelta(seconds=10 + 15 + 60 + 60)  # claimed, under way, Airbyte's own wait, clock skew
    assert searched([], set(), latest - SECOND) is None
    change = searched([], set(), latest)
    assert change is not None
    assert (change.after.state, change.after.attempt, change.after.refusals) == (IntentState.PLANNED, 0, 1)


def test_a_clear_that_was_lost_is_not_mistaken_for_a_sync() -> None:
    assert searched([job(7)], set(), MINUTE, job_type=JobType.CLEAR) is None
    assert searched([job(7, type=JobType.RESET)], set(), MINUTE, job_type=JobType.CLEAR) is not None


def test_a_sync_may_become_a_refresh_and_a_refresh_must_be_one() -> None:
    assert intents.matches(JobType.SYNC, JobType.REFRESH)
    assert not intents.matches(JobType.REFRESH, JobType.SYNC)
    assert intents.matches(JobType.CLEAR, JobType.RESET)
    assert not intents.matches(JobType.SYNC, JobType.CLEAR)


# ---------------------------------------------------------------------------------------------------------------- ended


def ended(status: JobStatus, failure: Failure | None = None, **changes: Any) -> Change:
    running = intent(state=IntentState.RUNNING, job_id=7, **changes)
    return intents.finished(running, status, failure, RULES, NOW, rng())


def test_a_failed_sync_is_tried_again_after_a_growing_delay_until_its_attempts_are_used_up() -> None:
    reason = Failure("source", "transient_error", "The platform is busy.")
    for attempt, wait in ((1, MINUTE), (2, 2 * MINUTE), (4, 8 * MINUTE)):
        after = ended(JobStatus.FAILED, reason, attempt=attempt).after
        assert (after.state, after.not_before) == (IntentState.PLANNED, NOW + wait)
        assert (after.job_id, after.last_error) == (None, "The platform is busy.")
    assert ended(JobStatus.FAILED, reason, attempt=5).after.state is IntentState.FAILED


@pytest.mark.parametrize("kind", ["config_error", "manual_cancellation", "refresh_schema"])
def test_what_a_second_try_cannot_mend_is_not_tried_again(kind: str) -> None:
    assert ended(JobStatus.FAILED, Failure("source", kind, "no")).after.state is IntentState.FAILED


def test_a_failure_of_which_nothing_is_known_is_tried_again() -> None:
    after = ended(JobStatus.FAILED).after
    assert after.state is IntentState.PLANNED
    assert after.last_error == "Airbyte says only: failed"


def test_a_cancelled_sync_is_somebodys_decision() -> None:
    assert ended(JobStatus.CANCELLED).after.state is IntentState.CANCELLED


def test_a_person_hears_of_a_failure_at_once() -> None:
    assert ended(JobStatus.FAILED, reason=Reason.MANUAL).after.state is IntentState.FAILED


def test_a_job_that_vanished_is_a_finding_and_tried_again() -> None:
    running = intent(state=IntentState.RUNNING, job_id=7)
    change = intents.vanished(running, RULES, NOW, rng())
    assert (change.after.state, change.finding) == (IntentState.PLANNED, FindingKind.VANISHED)
    assert change.after.last_error == "job 7 is gone from Airbyte"


# -------------------------------------------------------------------------------------------------- any order of events


@dataclass
class Server:
    """A model of Airbyte for one connection: at most one job at a time, replies that get lost, late starts."""

    jobs: list[AirbyteJob] = field(default_factory=list)
    late: list[datetime] = field(default_factory=list)

    @property
    def running(self) -> AirbyteJob | None:
        return next((one for one in self.jobs if not one.status.terminal), None)

    def start(self, now: datetime) -> AirbyteJob | None:
        if self.running is not None:
            return None
        made = AirbyteJob(len(self.jobs) + 1, CONNECTION, JobType.SYNC, JobStatus.RUNNING, now)
        self.jobs.append(made)
        return made

    def end(self, status: JobStatus) -> None:
        self.jobs = [one if one.status.terminal else replace(one, status=status) for one in self.jobs]

    def happen(self, now: datetime) -> None:
        """Requests that Airbyte took and works on only now."""
        due = [moment for moment in self.late if moment <= now]
        self.late = [moment for moment in self.late if moment > now]
        for moment in due:
            self.start(moment)


# A late job is the hardest to get right, so it comes up most.
FATES = ("late", "late", "late", "answered", "reply lost", "down", "killed before", "killed after")


class AnyOrder(RuleBasedStateMachine):
    """Claims, sends, kills, searches and observes in any order; counts the jobs that the slot got."""

    def __init__(self) -> None:
        super().__init__()
        self.server, self.now, self.rng = Server(), NOW, random.Random(1)
        self.intent = intent(state=IntentState.PLANNED, attempt=0, posted_at=None)
        self.asked = 0
        self.known: dict[int, datetime] = {}
        self.mine: set[int] = set()

    def apply(self, change: Change) -> None:
        """The ledger's compare-and-set: what was changed meanwhile stays."""
        if (change.before.state, change.before.attempt) == (self.intent.state, self.intent.attempt):
            self.intent = change.after
            if change.after.job_id is not None:
                self.mine.add(change.after.job_id)

    def claim(self) -> Intent | None:
        waits = self.intent.not_before is not None and self.intent.not_before > self.now
        if self.intent.state is not IntentState.PLANNED or waits:
            return None
        self.intent = replace(
            self.intent, state=IntentState.STARTING, attempt=self.intent.attempt + 1, posted_at=self.now
        )
        return self.intent

    @rule(seconds=st.sampled_from([35, 61, 160]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.server.happen(self.now)

    @rule(fate=st.sampled_from(FATES))
    def a_start(self, fate: str) -> None:
        claimed = self.claim()
        if claimed is None or fate == "killed before":
            return
        if fate == "down":
            self.apply(intents.refused(claimed, AirbyteDownError("down"), RULES, self.now, self.rng))
            return
        if fate == "late":  # Airbyte answers nothing and makes the job up to a minute later
            self.server.late.append(self.now + timedelta(seconds=59))
            self.apply(intents.refused(claimed, NoReplyError("timeout"), RULES, self.now, self.rng))
            return
        made = self.server.start(self.now)
        if fate == "killed after":
            return
        if fate == "reply lost":
            self.apply(intents.refused(claimed, NoReplyError("lost"), RULES, self.now, self.rng))
        elif made is None:
            self.apply(intents.blocked(claimed, self.server.jobs, RULES, self.now, self.rng))
        else:
            self.apply(intents.accepted(claimed, made.job_id))

    @precondition(lambda self: self.intent.state is IntentState.STARTING)
    @rule()
    def a_search(self) -> None:
        posted = self.intent.posted_at
        assert posted is not None
        if self.now - posted < RULES.search_after:
            return
        known = {number for number, seen in self.known.items() if seen < posted}
        change = intents.searched(self.intent, self.server.jobs, known, RULES, self.now, self.rng)
        if change is not None:
            self.apply(change)

    @precondition(lambda self: self.server.running is not None)
    @rule(status=st.sampled_from([JobStatus.SUCCEEDED, JobStatus.SUCCEEDED, JobStatus.FAILED]))
    def a_job_ends(self, status: JobStatus) -> None:
        self.server.end(status)

    @rule()
    def an_observation(self) -> None:
        for one in self.server.jobs:
            self.known.setdefault(one.job_id, self.now)
        followed = next((one for one in self.server.jobs if one.job_id == self.intent.job_id), None)
        if self.intent.state is IntentState.RUNNING and followed is not None and followed.status.terminal:
            self.apply(intents.finished(self.intent, followed.status, None, RULES, self.now, self.rng))

    @invariant()
    def never_more_jobs_than_failures_and_one(self) -> None:
        """Every job but the last one failed: a success is never followed by another start."""
        assert all(one.status is JobStatus.FAILED for one in self.server.jobs[:-1])

    @invariant()
    def never_more_jobs_than_attempts(self) -> None:
        assert len(self.server.jobs) <= RULES.retry.max_attempts
        assert 0 <= self.intent.attempt <= RULES.retry.max_attempts

    @invariant()
    def a_success_is_never_forgotten(self) -> None:
        if self.intent.state is IntentState.SUCCEEDED:
            assert self.server.jobs[-1].status is JobStatus.SUCCEEDED

    def teardown(self) -> None:
        """Left alone with a healthy server, the intent always comes to an end."""
        for _ in range(60):
            self.time_passes(200)
            if self.intent.state.over:
                break
            self.a_search() if self.intent.state is IntentState.STARTING else self.a_start("answered")
            self.server.end(JobStatus.SUCCEEDED)
            self.an_observation()
        assert self.intent.state in (IntentState.SUCCEEDED, IntentState.FAILED)
        self.never_more_jobs_than_failures_and_one()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=800, stateful_step_count=15, deadline=None)
