"""Who drives syncs, and who tells the backend: exactly one each.

Belongs here: evidence of two drivers, of none, of doubled and of lost webhook posts. Does not belong here: the driving.
A driver cannot be asked whether it is the only one; what it leaves behind can: schedules that are on in Airbyte, jobs
in the ledger that the orchestrator did not start, notifications that a workspace sends.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import sqlalchemy as sa

from adinsights_orchestration.backend.database import rows_of_tenants
from adinsights_orchestration.doctor.checks.databases import CONNECTION_TABLE
from adinsights_orchestration.doctor.model import Verdict, fail, ok, skipped, some, warn
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.settings import Driver, RegistrySource, WebhookSender
from adinsights_orchestration.tenants.model import Connection, Standing

_LOOK_BACK = timedelta(hours=24)
_REGULAR = 3  # a person starts a sync in Airbyte's UI once or twice a day, a schedule more often
_BACKEND_MAY_LAG = timedelta(minutes=30)  # runbook: webhook silence of 30 minutes while jobs run is an alert
_TOLD_STATUSES, _TOLD_TYPES = ("succeeded", "failed"), ("sync", "refresh")  # what Airbyte tells the backend of
_JOB_IDS = "select connection_id, last_job_id from integrations_airbyteconnection where tenant_id = any(%(tenants)s)"


def airbyte_schedules(world: World) -> Verdict:
    """Airbyte's own scheduler and the orchestrator do not both start the same connection's syncs."""
    ours = {str(each.connection_id): each for each in _active(world)}
    scheduled = [
        ours[str(row["connectionId"])].partition_key
        for row in world.airbyte.get().connections
        if str(row["connectionId"]) in ours and _scheduled(row) and row.get("status", "active") == "active"
    ]
    if world.settings.ingestion.driver is Driver.ORCHESTRATOR and scheduled:
        return warn(
            f"two drivers: {len(scheduled)} connections have a schedule of their own in Airbyte ({some(scheduled)})",
            "Set them to manual in Airbyte, or ADINSIGHTS_INGESTION__DRIVER=external.",
        )
    if world.settings.ingestion.driver is Driver.EXTERNAL:
        return ok(f"driver external: {len(scheduled)} of {len(ours)} active connections are scheduled in Airbyte")
    return ok("driver orchestrator: no active connection has a schedule of its own in Airbyte")


def other_drivers(world: World) -> Verdict:
    """The ledger of the last day shows one driver: ours, or somebody else's."""
    external = _started_by_others(world)
    regular = sorted(key for key, count in external.items() if count >= _REGULAR)
    if world.settings.ingestion.driver is Driver.ORCHESTRATOR:
        if regular:
            return warn(
                f"two drivers: something else keeps starting syncs of {some(regular)}",
                "Switch off Celery beat's task or Airbyte's schedule, or set ADINSIGHTS_INGESTION__DRIVER=external.",
            )
        return ok(f"{sum(external.values())} syncs of the last day were started by something else")
    if _active(world) and not external:
        return warn(
            "driver external, and nothing started a sync in the last day",
            "Switch on Celery beat or Airbyte's schedules, or set ADINSIGHTS_INGESTION__DRIVER=orchestrator.",
        )
    return ok(f"driver external: {sum(external.values())} syncs in the last day")


def webhook_secret(world: World) -> Verdict:
    """Whoever posts to the backend's webhook has its secret."""
    sender = world.settings.webhook.sender
    if sender is WebhookSender.AIRBYTE:
        return ok("Airbyte posts finished jobs itself")
    if world.settings.backend.webhook_secret is None:
        return fail(f"webhook.sender is {sender}, without a secret", "Set ADINSIGHTS_BACKEND__WEBHOOK_SECRET.")
    return ok(f"webhook.sender is {sender}, with a secret")


