"""How jobs and attempts look in the configuration API.

Belongs here: values to JSON. Does not belong here: finding them. This API tells moments as whole seconds, an
attempt's id is its number, and here alone does a failure's reason appear.
"""

from __future__ import annotations

from typing import Any

from adinsights_orchestration.local.airbyte import stats
from adinsights_orchestration.local.airbyte.model import (
    NEVER_RETRIED,
    Attempt,
    ConfigType,
    FailureReason,
    Job,
    StreamName,
    StreamStats,
)
from adinsights_orchestration.local.airbyte.moments import epoch
from adinsights_orchestration.local.airbyte.public_views import Telling


def job(value: Job, telling: Telling) -> dict[str, Any]:
    """`JobRead`."""
    streams = [descriptor(stream) for stream in value.streams]
    shown: dict[str, Any] = {
        "id": value.id,
        "configType": value.config_type.value,
        "configId": str(value.connection_id),
        "enabledStreams": streams,
        "createdAt": epoch(value.created_at + telling.skew),
        "updatedAt": epoch(value.updated_at + telling.skew),
        "status": telling.status(value.status),
    }
    if value.started_at is not None:
        shown["startedAt"] = epoch(value.started_at + telling.skew)
    if value.config_type is ConfigType.RESET_CONNECTION:
        shown["resetConfig"] = {"streamsToReset": streams}
    if value.config_type is ConfigType.REFRESH:
        shown["refreshConfig"] = {"streamsToRefresh": streams}
    if any(attempt.streams for attempt in value.attempts):
        shown["aggregatedStats"] = _counts(stats.total(value))
        shown["streamAggregatedStats"] = [_stream_counts(stream) for stream in stats.by_stream(value)]
    return shown


def job_with_attempts(value: Job, telling: Telling) -> dict[str, Any]:
    """`JobWithAttemptsRead`."""
    return {"job": job(value, telling), "attempts": [attempt(one, telling) for one in value.attempts]}


def job_info(value: Job, telling: Telling) -> dict[str, Any]:
    """`JobInfoRead`, without logs."""
    return {"job": job(value, telling), "attempts": [attempt_info(one, telling) for one in value.attempts]}


def attempt_info(value: Attempt, telling: Telling) -> dict[str, Any]:
    """`AttemptInfoRead`, without logs."""
    return {"attempt": attempt(value, telling), "logType": "formatted", "logs": {"logLines": []}}


def attempt(value: Attempt, telling: Telling) -> dict[str, Any]:
    """`AttemptRead`."""
    total = stats.of_attempt(value)
    shown: dict[str, Any] = {
        "id": value.number,
        "status": value.status,
        "createdAt": epoch(value.created_at + telling.skew),
        "updatedAt": epoch(value.updated_at + telling.skew),
    }
    if value.ended_at is not None:
        shown["endedAt"] = epoch(value.ended_at + telling.skew)
    if value.streams:
        shown["bytesSynced"] = total.bytes_emitted
        shown["recordsSynced"] = total.records_emitted
        shown["totalStats"] = attempt_stats(total)
        shown["streamStats"] = [_attempt_stream(stream) for stream in value.streams]
    if value.failure is not None:
        shown["failureSummary"] = _failure_summary(value, telling)
    return shown


def attempt_stats(value: StreamStats) -> dict[str, Any]:
    """`AttemptStats`."""
    return {**_counts(value), "stateMessagesEmitted": 0}


def failure(value: FailureReason, moment_ms: int) -> dict[str, Any]:
    """`FailureReason`."""
    shown: dict[str, Any] = {
        "failureOrigin": value.origin,
        "failureType": value.type.value,
        "externalMessage": value.external_message,
        "retryable": value.type not in NEVER_RETRIED,
        "timestamp": moment_ms,
    }
    if value.internal_message:
        shown["internalMessage"] = value.internal_message
    if value.stream is not None:
        shown["streamDescriptor"] = descriptor(value.stream)
    return shown


def failure_of(value: Attempt, telling: Telling) -> dict[str, Any] | None:
    """The attempt's failure reason."""
    if value.failure is None:
        return None
    return failure(value.failure, epoch((value.ended_at or value.updated_at) + telling.skew) * 1000)


def descriptor(value: StreamName) -> dict[str, Any]:
    """`StreamDescriptor`."""
    return {"name": value.name} if value.namespace is None else {"name": value.name, "namespace": value.namespace}


def _failure_summary(value: Attempt, telling: Telling) -> dict[str, Any]:
    partial = any(stream.records_committed for stream in value.streams)
    return {"failures": [failure_of(value, telling)], "partialSuccess": partial}


def _counts(value: StreamStats) -> dict[str, int]:
    return {
        "recordsEmitted": value.records_emitted,
        "bytesEmitted": value.bytes_emitted,
        "recordsCommitted": value.records_committed,
        "bytesCommitted": value.bytes_committed,
        "recordsRejected": 0,
    }


def _stream_counts(value: StreamStats) -> dict[str, Any]:
    name = {"streamName": value.name} | ({} if value.namespace is None else {"streamNamespace": value.namespace})
    return {**name, **_counts(value), "wasBackfilled": False, "wasResumed": False}


def _attempt_stream(value: StreamStats) -> dict[str, Any]:
    name = {"streamName": value.name} | ({} if value.namespace is None else {"streamNamespace": value.namespace})
    return {**name, "stats": attempt_stats(value)}
