"""From a repository's definitions to its topology, by Dagster's public interface alone.

Belongs here: what of a definition monitoring is told. Does not belong here: keeping it (`store`), when (`automation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg

from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.topology.model import Asset, Dashboard, Job, Schedule, Sensor, Topology

_DASHBOARD_KIND = "superset"
_PROVIDERS = {"/".join(provider.asset_path): provider.value for provider in Provider}


def read_topology(repository: dg.RepositoryDefinition, location: str) -> Topology:
    """Returns what the repository consists of.

    Args:
        repository: The definitions, loaded.
        location: The name of its code location.
    """
    specs = dict(_specs(repository))
    checks = _checks(repository)
    assets = tuple(_asset(repository, spec, checks.get(spec.key, ())) for _, spec in sorted(specs.items()))
    edges = Topology(location, assets)
    return Topology(
        location=location,
        assets=assets,
        dashboards=tuple(
            _dashboard(specs[asset.key], edges) for asset in assets if _DASHBOARD_KIND in specs[asset.key].kinds
        ),
        jobs=tuple(sorted(_jobs(repository), key=lambda job: job.name)),
        schedules=tuple(sorted(map(_schedule, repository.schedule_defs), key=lambda schedule: schedule.name)),
        sensors=tuple(sorted(map(_sensor, repository.sensor_defs), key=lambda sensor: sensor.name)),
    )


def _specs(repository: dg.RepositoryDefinition) -> Iterator[tuple[str, dg.AssetSpec]]:
    for key, definition in repository.assets_defs_by_key.items():
        yield key.to_user_string(), definition.get_asset_spec(key)


def _checks(repository: dg.RepositoryDefinition) -> dict[dg.AssetKey, tuple[str, ...]]:
    found: dict[dg.AssetKey, set[str]] = {}
    for definition in repository.assets_defs_by_key.values():
        for check in definition.check_specs:
            found.setdefault(check.asset_key, set()).add(check.name)
    for key in repository.asset_checks_defs_by_key:
        found.setdefault(key.asset_key, set()).add(key.name)
    return {key: tuple(sorted(names)) for key, names in found.items()}


def _asset(repository: dg.RepositoryDefinition, spec: dg.AssetSpec, checks: tuple[str, ...]) -> Asset:
    partitions = spec.partitions_def
    return Asset(
        key=spec.key.to_user_string(),
        summary=_first_line(spec.description),
        group=spec.group_name or "",
        owners=tuple(sorted(str(owner) for owner in spec.owners)),
        kinds=tuple(sorted(spec.kinds)),
        upstream=tuple(sorted(dep.asset_key.to_user_string() for dep in spec.deps)),
        checks=checks,
        runbook=_text(spec.metadata, "runbook"),
        partitions=partitions.name if isinstance(partitions, dg.DynamicPartitionsDefinition) else None,
        external=not repository.assets_defs_by_key[spec.key].is_executable,
    )


def _dashboard(spec: dg.AssetSpec, edges: Topology) -> Dashboard:
    key = spec.key.to_user_string()
    reached = {_PROVIDERS[parent] for parent in edges.upstream_of(key) if parent in _PROVIDERS}
    # An edge says that rows may come from a provider; the exposure itself says whose figures are on it.
    said = {name.strip() for name in (_text(spec.metadata, "providers") or "").split(",")}
    return Dashboard(
        key=key,
        title=_text(spec.metadata, "title") or key,
        providers=tuple(sorted(reached & said or reached)),
        path=_text(spec.metadata, "Superset path"),
        url=_text(spec.metadata, "dashboard"),
    )


def _jobs(repository: dg.RepositoryDefinition) -> Iterator[Job]:
    own = set(repository.get_implicit_asset_job_names())
    for job in repository.get_all_jobs():
        if job.name not in own:
            yield Job(job.name, _first_line(job.description))


def _schedule(schedule: dg.ScheduleDefinition) -> Schedule:
    cron = schedule.cron_schedule
    return Schedule(
        name=schedule.name,
        job=schedule.job_name,
        cron=cron if isinstance(cron, str) else " | ".join(cron),
        timezone=schedule.execution_timezone,
        summary=_first_line(schedule.description),
    )


def _sensor(sensor: dg.SensorDefinition) -> Sensor:
    return Sensor(
        name=sensor.name,
        every_seconds=sensor.minimum_interval_seconds,
        jobs=tuple(sorted(target.job_name for target in sensor.targets)),
        summary=_first_line(sensor.description),
    )


def _text(metadata: Mapping[str, object], name: str) -> str | None:
    entry = metadata.get(name)
    value = entry.value if isinstance(entry, dg.MetadataValue) else entry
    return str(value) if value else None


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0].strip() if lines else ""
