"""A row of `sync_job` as Python has it, and where a job belongs.

Belongs here: those types, and reading them from a row. Does not belong here: statements that write (`jobs`) or that
choose rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, StreamCount
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.tenants.model import Provider

VANISHED = "vanished"  # the status of a job that Airbyte does not know any more


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection belongs."""

    partition_key: str
    provider: Provider
    tenant_id: UUID


@dataclass(frozen=True, slots=True)
class Placed:
    """A job of a known connection; `intent_id` where it is known which intent's request made it."""

    job: AirbyteJob
    place: Place
    intent_id: int | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as the ledger holds it.

    `status` is Airbyte's, or `vanished`; sizes are what was committed; `intent_id` is the intent whose start made it.
    """

    job_id: int
    connection_id: UUID
    partition_key: str
    provider: Provider
    tenant_id: UUID
    job_type: str
    status: str
    started_by: str
    intent_id: int | None
    run_id: str | None
    started_at: datetime
    ended_at: datetime | None
    duration_seconds: float | None
    rows_synced: int | None
    bytes_synced: int | None
    streams: tuple[StreamCount, ...]
    attempts: int | None
    failure_origin: str | None
    failure_type: str | None
    failure_message: str | None
    report_state: str
    report_batch: UUID | None

    @property
    def succeeded(self) -> bool:
        """Whether the job brought its data."""
        return self.status == "succeeded"

    @property
    def reason(self) -> str:
        """Why the job did not succeed, for people."""
        if self.succeeded:
            return ""
        return self.failure_message or f"Airbyte says only that the job {_SAID.get(self.status, self.status)}"


_SAID = {"failed": "failed", "cancelled": "was cancelled", VANISHED: "is not known any more"}
_ROW_COLUMNS = (
    sync_job.c.job_id,
    sync_job.c.connection_id,
    sync_job.c.partition_key,
    sync_job.c.provider,
    sync_job.c.tenant_id,
    sync_job.c.job_type,
    sync_job.c.status,
    sync_job.c.started_by,
    sync_job.c.intent_id,
    sync_job.c.run_id,
    sync_job.c.started_at,
    sync_job.c.ended_at,
    sync_job.c.duration_seconds,
    sync_job.c.rows_synced,
    sync_job.c.bytes_synced,
    sync_job.c.streams,
    sync_job.c.attempts,
    sync_job.c.failure_origin,
    sync_job.c.failure_type,
    sync_job.c.failure_message,
    sync_job.c.report_state,
    sync_job.c.report_batch,
)


def job_rows() -> sa.Select[Any]:
    """The select that `as_job_row` reads."""
    return sa.select(*_ROW_COLUMNS)


def as_job_row(row: sa.Row[Any]) -> JobRow:
    """The typed form of a row of `job_rows`."""
    values = row._asdict()
    streams = tuple(StreamCount(**stream) for stream in values.pop("streams") or ())
    return JobRow(**{**values, "provider": Provider(values["provider"]), "streams": streams})
