"""What definitions hold, as lines that a person can read in a review: one per job, schedule, sensor and asset."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

import dagster as dg
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

ASSET_JOB = "__ASSET_JOB"  # Dagster's own, behind the button "Materialize"
WIDTH = 120


def listing(repository: dg.RepositoryDefinition) -> str:
    """Everything that the repository holds: jobs with what starts them, then schedules and sensors."""
    lines = [*_jobs(repository), *_schedules(repository), *_sensors(repository)]
    return "\n".join(lines)


def assets(repository: dg.RepositoryDefinition) -> str:
    """Every asset with group, owners and kinds, its partitions and freshness, and its checks."""
    graph = repository.asset_graph
    return "\n".join(line for key in sorted(graph.get_all_asset_keys()) for line in _asset(repository, key))


def jobs_of(repository: dg.RepositoryDefinition) -> list[dg.JobDefinition]:
    """The jobs that a person sees, by name."""
    return sorted((job for job in repository.get_all_jobs() if job.name != ASSET_JOB), key=lambda job: job.name)


def _jobs(repository: dg.RepositoryDefinition) -> Iterator[str]:
    starters: dict[str, list[str]] = {}
    for schedule in repository.schedule_defs:
        starters.setdefault(schedule.job_name, []).append(f"schedule {schedule.name}")
    for sensor in repository.sensor_defs:
        for target in sensor.targets:
            starters.setdefault(target.job_name, []).append(f"sensor {sensor.name}")
    for job in jobs_of(repository):
        tags = ", ".join(f"{name}={value}" for name, value in sorted(job.tags.items()))
        yield f"job {job.name}: started by {', '.join(sorted(starters.get(job.name, ['people only'])))} [{tags}]"


def _schedules(repository: dg.RepositoryDefinition) -> Iterator[str]:
    for schedule in sorted(repository.schedule_defs, key=lambda one: one.name):
        when = f"{schedule.cron_schedule!r} {schedule.execution_timezone}"
        yield f"schedule {schedule.name}: {when}, {schedule.default_status.value}"


def _sensors(repository: dg.RepositoryDefinition) -> Iterator[str]:
    for sensor in sorted(repository.sensor_defs, key=lambda one: one.name):
        starts = ", ".join(sorted(target.job_name for target in sensor.targets)) or "no run"
        every = f"every {sensor.minimum_interval_seconds} s"
        yield f"sensor {sensor.name}: {every}, {sensor.default_status.value}, starts {starts}"


def _asset(repository: dg.RepositoryDefinition, key: dg.AssetKey) -> Iterator[str]:
    node = repository.asset_graph.get(key)
    parts = [f"group {node.group_name}", _joined("owner", node.owners), _joined("kind", sorted(node.kinds))]
    if isinstance(node.partitions_def, dg.DynamicPartitionsDefinition):
        parts.append(f"partitions {node.partitions_def.name}")
    policy = node.freshness_policy
    if isinstance(policy, TimeWindowFreshnessPolicy):
        parts.append(f"fresh for {policy.fail_window.to_timedelta()}")
    if not node.is_materializable:
        parts.append("external")
    yield f"asset {key.to_user_string()}: {'; '.join(parts)}"
    checks = sorted(check.name for check in node.check_keys)
    if checks:
        yield textwrap.fill(
            "checks " + ", ".join(checks), WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False
        )


def _joined(name: str, values: Iterable[str]) -> str:
    return f"{name} {', '.join(values)}"
