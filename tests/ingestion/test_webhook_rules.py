"""Decisions about telling the backend, without a backend."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.ingestion.retry import RetryPolicy
from adinsights_orchestration.ingestion.webhook_rules import (
    SETTLE,
    FinishedJob,
    Known,
    Step,
    Told,
    Verdict,
    by_connection,
    next_step,
    next_step_of_sole_sender,
    payload,
    settled_by,
    superseded,
    told,
    try_again_at,
    verdict_on,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=5)
JOB = FinishedJob(
    job_id=100,
    connection_id=UUID(int=1),
    tenant_id=UUID(int=2),
    partition_key="acme/meta",
    job_type="sync",
    status="succeeded",
    started_at=NOW - timedelta(minutes=5),
    ended_at=NOW,
)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (None, Told.MISSING),
        (Known("", ""), Told.BEHIND),
        (Known("99", "succeeded"), Told.BEHIND),
        (Known("9", "failed"), Told.BEHIND),
        (Known(" 100 ", "succeeded"), Told.REACHED),
        (Known("100", "cancelled"), Told.REACHED),
        (Known("100", ""), Told.REACHED),
        (Known("100", "Running"), Told.BEHIND),
        (Known("100", "pending"), Told.BEHIND),
        (Known("101", "pending"), Told.PASSED),
        (Known("1000", "succeeded"), Told.PASSED),
        (Known("sync-7", "succeeded"), Told.UNREADABLE),
        (Known("-1", "succeeded"), Told.UNREADABLE),
        # An Airbyte that was restored gives ids again: what was over before this job began is older.
        (Known("1000", "succeeded", JOB.started_at - timedelta(minutes=3)), Told.BEHIND),
        (Known("100", "succeeded", JOB.started_at - timedelta(minutes=3)), Told.BEHIND),
        (Known("1000", "succeeded", JOB.started_at - timedelta(minutes=1)), Told.PASSED),
        (Known("1000", "pending", JOB.started_at - timedelta(minutes=3)), Told.PASSED),
        (Known("100", "succeeded", JOB.ended_at), Told.REACHED),
    ],
)
def test_what_the_backend_knows_of_a_job(known: Known | None, expected: Told) -> None:
    assert told(JOB, known) is expected


@pytest.mark.parametrize(
    ("attempts", "known", "expected"),
    [
        (0, Known("99", ""), Step.POST),
        (4, Known("99", ""), Step.POST),
        (5, Known("99", ""), Step.GIVE_UP),
        (0, Known("100", "succeeded"), Step.NOT_NEEDED),
        (1, Known("100", "succeeded"), Step.POSTED),
        (5, Known("100", "succeeded"), Step.POSTED),
        (1, Known("101", "succeeded"), Step.NOT_NEEDED),
        (0, None, Step.MISSING),
        (0, Known("x", ""), Step.UNREADABLE),
    ],
)
def test_the_next_step_of_a_job(attempts: int, known: Known | None, expected: Step) -> None:
    assert next_step(replace(JOB, attempts=attempts), known, POLICY) is expected


@given(st.integers(0, 10**12), st.integers(0, 6))
def test_a_post_is_made_only_while_the_backend_is_behind(last: int, attempts: int) -> None:
    step = next_step(replace(JOB, attempts=attempts), Known(str(last), "succeeded"), POLICY)
    assert (step in (Step.POST, Step.GIVE_UP)) == (last < JOB.job_id)


@pytest.mark.parametrize(
    ("attempts", "ended_after_taking_over", "known", "others_taken", "expected"),
    [
        (0, True, Known("99", "succeeded"), False, Step.POST),
        (5, True, Known("99", "succeeded"), False, Step.POST),  # nobody's post is taken: the backend is away
        (5, True, Known("99", "succeeded"), True, Step.GIVE_UP),  # this one's is not: it is the job
        (0, True, Known("101", "pending"), False, Step.POST),  # the backend started 101 and never heard of this one
        (1, True, Known("101", "pending"), False, Step.NOT_NEEDED),  # it may have heard of it
        (0, False, Known("101", "pending"), False, Step.NOT_NEEDED),  # an earlier sender may have told it
        (0, True, Known("101", "succeeded"), False, Step.NOT_NEEDED),  # somebody told it of a later one
        (1, True, Known("100", "succeeded"), False, Step.POSTED),
        (0, True, None, False, Step.MISSING),
        (0, True, Known("x", ""), False, Step.UNREADABLE),
    ],
)
def test_the_next_step_of_a_sole_sender(
    attempts: int, ended_after_taking_over: bool, known: Known | None, others_taken: bool, expected: Step
) -> None:
    job = replace(JOB, attempts=attempts)
    since = NOW - timedelta(seconds=1) if ended_after_taking_over else NOW
    assert next_step_of_sole_sender(job, known, POLICY, since, others_taken=others_taken) is expected


@given(
    st.integers(0, 200),
    st.sampled_from(["succeeded", "failed", "running", "pending", ""]),
    st.integers(0, 6),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(-5, 5),
)
def test_what_the_backend_settles_a_sole_sender_never_posts_and_the_other_way_round(
    last: int, status: str, attempts: int, others_taken: bool, earlier: bool, alive: int | None
) -> None:
    alive_at = None if alive is None else JOB.started_at + timedelta(minutes=alive)
    job, known = replace(JOB, attempts=attempts), Known(str(last), status, alive_at)
    since = NOW if earlier else NOW - timedelta(minutes=1)
    step = next_step_of_sole_sender(job, known, POLICY, since, others_taken=others_taken)
    settled = settled_by(known, since)
    assert settled is not None
    by_id = job.job_id <= settled.job_id
    by_end = settled.ended_by is None or job.ended_at <= settled.ended_by
    by_start = settled.started_by is None or job.started_at <= settled.started_by
    if by_id and by_end and by_start:
        assert step in (Step.NOT_NEEDED, Step.POSTED)
    elif not attempts:
        assert step is Step.POST


@pytest.mark.parametrize("known", [None, Known("", ""), Known("sync-7", "succeeded")])
def test_a_backend_that_knows_no_number_settles_nothing(known: Known | None) -> None:
    assert settled_by(known, NOW) is None


@pytest.mark.parametrize("step", list(Step))
def test_a_superseded_job_is_never_posted_and_a_posted_one_stays_posted(step: Step) -> None:
    assert superseded(step) is (Step.POSTED if step is Step.POSTED else Step.NOT_NEEDED)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN),
        (202, Verdict.TAKEN),
        (302, Verdict.REFUSED),
        (400, Verdict.REFUSED),
        (401, Verdict.SECRET_REFUSED),
        (403, Verdict.SECRET_REFUSED),
        (404, Verdict.UNKNOWN_CONNECTION),
        (408, Verdict.BUSY),
        (429, Verdict.BUSY),
        (500, Verdict.UNCERTAIN),
        (504, Verdict.UNCERTAIN),
    ],
)
def test_what_an_answer_means(status: int, verdict: Verdict) -> None:
    assert verdict_on(status) is verdict


@given(st.integers(1, 10), st.sampled_from(list(Verdict)))
def test_an_uncertain_post_is_looked_for_only_when_it_can_no_longer_be_at_work(attempts: int, verdict: Verdict) -> None:
    job = replace(JOB, attempts=attempts)
    again = try_again_at(job, verdict, NOW, POLICY)
    assert again == try_again_at(job, verdict, NOW, POLICY)
    assert again > NOW
    assert again - NOW <= timedelta(minutes=20)
    if verdict is Verdict.UNCERTAIN:
        assert again - NOW >= SETTLE


def test_delays_double_with_a_jitter_that_is_each_jobs_own() -> None:
    policy = RetryPolicy(max_attempts=5, base=timedelta(minutes=4), jitter=0.2)
    delays = [try_again_at(replace(JOB, attempts=n), Verdict.UNCERTAIN, NOW, policy) - NOW for n in (1, 2, 3)]
    for number, delay in enumerate(delays):
        ideal = timedelta(minutes=4) * 2**number
        assert 0.8 * ideal <= delay <= 1.2 * ideal
    another = try_again_at(replace(JOB, job_id=101, attempts=1), Verdict.UNCERTAIN, NOW, policy) - NOW
    assert another != delays[0]


def test_a_body_says_what_is_known_and_leaves_out_what_is_not() -> None:
    body = json.loads(json.dumps(payload(JOB)))
    assert body["connectionId"] == str(UUID(int=1))
    assert body["job"] == {
        "id": 100,
        "jobId": 100,
        "connectionId": str(UUID(int=1)),
        "jobType": "sync",
        "status": "succeeded",
        "createdAt": int(NOW.timestamp()) - 300,
        "updatedAt": int(NOW.timestamp()),
        "attempts": [
            {
                "createdAt": int(NOW.timestamp()) - 300,
                "updatedAt": int(NOW.timestamp()),
                "metrics": {"timeInMillis": 300_000},
            }
        ],
    }


def test_a_clock_that_went_backwards_gives_no_negative_duration() -> None:
    body = payload(replace(JOB, started_at=NOW + timedelta(minutes=1)))
    assert body["job"]["attempts"][0]["metrics"]["timeInMillis"] == 0


def test_jobs_are_told_oldest_first_within_a_connection() -> None:
    other = replace(JOB, job_id=50, connection_id=UUID(int=9))
    grouped = by_connection([replace(JOB, job_id=102), other, JOB, replace(JOB, job_id=101)])
    assert {key: [job.job_id for job in jobs] for key, jobs in grouped.items()} == {
        UUID(int=1): [100, 101, 102],
        UUID(int=9): [50],
    }
