"""Finished Airbyte jobs and the registry they belong to, for tests of what happens after a sync."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, Failure, JobStatus, JobType, StreamCount
from adinsights_orchestration.ingestion.ledger import Place, Placed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant

SPACE = UUID("5a0e8a52-0000-4000-8000-000000000000")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TENANT = Tenant(uuid5(SPACE, "acme"), "Acme", "acme")


def connection(name: str, provider: Provider = Provider.META) -> Connection:
    """An active connection whose ids follow from its name."""
    row = uuid5(SPACE, f"{provider}/{name}")
    key = f"acme/{name}-{str(row)[:8]}"
    schedule = Schedule(ScheduleType.INTERVAL, interval=timedelta(hours=1))
    return Connection(row, TENANT.id, provider, name, row, schedule, uuid5(SPACE, "workspace"), partition_key=key)


def registry(connections: Iterable[Connection]) -> Registry:
    """A registry of one tenant with these connections."""
    return Registry((TENANT,), tuple(connections), "test", NOW)


def job(job_id: int, of: Connection, *, minutes: int = 0, status: JobStatus = JobStatus.SUCCEEDED) -> Placed:
    """A job of the connection that ended so many minutes after `NOW`, or began two minutes before that and runs."""
    ended = NOW + timedelta(minutes=minutes)
    failed = status in (JobStatus.FAILED, JobStatus.CANCELLED)
    reason = Failure("source", "config_error", "the token was revoked") if failed else None
    streams = () if failed else (StreamCount("ad_insights", "raw_meta", 40, 4000), StreamCount("ads", "raw_meta", 2, 9))
    told = AirbyteJob(
        job_id,
        of.connection_id,
        JobType.SYNC,
        status,
        created_at=ended - timedelta(minutes=2),
        updated_at=ended,
        ended_at=ended if status.terminal else None,
        rows=None if failed else 42,
        bytes=None if failed else 4009,
        streams=streams,
        attempts=1,
        failure=reason,
    )
    return Placed(told, Place(of.partition_key, of.provider, of.tenant_id))


def record(store: OpsStore, jobs: Iterable[Placed]) -> None:
    """Writes the jobs into the ledger."""
    with store.begin() as transaction:
        ledger.record_jobs(transaction, list(jobs), NOW)
