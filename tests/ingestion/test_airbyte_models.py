"""What Airbyte says, read tolerantly: missing, null, odd and new values of both APIs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.ingestion.airbyte_errors import LONGEST_MESSAGE, MalformedReplyError
from adinsights_orchestration.ingestion.airbyte_models import (
    AirbyteJob,
    JobStatus,
    JobType,
    config_job,
    parse_duration,
    parse_moment,
    parse_status,
    parse_type,
    public_job,
)

CONNECTION = "9bf0a2c1-54a7-4a3a-9a0f-3b0d5f6f1a11"
STARTED = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def public(**changes: Any) -> dict[str, Any]:
    row = {
        "jobId": 42,
        "status": "succeeded",
        "jobType": "sync",
        "startTime": "2026-11-23T03:00Z",
        "connectionId": CONNECTION,
        "lastUpdatedAt": "2026-11-23T03:05:07Z",
        "duration": "PT5M7S",
        "rowsSynced": 1200,
        "bytesSynced": 34000,
    }
    return {key: value for key, value in {**row, **changes}.items() if value != "absent"}


def config(attempts: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    job = {
        "id": 42,
        "configType": "sync",
        "configId": CONNECTION,
        "createdAt": int(STARTED.timestamp()),
        "updatedAt": int(STARTED.timestamp()) + 307,
        "status": "succeeded",
    }
    return {"job": {**job, **changes}, "attempts": attempts or []}


def read(row: dict[str, Any]) -> AirbyteJob:
    job = public_job(row)
    assert job is not None
    return job


def read_config(row: dict[str, Any]) -> AirbyteJob:
    job = config_job(row)
    assert job is not None
    return job


def failure(origin: str, kind: str, message: str | None, moment: int = 1) -> dict[str, Any]:
    return {"failureOrigin": origin, "failureType": kind, "externalMessage": message, "timestamp": moment}


def test_a_public_job_is_read_with_its_counts_and_times() -> None:
    job = read(public())
    assert (job.job_id, job.connection_id, job.type, job.status) == (
        42,
        UUID(CONNECTION),
        JobType.SYNC,
        JobStatus.SUCCEEDED,
    )
    assert (job.created_at, job.ended_at) == (STARTED, STARTED + timedelta(minutes=5, seconds=7))
    assert (job.rows, job.bytes, job.attempts) == (1200, 34000, None)
    assert job.duration == timedelta(minutes=5, seconds=7)


@pytest.mark.parametrize("missing", ["absent", None, "", "yesterday"])
def test_an_end_that_the_server_leaves_out_follows_from_the_duration(missing: object) -> None:
    job = read(public(lastUpdatedAt=missing))
    assert job.updated_at is None
    assert job.ended_at == STARTED + timedelta(minutes=5, seconds=7)


def test_a_finished_job_without_any_time_but_its_start_ended_no_earlier_than_that() -> None:
    assert read(public(lastUpdatedAt=None, duration="absent")).ended_at == STARTED


def test_a_running_job_has_no_end_whatever_else_is_told() -> None:
    job = read(public(status="running"))
    assert job.ended_at is None
    assert job.duration is None


@pytest.mark.parametrize("word", ["pending", "queued", "running", "incomplete"])
def test_states_between_start_and_end_are_not_terminal(word: str) -> None:
    assert not parse_status(word).terminal


@pytest.mark.parametrize("word", ["hibernating", "", None, 7])
def test_a_state_that_this_version_does_not_know_is_a_job_that_still_runs(word: object) -> None:
    assert parse_status(word) is JobStatus.RUNNING


def test_jobs_that_are_not_about_data_are_passed_over() -> None:
    assert config_job(config(configType="discover_schema")) is None
    assert public_job(public(jobType="check_connection_source")) is None
    assert parse_type("reset_connection") is JobType.RESET
    assert not JobType.RESET.brings_data
    assert JobType.REFRESH.brings_data


@pytest.mark.parametrize("broken", [{"jobId": None}, {"jobId": "abc"}, {"connectionId": "x"}, {"startTime": "soon"}])
def test_a_job_that_cannot_be_identified_is_an_error_and_not_a_guess(broken: dict[str, Any]) -> None:
    with pytest.raises(MalformedReplyError):
        public_job(public(**broken))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T03:00Z", STARTED),
        ("2026-11-23T03:00:00Z", STARTED),
        ("2026-11-22T22:00:00-05:00", STARTED),
        ("2026-11-23T03:00:00.123456789Z", STARTED.replace(microsecond=123456)),
        ("2026-11-23T03:00:00", STARTED),
        (int(STARTED.timestamp()), STARTED),
        (STARTED.timestamp(), STARTED),
        (None, None),
        ("", None),
        ("not a time", None),
        (True, None),
        (10**30, None),
    ],
)
def test_moments_come_in_many_forms(text: object, moment: datetime | None) -> None:
    assert parse_moment(text) == moment


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_moment_that_is_written_is_read_back(moment: datetime) -> None:
    assert parse_moment(moment.isoformat()) == moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT8H6M12S", 8 * 3600 + 6 * 60 + 12),
        ("PT0S", 0),
        ("P1DT1S", 86401),
        ("PT2.5S", 2.5),
        ("P", None),
        ("", None),
        (None, None),
        ("8 hours", None),
    ],
)
def test_durations_are_iso_8601(text: object, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else timedelta(seconds=seconds))


def test_statistics_per_stream_come_from_the_job_or_else_from_its_last_attempt() -> None:
    stats = {"recordsCommitted": 5, "bytesCommitted": 50}
    aggregated = config(
        streamAggregatedStats=[{"streamName": "campaigns", "streamNamespace": "raw", **stats}], aggregatedStats=stats
    )
    job = read_config(aggregated)
    assert [(s.name, s.namespace, s.rows, s.bytes) for s in job.streams] == [("campaigns", "raw", 5, 50)]
    assert (job.rows, job.bytes) == (5, 50)
    older = config([{"streamStats": [{"streamName": "ads", "stats": stats}]}])
    job = read_config(older)
    assert [(s.name, s.namespace, s.rows) for s in job.streams] == [("ads", None, 5)]
    assert (job.rows, job.bytes, job.attempts) == (5, 50, 1)


def test_a_failure_is_told_by_the_connector_rather_than_by_the_platform_that_noticed() -> None:
    failures = [
        failure("replication", "system_error", "Something went wrong during replication", 1),
        failure("source", "config_error", "The access token was revoked.", 2),
    ]
    job = read_config(config([{"failureSummary": {"failures": failures}}], status="failed"))
    assert job.failure is not None
    assert (job.failure.origin, job.failure.type) == ("source", "config_error")
    assert job.failure.message == "The access token was revoked."


def test_the_last_attempt_that_says_why_is_the_one_that_counts() -> None:
    first: dict[str, Any] = {
        "attempt": {"failureSummary": {"failures": [failure("source", "transient_error", "busy")]}}
    }
    last: dict[str, Any] = {"attempt": {"endedAt": int(STARTED.timestamp()) + 60, "status": "failed"}}
    job = read_config(config([first, last], status="failed"))
    assert job.failure is not None
    assert job.failure.message == "busy"
    assert job.ended_at == STARTED + timedelta(seconds=60)


def test_a_failure_without_words_still_says_that_it_is_one() -> None:
    bare: dict[str, Any] = {"failureSummary": {"failures": [{"timestamp": 1}]}}
    job = read_config(config([bare], status="failed"))
    assert job.failure is not None
    assert job.failure.message == "Airbyte gave no message"
    assert read_config(config([{}], status="failed")).failure is None


def test_secrets_and_walls_of_text_do_not_pass_from_airbytes_messages() -> None:
    said = "GET https://graph.example/act_1?access_token=EAAGcanarycanarycanarycanary failed\n" + "x" * 5000
    job = read_config(
        config([{"failureSummary": {"failures": [failure("source", "system_error", said)]}}], status="failed")
    )
    assert job.failure is not None
    assert "canary" not in job.failure.message
    assert "\n" not in job.failure.message
    assert len(job.failure.message) <= LONGEST_MESSAGE


def test_a_succeeded_job_has_no_failure_even_if_an_earlier_attempt_failed() -> None:
    attempts: list[dict[str, Any]] = [
        {"failureSummary": {"failures": [failure("source", "transient_error", "busy")]}},
        {"status": "succeeded"},
    ]
    assert read_config(config(attempts)).failure is None
