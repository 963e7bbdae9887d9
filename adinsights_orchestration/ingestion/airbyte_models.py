"""What Airbyte says, as values: jobs, statuses, failures, statistics, read tolerantly from both APIs.

Belongs here: parsing one JSON object into one typed value, and what follows from it alone. Does not belong here: HTTP
(`airbyte_http`), calls (`airbyte_api`). Servers from 0.50 on differ in what they leave out, null or add: an unknown
status is a running job, a missing moment is None, an unknown field is ignored; only a job without id or connection,
or what is no object at all, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from adinsights_orchestration.ingestion.airbyte_errors import MalformedReplyError, tidy_message


class JobStatus(StrEnum):
    """States of an Airbyte job. `incomplete`: an attempt failed and Airbyte itself will try again."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    INCOMPLETE = "incomplete"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in _TERMINAL


_TERMINAL = frozenset((JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED))
TERMINAL_STATUSES = tuple(sorted(status.value for status in _TERMINAL))


class JobType(StrEnum):
    """What a job does. `sync` and `refresh` bring data; `clear` (older name `reset`) removes it."""

    SYNC = "sync"
    REFRESH = "refresh"
    CLEAR = "clear"
    RESET = "reset"

    @property
    def brings_data(self) -> bool:
        """Whether a finished job of this type is a materialization."""
        return self in (JobType.SYNC, JobType.REFRESH)


_STATUSES = {status.value: status for status in JobStatus}
_TYPES = {kind.value: kind for kind in JobType} | {"reset_connection": JobType.RESET}
DATA_TYPES = (JobType.SYNC.value, JobType.REFRESH.value)


@dataclass(frozen=True, slots=True)
class StreamCount:
    """What a job committed of one stream."""

    name: str
    namespace: str | None
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed, in Airbyte's words; secrets are taken out."""

    origin: str | None
    type: str | None
    message: str


@dataclass(frozen=True, slots=True)
class AirbyteJob:
    """One job as the server told it.

    `attempts` is None where the configuration API was not asked, so that details may still be fetched. `updated_at` is
    None where the server left it out (the public API does for jobs that are not over). Sizes are what was committed.
    """

    job_id: int
    connection_id: UUID
    type: JobType
    status: JobStatus
    created_at: datetime
    updated_at: datetime | None = None
    ended_at: datetime | None = None
    rows: int | None = None
    bytes: int | None = None
    streams: tuple[StreamCount, ...] = ()
    attempts: int | None = None
    failure: Failure | None = None

    @property
    def duration(self) -> timedelta | None:
        """From creation to end; None while it runs."""
        return None if self.ended_at is None else max(self.ended_at - self.created_at, timedelta())


@contextmanager
def as_promised(what: str) -> Iterator[None]:
    """While a reply is read: one of another shape than the API promises is a `MalformedReplyError`, not a defect.

    Args:
        what: What is read, for people: `a job`.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise MalformedReplyError(f"{what} of another shape than the API promises ({type(error).__name__})") from error


def parse_status(text: object) -> JobStatus:
    """Returns the status; one that this version does not know is a job that still runs."""
    return _STATUSES.get(str(text).lower(), JobStatus.RUNNING)


def parse_type(text: object) -> JobType | None:
    """Returns the job type, or None for jobs that are not about data (checks, discoveries)."""
    return _TYPES.get(str(text).lower())


def parse_moment(value: object) -> datetime | None:
    """Reads ISO 8601 (seconds may be missing) or epoch seconds; None for nothing or nonsense."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def parse_duration(value: object) -> timedelta | None:
    """Reads an ISO 8601 duration without years and months (`PT8H6M12S`); None for anything else."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) > 1 else None
    if found is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def public_job(data: Mapping[str, Any]) -> AirbyteJob | None:
    """Reads the public API's `JobResponse`; None for a job that is not about a connection's data.

    Raises:
        MalformedReplyError: Without a readable id, connection or start, or of another shape.
    """
    with as_promised("a job"):
        return _public_job(data)


def config_job(data: Mapping[str, Any]) -> AirbyteJob | None:
    """Reads the configuration API's job with its attempts, as `public_job` reads the public one."""
    with as_promised("a job"):
        return _config_job(data)