def webhook_senders(world: World) -> Verdict:
    """Airbyte and the orchestrator do not both post every finished job."""
    backend = urlsplit(world.settings.backend.url).netloc
    posting = [row["name"] for row in world.airbyte.get().workspaces.values() if _notifies(row, backend)]
    if world.settings.webhook.sender is WebhookSender.ORCHESTRATOR and posting:
        return warn(
            f"two senders: workspace {some(posting)} notifies the backend of every sync as well",
            "Switch the notification off in Airbyte, or set ADINSIGHTS_WEBHOOK__SENDER=reconcile.",
        )
    return ok(f"{len(posting)} workspaces notify the backend by themselves")


def webhook_delivery(world: World) -> Verdict:
    """The backend knows of the newest finished jobs: its `last_job_id` is not behind the ledger."""
    if world.settings.registry.source is not RegistrySource.BACKEND:
        return skipped("the registry is a file: the backend's tables are not read")
    newest = _newest_finished(world)
    if not newest:
        lag = _BACKEND_MAY_LAG.total_seconds() / 60
        return skipped(f"no sync of the last day ended {lag:g} minutes ago or more, as long as the backend may lag")
    told = _told(world)
    behind = sorted(each.partition_key for each in _active(world) if _is_behind(each, newest, told))
    if behind:
        return warn(
            f"the backend was not told of the newest jobs of {some(behind)}",
            "Check Airbyte's notifications; ADINSIGHTS_WEBHOOK__SENDER=reconcile posts what is missed.",
        )
    return ok(f"the backend was told of the newest jobs of {len(newest)} connections")


def _active(world: World) -> list[Connection]:
    return [each for each in world.registry.get().connections if each.standing is Standing.ACTIVE]


def _scheduled(row: object) -> bool:
    schedule = row.get("schedule") if isinstance(row, dict) else None
    return isinstance(schedule, dict) and schedule.get("scheduleType", "manual") != "manual"


def _started_by_others(world: World) -> dict[str, int]:
    query = (
        sa.select(sync_job.c.partition_key, sa.func.count())
        .where(sync_job.c.started_by == "external", sync_job.c.job_type == "sync")
        .where(sync_job.c.started_at >= world.now - _LOOK_BACK)
        .group_by(sync_job.c.partition_key)
    )
    with world.ops_store.get().begin() as connection:
        return {str(key): int(count) for key, count in connection.execute(query)}


def _notifies(workspace: object, host: str) -> bool:
    notifications = workspace.get("notifications") if isinstance(workspace, dict) else None
    success = notifications.get("success") if isinstance(notifications, dict) else None
    webhook = success.get("webhook") if isinstance(success, dict) else None
    return (
        isinstance(webhook, dict) and bool(webhook.get("enabled")) and urlsplit(webhook.get("url") or "").netloc == host
    )


def _newest_finished(world: World) -> dict[str, int]:
    """The newest job of each connection of which the backend hears, ended long enough ago for it to know.

    Nobody tells it of a clear, nor of a cancelled sync: Airbyte has no notification for them.
    """
    query = (
        sa.select(sync_job.c.connection_id, sa.func.max(sync_job.c.job_id))
        .where(
            sync_job.c.ended_at.between(world.now - _LOOK_BACK, world.now - _BACKEND_MAY_LAG),
            sync_job.c.status.in_(_TOLD_STATUSES),
            sync_job.c.job_type.in_(_TOLD_TYPES),
        )
        .group_by(sync_job.c.connection_id)
    )
    with world.ops_store.get().begin() as connection:
        return {str(connection_id): int(job) for connection_id, job in connection.execute(query)}


def _told(world: World) -> dict[str, int]:
    tenants = [tenant.id for tenant in world.registry.get().tenants if not tenant.retired]
    with world.backend_database.get().session() as session, session.snapshot() as cursor:
        rows = rows_of_tenants(cursor, CONNECTION_TABLE, _JOB_IDS, tenants, {})
    return {str(row[0]): int(row[1]) for row in rows if str(row[1] or "").isdigit()}


def _is_behind(connection: Connection, newest: dict[str, int], told: dict[str, int]) -> bool:
    key = str(connection.connection_id)
    return key in newest and told.get(key, 0) < newest[key]
