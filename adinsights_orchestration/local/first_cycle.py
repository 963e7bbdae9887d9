"""The automation's first cycle after `up`, followed until its syncs, its build and its published results were seen.

Belongs here: what the automation is doing at this moment, in words, and when there is no more to wait for. Does not
belong here: doing any of it. Where nothing is due there is no cycle, which is said at once instead of waited for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.errors import AdinsightsError, OpsStoreError
from adinsights_orchestration.local.progress import Pulse, Say, SyncLines, published_since, rows_of
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation, sync_intent, sync_job
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection, Registry, Standing
from adinsights_orchestration.tenants.slots import latest_slot, next_slot
from adinsights_orchestration.tenants.store import load_registry, registry_health

if TYPE_CHECKING:
    import dagster as dg

_POLL_SECONDS = 1.0
_LONGEST_SECONDS = 300.0
_SETTLED = timedelta(seconds=20)  # a tick of every sensor that starts something, after the registry was read
_CLOCK_SKEW = timedelta(minutes=1)  # as `ingestion.due` allows for
_OPEN = ("planned", "starting", "running")
_BUILD_TAG = {"adinsights/dbt": "build"}


class FollowError(AdinsightsError):
    """The first cycle cannot be followed any more."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the automation is at.

    Attributes:
        doing: In words.
        build: The first build that was completed and published; None while there is none.
        idle: Whether nothing runs, nothing is due and the marts hold everything.
    """

    doing: str
    build: Mapping[str, Any] | None = None
    idle: bool = False


def follow(settings: Settings, say: Say, *, since: datetime) -> None:
    """Tells what the automation does until its first build since `since` is published, or nothing is left to do."""
    import dagster as dg

    store = OpsStore(settings.ops_store)
    say("the automation is running; its first cycle:")
    try:
        with dg.DagsterInstance.get() as instance:
            _follow(settings, store, instance, say, since)
    except OpsStoreError as error:
        raise FollowError(
            "the stack was stopped while its first cycle was shown", next_step="`adinsights local status` shows more."
        ) from error
    finally:
        store.dispose()


def _follow(settings: Settings, store: OpsStore, instance: dg.DagsterInstance, say: Say, since: datetime) -> None:
    lines, pulse = SyncLines(store, say, since), Pulse(say)
    deadline = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < deadline:
        if lines.tell():
            pulse.said()
        seen = look(settings, store, instance, since, utc_now())
        if seen.build is not None:
            say(_built(seen.build))
            return
        if seen.idle:
            say(f"  {seen.doing}")
            return
        pulse.beat(seen.doing)
        time.sleep(_POLL_SECONDS)
    say(f"the first cycle is not over after {_LONGEST_SECONDS:.0f} s; it goes on, watch it in the UI")


def look(settings: Settings, store: OpsStore, instance: dg.DagsterInstance, since: datetime, now: datetime) -> Look:
    """Says what the automation is at, and whether there is more to wait for.

    Args:
        settings: Where the run results are published.
        store: The ops store.
        instance: The stack's Dagster.
        since: Only a build that started after this moment counts.
        now: The time.
    """
    builds = _builds(store)
    fresh = [build for build in builds if build["started_at"] >= since]
    if fresh and published_since(settings.dbt.run_results_path, since):
        return Look("built and published", build=fresh[0])
    parts = [part for part in (_syncing(store), _building(instance)) if part]
    return Look(", ".join(parts)) if parts else _look_at_rest(store, builds, since, now)


def _look_at_rest(store: OpsStore, builds: list[Mapping[str, Any]], since: datetime, now: datetime) -> Look:
    """While nothing runs: what the sensors are about to find, or that there is nothing to find."""
    read_at = registry_health(store, now).succeeded_at
    if read_at is None or read_at < since:
        return Look("the registry is about to be read")
    registry = load_registry(store)
    if due := _due(store, registry, now):
        return Look(f"{len(due)} {'connection is' if len(due) == 1 else 'connections are'} due")
    if _unbuilt(store, builds):
        return Look("new data waits for the next look of the sensor dbt_refresh")
    if now - read_at < _SETTLED and now - since < 3 * _SETTLED:
        return Look("nothing is due so far")
    return Look(_nothing_due(registry, now), idle=True)


def _builds(store: OpsStore) -> list[Mapping[str, Any]]:
    """The builds that came to their end, oldest first."""
    completed = sa.and_(dbt_invocation.c.completed, dbt_invocation.c.models > 0)
    return rows_of(store, sa.select(dbt_invocation).where(completed).order_by(dbt_invocation.c.started_at))


def _syncing(store: OpsStore) -> str:
    states = sa.select(sync_intent.c.state, sa.func.count().label("number")).where(sync_intent.c.state.in_(_OPEN))
    numbers = {row["state"]: row["number"] for row in rows_of(store, states.group_by(sync_intent.c.state))}
    running, waiting = numbers.get("running", 0) + numbers.get("starting", 0), numbers.get("planned", 0)
    words = [f"{running} {'sync runs' if running == 1 else 'syncs run'}"] if running else []
    words += [f"{waiting} {'waits' if waiting == 1 else 'wait'} for a slot"] if waiting else []
    return ", ".join(words)


def _building(instance: dg.DagsterInstance) -> str:
    import dagster as dg

    states = {
        dg.DagsterRunStatus.STARTED: "dbt is building",
        dg.DagsterRunStatus.STARTING: "a dbt build is starting",
        dg.DagsterRunStatus.QUEUED: "a dbt build is queued",
        dg.DagsterRunStatus.NOT_STARTED: "a dbt build is queued",
    }
    runs = instance.get_runs(dg.RunsFilter(tags=_BUILD_TAG, statuses=list(states)))
    found = {run.status for run in runs}
    return next((words for status, words in states.items() if status in found), "")


def _due(store: OpsStore, registry: Registry, now: datetime) -> list[Connection]:
    """The connections whose newest slot has neither a sync nor a plan yet."""
    started = _newest(store, sync_job.c.connection_id, sync_job.c.started_at)
    planned = _newest(store, sync_intent.c.connection_id, sync_intent.c.due_slot)
    due = []
    for connection in registry.connections:
        if connection.standing is not Standing.ACTIVE:
            continue
        timezone = registry.tenant(connection.tenant_id).timezone
        slot = latest_slot(connection.schedule, timezone, now, connection.connection_id)
        done = max(_at(started, connection) + _CLOCK_SKEW, _at(planned, connection))
        if slot is not None and done < slot:
            due.append(connection)
    return due


def _newest(store: OpsStore, key: sa.Column[Any], moment: sa.Column[Any]) -> dict[Any, datetime]:
    query = sa.select(key.label("key"), sa.func.max(moment).label("moment")).group_by(key)
    return {row["key"]: row["moment"] for row in rows_of(store, query)}


def _at(moments: Mapping[Any, datetime], connection: Connection) -> datetime:
    return moments.get(connection.connection_id, datetime(1970, 1, 1, tzinfo=UTC))


def _unbuilt(store: OpsStore, builds: list[Mapping[str, Any]]) -> bool:
    """Whether a sync ended after the last good build began."""
    begun = max((build["started_at"] for build in builds if build["succeeded"]), default=None)
    ended = sa.select(sa.func.max(sync_job.c.ended_at).label("newest")).where(sync_job.c.status == "succeeded")
    (newest,) = (row["newest"] for row in rows_of(store, ended))
    return newest is not None and (begun is None or newest > begun)


def _nothing_due(registry: Registry, now: datetime) -> str:
    coming = [
        (slot, connection.partition_key)
        for connection in registry.connections
        if connection.standing is Standing.ACTIVE
        for slot in (
            next_slot(
                connection.schedule, registry.tenant(connection.tenant_id).timezone, now, connection.connection_id
            ),
        )
        if slot is not None
    ]
    if not coming:
        return "nothing is due, and no connection has a schedule"
    slot, key = min(coming)
    return f"nothing is due now; the next sync is {key} at {slot.astimezone(UTC):%H:%M} UTC"


def _built(build: Mapping[str, Any]) -> str:
    outcome = "all well" if build["succeeded"] else "some FAILED, see the UI"
    return f"  dbt: {build['models']} models in {build['elapsed_seconds']:.0f} s, {outcome}; results published"
