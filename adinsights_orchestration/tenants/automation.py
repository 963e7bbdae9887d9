"""The registry in Dagster: a sensor that keeps every provider's partitions what the registry says.

Belongs here: the sensor, and from a registry to partition requests. Does not belong here: reading and judging the
registry (`refresh`). The tick compares with what Dagster has instead of trusting what changed, so that a tick that
died half-way is made good by the next. A retired connection's partition leaves the lists; its events stay and come
back with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import dagster as dg

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.logs import correlated
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Registry
from adinsights_orchestration.tenants.partitions import PARTITIONS
from adinsights_orchestration.tenants.refresh import RefreshReport, refresh
from adinsights_orchestration.unattended import declared, sensor_status

PartitionRequest = dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest


def build_registry_automation(settings: Settings, store: OpsStore) -> dg.Definitions:
    """Builds the registry sensor where the environment declares one."""
    unattended = declared(settings, Automation.REGISTRY)
    if unattended is None:
        return dg.Definitions()

    @dg.sensor(
        name=Automation.REGISTRY.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Reads tenants and connections; new ones appear as partitions. When it fails, the last good "
        "registry stays in force and new tenants wait.",
        tags={"adinsights/kind": "registry"},
    )
    @correlated
    def registry_refresh(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        report = refresh(settings, store, utc_now())
        requests = partition_requests(report.registry, context.instance.get_dynamic_partitions)
        return dg.SensorResult(skip_reason=summary(report, requests), dynamic_partitions_requests=requests)

    return dg.Definitions(sensors=[registry_refresh])


def partition_requests(registry: Registry, present: Callable[[str], Iterable[str]]) -> list[PartitionRequest]:
    """Returns what to add to and delete from Dagster's partitions so that they are the registry's.

    Args:
        registry: The registry in force; one that was never read changes nothing.
        present: Returns the partition keys that Dagster has, by the definition's name.
    """
    if not registry.tenants and not registry.connections:
        return []
    requests: list[PartitionRequest] = []
    served = registry.partitions()
    for provider, definition in PARTITIONS.items():
        have, want = set(present(provider.partitions_name)), served[provider]
        if added := [key for key in want if key not in have]:
            requests.append(definition.build_add_request(added))
        if gone := sorted(have.difference(want)):
            requests.append(definition.build_delete_request(gone))
    return requests


def apply_partitions(instance: dg.DagsterInstance, registry: Registry) -> None:
    """Makes Dagster's partitions the registry's at once, for commands that cannot wait for the sensor."""
    for request in partition_requests(registry, instance.get_dynamic_partitions):
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        else:
            for key in request.partition_keys:
                instance.delete_dynamic_partition(request.partitions_def_name, key)


def summary(report: RefreshReport, requests: list[PartitionRequest]) -> str:
    """One line for the sensor's tick."""
    connections = [c for c in report.registry.connections if not c.retired]
    parts = [f"{len(report.registry.tenants)} tenants, {len(connections)} connections"]
    added = sum(len(r.partition_keys) for r in requests if isinstance(r, dg.AddDynamicPartitionsRequest))
    gone = sum(len(r.partition_keys) for r in requests if isinstance(r, dg.DeleteDynamicPartitionsRequest))
    parts += [f"{added} partitions added"] if added else []
    parts += [f"{gone} partitions retired"] if gone else []
    parts += [f"{len(report.registry.problems)} problems"] if report.registry.problems else []
    parts += ["not read: another refresh is under way, or waits for a source that is slow"] if report.busy else []
    parts += [f"LAST GOOD REGISTRY KEPT: {report.error}"] if report.error else []
    return "; ".join(parts)
