"""The backend's webhook: a finished job becomes the connection's last job, a telemetry row and an audit row.

Belongs here: reading a job in either of Airbyte's spellings, and the three writes of one transaction. Does not belong
here: who may post (`app`). A job posted twice writes two audit rows, as the backend does.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

_TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
_FIND = "select id, tenant_id from integrations_airbyteconnection where connection_id = %s"
_UPDATE = """
update integrations_airbyteconnection
   set last_synced_at = coalesce(%(ended)s, %(updated)s), last_job_id = %(id)s, last_job_status = %(status)s,
       last_job_created_at = %(created)s, last_job_updated_at = %(updated)s, last_job_completed_at = %(ended)s,
       last_job_error = %(error)s, updated_at = %(now)s
 where id = %(row)s
"""
_TELEMETRY = """
insert into integrations_airbytejobtelemetry
  (id, tenant_id, connection_id, job_id, status, started_at, duration_seconds, records_synced, bytes_synced, created_at)
values (%(new)s, %(tenant)s, %(row)s, %(id)s, %(status)s, %(created)s, %(seconds)s, %(records)s, %(bytes)s, %(now)s)
on conflict (connection_id, job_id) do update
  set status = excluded.status, duration_seconds = excluded.duration_seconds,
      records_synced = excluded.records_synced, bytes_synced = excluded.bytes_synced
"""
_AUDIT = """
insert into accounts_auditlog (id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at)
values (%s, %s, null, 'airbyte_job_webhook', 'airbyte_connection', %s, %s, %s)
"""


class BadPayloadError(ValueError):
    """The body is not a job."""


class UnknownConnectionError(LookupError):
    """The backend has no such connection."""


@dataclass(frozen=True, slots=True)
class PostedJob:
    """A job as it was posted."""

    id: str
    status: str
    created_at: datetime
    updated_at: datetime
    records: int | None
    bytes: int | None
    error: str

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it runs."""
        return self.updated_at if self.status in _TERMINAL else None


def read_job(job: Mapping[str, Any]) -> PostedJob:
    """Reads a job in the public API's or the configuration API's spelling."""
    try:
        created = _moment(job["createdAt"] if "createdAt" in job else job["startTime"])
        updated = job.get("updatedAt", job.get("lastUpdatedAt"))
        stats = job.get("aggregatedStats") or {}
        return PostedJob(
            id=str(job["id"] if "id" in job else job["jobId"]),
            status=str(job["status"]),
            created_at=created,
            updated_at=_moment(updated) if updated is not None else created,
            records=stats.get("recordsCommitted", job.get("rowsSynced")),
            bytes=stats.get("bytesCommitted", job.get("bytesSynced")),
            error=_error(job),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadPayloadError(str(error)) from None


def record(dsn: str, connection_id: uuid.UUID, job: PostedJob, now: datetime) -> None:
    """Writes what the post says, in one transaction."""
    with psycopg.connect(dsn) as database:
        row = database.execute(_FIND, (connection_id,)).fetchone()
        if row is None:
            raise UnknownConnectionError(str(connection_id))
        values = _values(job, row[0], row[1], now)
        database.execute(_UPDATE, values)
        database.execute(_TELEMETRY, values)
        metadata = Jsonb({"job_id": job.id, "status": job.status, "connection_id": str(connection_id)})
        database.execute(_AUDIT, (uuid.uuid4(), row[1], str(row[0]), metadata, now))


def _values(job: PostedJob, row: uuid.UUID, tenant: uuid.UUID, now: datetime) -> dict[str, Any]:
    ended = job.ended_at
    return {
        "row": row,
        "tenant": tenant,
        "new": uuid.uuid4(),
        "id": job.id,
        "status": job.status,
        "created": job.created_at,
        "updated": job.updated_at,
        "ended": ended,
        "seconds": int((ended - job.created_at).total_seconds()) if ended else None,
        "records": job.records,
        "bytes": job.bytes,
        "error": job.error,
        "now": now,
    }


def _error(job: Mapping[str, Any]) -> str:
    """The last attempt's failure in words, or the one the sender names itself."""
    for attempt in reversed(job.get("attempts") or []):
        failures = (attempt.get("failureSummary") or {}).get("failures") or []
        if failures:
            return str(failures[0].get("externalMessage") or failures[0].get("failureType") or "")
    reason = job.get("failureReason")
    if isinstance(reason, Mapping):
        return str(reason.get("externalMessage") or reason.get("failureType") or "")
    return str(reason or job.get("error") or "")


def _moment(value: object) -> datetime:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
