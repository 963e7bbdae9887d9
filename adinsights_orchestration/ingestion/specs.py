"""What Dagster shows of ingestion: one asset per provider, and what a finished sync looks like on it.

Belongs here: asset and check specs, metadata of materializations, descriptions of check results. Does not belong
here: running or reporting anything. Every text is written for whoever reads it at 3 a.m.: what breaks when it is
late, and where to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster_airbyte import AirbyteWorkspace
from dagster_airbyte.translator import AirbyteMetadataSet

from adinsights_orchestration.airbyte_pages import AirbytePages
from adinsights_orchestration.dagster_internals.events import SYNC_ID_KEY, CheckResult, Materialized
from adinsights_orchestration.ingestion.airbyte_models import StreamCount
from adinsights_orchestration.ingestion.ledger.job_rows import JobRow
from adinsights_orchestration.owners import DATA_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection, Provider
from adinsights_orchestration.tenants.partitions import PARTITIONS

GROUP = "ingestion"
SYNC_CHECK = "sync"
_FEEDS = {
    Provider.META: "campaign, creative, pacing and parish dashboards",
    Provider.GOOGLE_ADS: "campaign, pacing and parish dashboards",
    Provider.LINKEDIN_ADS: "campaign, creative and pacing dashboards",
    Provider.TIKTOK_ADS: "campaign, creative and pacing dashboards",
    Provider.GA4: "web traffic dashboard",
    Provider.SEARCH_CONSOLE: "search performance dashboard",
}


def asset_key(provider: Provider) -> dg.AssetKey:
    """The provider's asset key, `airbyte/<provider>`."""
    return dg.AssetKey(provider.asset_path)


def provider_spec(provider: Provider, settings: Settings) -> dg.AssetSpec:
    """The provider's asset: a partition per connection, materialized by every sync that succeeds."""
    return dg.AssetSpec(
        asset_key(provider),
        partitions_def=PARTITIONS[provider],
        skippable=True,  # a sync that fails materializes nothing
        group_name=GROUP,
        owners=[DATA_ENG],
        kinds={"airbyte", "postgres"},
        tags={"adinsights/provider": provider.value},
        description=(
            f"{provider.label} as Airbyte brought it, one partition per connection. When a partition is late, that "
            f"tenant's {_FEEDS[provider]} show old figures; other tenants' are not affected. Materialize a "
            "partition to sync it now; a sync that is already running is followed, not doubled."
        ),
        metadata={
            "runbook": dg.MetadataValue.url(f"{settings.runbook_url}#a-connection-does-not-sync"),
            "airbyte": dg.MetadataValue.url(settings.airbyte.ui_url),
        },
    )


def sync_check_spec(provider: Provider) -> dg.AssetCheckSpec:
    """The check that shows how each connection's last sync ended."""
    return dg.AssetCheckSpec(
        SYNC_CHECK,
        asset=asset_key(provider),
        partitions_def=PARTITIONS[provider],
        description="Did the connection's last sync succeed? A failure carries Airbyte's own reason.",
    )


def airbyte_workspace(settings: Settings) -> AirbyteWorkspace:
    """dagster-airbyte's resource on the same server, for ad-hoc work in a project of yours.

    Secrets stay the names of their variables, because Dagster shows a resource's configuration. It never cancels a sync
    when a run ends, and follows one that is running already.
    """
    airbyte = settings.airbyte

    def secret(name: str) -> str | None:
        return dg.EnvVar(f"ADINSIGHTS_AIRBYTE__{name.upper()}") if getattr(airbyte, name) is not None else None

    return AirbyteWorkspace(
        rest_api_base_url=airbyte.public_api_url,
        configuration_api_base_url=airbyte.config_api_url,
        workspace_id=str(airbyte.workspace_ids[0]) if airbyte.workspace_ids else "",
        client_id=secret("client_id"),
        client_secret=secret("client_secret"),
        username=secret("username"),
        password=secret("password"),
        cancel_on_termination=False,
        poll_previous_running_sync=True,
    )


def materialized(job: JobRow, connection: Connection | None, settings: Settings) -> Materialized:
    """A finished sync, of a connection that the registry may not have any more, as a materialization when it ended."""
    assert job.ended_at is not None
    return Materialized(job.partition_key, job.ended_at, sync_metadata(job, connection, settings))


def sync_metadata(job: JobRow, connection: Connection | None, settings: Settings) -> dict[str, Any]:
    """What a person wants to know of a finished sync: how much, how long, and where to look."""
    metadata: dict[str, Any] = {
        **AirbyteMetadataSet(
            connection_id=str(job.connection_id), connection_name=connection.name if connection else ""
        ),
        SYNC_ID_KEY: job.job_id,
        "airbyte/job": dg.MetadataValue.url(job_url(job, connection, settings)),
        "airbyte/job_type": job.job_type,
        "started": dg.MetadataValue.timestamp(job.started_at),
        "started by": job.started_by,
    }
    if job.ended_at is not None:
        metadata["ended"] = dg.MetadataValue.timestamp(job.ended_at)
    if job.duration_seconds is not None:
        metadata["duration_seconds"] = round(job.duration_seconds, 3)
    if job.rows_synced is not None:
        metadata["dagster/row_count"] = job.rows_synced
    if job.bytes_synced is not None:
        metadata["bytes"] = job.bytes_synced
    if job.streams:
        metadata["streams"] = _streams_table(job.streams)
    return metadata


def check_result(job: JobRow, connection: Connection | None, settings: Settings) -> CheckResult:
    """How the connection's last sync ended, for its `sync` check."""
    metadata = {SYNC_ID_KEY: job.job_id, "airbyte/job": dg.MetadataValue.url(job_url(job, connection, settings))}
    return CheckResult(job.partition_key, job.succeeded, describe(job), metadata)


def describe(job: JobRow) -> str:
    """One line: how the sync ended, and why when it did not succeed."""
    if job.succeeded:
        rows = f"{job.rows_synced:,} rows" if job.rows_synced is not None else "rows unknown"
        return f"Airbyte job {job.job_id} succeeded: {rows}."
    origin = f" ({job.failure_origin}, {job.failure_type})" if job.failure_origin or job.failure_type else ""
    return f"Airbyte job {job.job_id} {job.status}{origin}: {job.reason}"


def job_url(job: JobRow, connection: Connection | None, settings: Settings) -> str:
    """The job's page in Airbyte's UI."""
    workspace = connection.workspace_id if connection else None
    return AirbytePages.of(settings.airbyte).connection(workspace, job.connection_id, job.job_id)


def _streams_table(streams: Sequence[StreamCount]) -> dg.TableMetadataValue:
    records = [dg.TableRecord({"stream": s.name, "rows": s.rows or 0, "bytes": s.bytes or 0}) for s in streams]
    columns = [dg.TableColumn("stream"), dg.TableColumn("rows", "int"), dg.TableColumn("bytes", "int")]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))
