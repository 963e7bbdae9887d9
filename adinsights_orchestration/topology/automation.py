"""The topology in Dagster: the sensor with which the pipelines location says what it consists of.

Belongs here: when it is said. Does not belong here: reading definitions (`read`), rows (`store`). The first tick after
a load publishes or confirms; every later one only looks whether what is in force still is what this load said, so
that a restored or emptied ops store gets it back by itself. What another load put in force later stays: two servers of
different releases, as in a rolling deployment, would else take turns for ever.
"""

from __future__ import annotations

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
    said: list[int] = []  # the row that this load put in force: definitions are built once a load

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
        told, row = tell(store, _topology(context), said[-1] if said else None, clock=clock)
        said[:] = said if row is None else [row]
        return dg.SensorResult(skip_reason=told)

    return dg.Definitions(sensors=[topology_publish])


def tell(store: OpsStore, topology: Topology, said: int | None, *, clock: Clock) -> tuple[str, int | None]:
    """Publishes or confirms the topology where that is called for.

    Args:
        store: The ops store.
        topology: What the location consists of.
        said: The row that this load put in force; None when it has not said anything yet.
        clock: The clock.

    Returns:
        What was done, in one line, and the row; None for it where nothing was written.

    Raises:
        OpsStoreError: The ops store does not answer; the next tick tries again.
    """
    with store.begin() as connection:
        current = kept.newest(connection)
    if said is not None and current is not None:
        if current.digest == digest_of(topology):
            return "unchanged", None
        if current.number > said:
            return "another load has published since; reload this location to put its topology in force", None
    with store.exclusive(LOCK) as mine:
        if not mine:
            return "another tick is publishing", None
        with store.begin() as connection:
            done = kept.publish(connection, topology, clock())
            current = kept.newest(connection)
    assert current is not None
    sizes = f"{len(topology.assets)} assets, {len(topology.dashboards)} dashboards, {len(topology.jobs)} jobs"
    return f"{done}: {sizes}", current.number


def _topology(context: dg.SensorEvaluationContext) -> Topology:
    repository, origin = context.repository_def, context.code_location_origin
    if repository is None:
        raise ValueError("a sensor's context names its repository in every tick of the daemon")
    return read_topology(repository, origin.location_name if origin else _LOCATION)