def _public_job(data: Mapping[str, Any]) -> AirbyteJob | None:
    kind = parse_type(data.get("jobType"))
    if kind is None:
        return None
    status = parse_status(data.get("status"))
    created = parse_moment(data.get("startTime"))
    job_id, connection_id = _identity(data.get("jobId"), data.get("connectionId"))
    if created is None:
        raise MalformedReplyError(f"job {job_id} has no readable startTime")
    updated = parse_moment(data.get("lastUpdatedAt"))
    return AirbyteJob(
        job_id=job_id,
        connection_id=connection_id,
        type=kind,
        status=status,
        created_at=created,
        updated_at=updated,
        ended_at=_public_end(created, updated, parse_duration(data.get("duration"))) if status.terminal else None,
        rows=_count(data.get("rowsSynced")),
        bytes=_count(data.get("bytesSynced")),
    )


def _config_job(data: Mapping[str, Any]) -> AirbyteJob | None:
    job = data.get("job") or {}
    kind = parse_type(job.get("configType"))
    if kind is None:
        return None
    job_id, connection_id = _identity(job.get("id"), job.get("configId"))
    created = parse_moment(job.get("createdAt"))
    if created is None:
        raise MalformedReplyError(f"job {job_id} has no readable createdAt")
    status = parse_status(job.get("status"))
    updated = parse_moment(job.get("updatedAt"))
    attempts = [_attempt(item) for item in data.get("attempts") or ()]
    streams = _streams(job, attempts)
    rows, size = _totals(job, attempts, streams)
    return AirbyteJob(
        job_id=job_id,
        connection_id=connection_id,
        type=kind,
        status=status,
        created_at=created,
        updated_at=updated,
        ended_at=(_last_end(attempts) or updated or created) if status.terminal else None,
        rows=rows,
        bytes=size,
        streams=streams,
        attempts=len(attempts),
        failure=_failure(attempts) if status.terminal and status is not JobStatus.SUCCEEDED else None,
    )


def _identity(job_id: object, connection_id: object) -> tuple[int, UUID]:
    try:
        return int(str(job_id)), UUID(str(connection_id))
    except ValueError:
        raise MalformedReplyError("a job without a readable id or connection id") from None


def _public_end(created: datetime, updated: datetime | None, duration: timedelta | None) -> datetime:
    return updated or created + (duration or timedelta())


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _attempt(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attempts come bare in listings and wrapped in `attempt` beside their logs in single reads."""
    inner = data.get("attempt")
    return inner if isinstance(inner, Mapping) else data


def _last_end(attempts: Sequence[Mapping[str, Any]]) -> datetime | None:
    return parse_moment(attempts[-1].get("endedAt")) if attempts else None


def _streams(job: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> tuple[StreamCount, ...]:
    aggregated = job.get("streamAggregatedStats")
    if aggregated:
        return tuple(_stream(item, item) for item in aggregated)
    last = attempts[-1].get("streamStats") if attempts else None
    return tuple(_stream(item, item.get("stats") or {}) for item in last or ())


def _stream(item: Mapping[str, Any], stats: Mapping[str, Any]) -> StreamCount:
    return StreamCount(
        name=str(item.get("streamName")),
        namespace=item.get("streamNamespace"),
        rows=_count(stats.get("recordsCommitted")) or 0,
        bytes=_count(stats.get("bytesCommitted")) or 0,
    )


def _totals(
    job: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]], streams: tuple[StreamCount, ...]
) -> tuple[int | None, int | None]:
    stats = job.get("aggregatedStats") or (attempts[-1].get("totalStats") if attempts else None) or {}
    rows, size = _count(stats.get("recordsCommitted")), _count(stats.get("bytesCommitted"))
    if rows is None and streams:
        return sum(stream.rows for stream in streams), sum(stream.bytes for stream in streams)
    return rows, size


def _failure(attempts: Sequence[Mapping[str, Any]]) -> Failure | None:
    """The last failed attempt's telling failure: a connector's own rather than what the platform made of it."""
    for attempt in reversed(attempts):
        failures = (attempt.get("failureSummary") or {}).get("failures") or ()
        if failures:
            return _as_failure(min(failures, key=_how_remote))
    return None


def _how_remote(failure: Mapping[str, Any]) -> tuple[bool, bool, int]:
    from_connector = failure.get("failureOrigin") in ("source", "destination")
    return not from_connector, not failure.get("externalMessage"), _count(failure.get("timestamp")) or 0


def _as_failure(failure: Mapping[str, Any]) -> Failure:
    text = failure.get("externalMessage") or failure.get("internalMessage") or "Airbyte gave no message"
    return Failure(failure.get("failureOrigin"), failure.get("failureType"), tidy_message(str(text)))
