"""The topology in Dagster: the sensor with which the pipelines location says what it consists of.

Belongs here: when it is said. Does not belong here: reading definitions (`read`), rows (`store`). The first tick after
a load publishes or confirms; every later one only looks whether what is in force still is what this load said, so
that a restored or emptied ops store gets it back by itself.
"""

from __future__ import annotations

import uuid

import dagster as dg

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.logs import correlated
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.topology import store as kept
from adinsights_orchestration.topology.model import Topology, digest_of
from adinsights_orchestration.topology.read import read_topology
from adinsights_orchestration.unattended import declared, sensor_status

LOCK = "topology_publish"
_LOCATION = "pipelines"


def build_topology(settings: Settings, store: OpsStore, *, clock: Clock = utc_now) -> dg.Definitions:
    """Builds the publishing sensor where the environment declares one."""
    unattended = declared(settings, Automation.TOPOLOGY)
    if unattended is None:
        return dg.Definitions()
    load = uuid.uuid4().hex  # definitions are built once a load

    @dg.sensor(
        name=Automation.TOPOLOGY.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Tells monitoring which assets, owners, edges, dashboards and runbook links there are. When it "
        "fails, alerts and the overview go on with what the last load said.",
        tags={"adinsights/kind": "topology"},
    )
    @correlated
    def topology_publish(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        told = tell(store, _topology(context), first=context.cursor != load, clock=clock)
        done = None if told is None else load
        return dg.SensorResult(skip_reason=told or "another tick is publishing", cursor=done)

    return dg.Definitions(sensors=[topology_publish])


def tell(store: OpsStore, topology: Topology, *, first: bool, clock: Clock) -> str | None:
    """Publishes or confirms the topology where that is called for.

    Args:
        store: The ops store.
        topology: What the location consists of.
        first: Whether this load has not said it yet.
        clock: The clock.

    Returns:
        What was done, in one line; None when another tick is at it.

    Raises:
        OpsStoreError: The ops store does not answer; the next tick tries again.
    """
    with store.begin() as connection:
        current = kept.published_digest(connection) == digest_of(topology)
    if current and not first:
        return "unchanged"
    with store.exclusive(LOCK) as mine:
        if not mine:
            return None
        with store.begin() as connection:
            done = kept.publish(connection, topology, clock())
    sizes = f"{len(topology.assets)} assets, {len(topology.dashboards)} dashboards, {len(topology.jobs)} jobs"
    return f"{done}: {sizes}"


def _topology(context: dg.SensorEvaluationContext) -> Topology:
    repository, origin = context.repository_def, context.code_location_origin
    if repository is None:
        raise ValueError("a sensor's context names its repository in every tick of the daemon")
    return read_topology(repository, origin.location_name if origin else _LOCATION)
