"""Runs that Dagster calls started, what they say of themselves, and the end of one whose process is gone.

Belongs here: reading and correcting Dagster's record of runs. Does not belong here: deciding that a run is dead
(`liveness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

_AT_MOST = 500  # far more than the run queue lets run at once


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that has started and, as far as Dagster knows, not ended.

    Args:
        run_id: Its id.
        tags: Its tags.
        started_at: When its worker reported in.
        newest_event: Storage id of the newest entry in its log.
    """

    run_id: str
    tags: Mapping[str, str]
    started_at: datetime
    newest_event: int


def started_runs(instance: dg.DagsterInstance, tag_names: frozenset[str]) -> list[StartedRun]:
    """Returns the started runs that have any of these tags, whatever its value."""
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]), limit=_AT_MOST)
    return [
        StartedRun(
            record.dagster_run.run_id,
            record.dagster_run.tags,
            datetime.fromtimestamp(record.start_time or record.create_timestamp.timestamp(), UTC),
            _newest_event(instance, record.dagster_run.run_id),
        )
        for record in records
        if tag_names & record.dagster_run.tags.keys()
    ]


def _newest_event(instance: dg.DagsterInstance, run_id: str) -> int:
    newest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return newest[0].storage_id if newest else 0


def fail_started_run(instance: dg.DagsterInstance, run_id: str, message: str) -> bool:
    """Marks the run as failed; returns False, and does nothing, when it is not started any more."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.STARTED:
        return False
    instance.report_run_failed(run, message)
    return True


def add_tags(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
    """Adds tags to a run that exists."""
    instance.add_run_tags(run_id, tags)


def is_only_step(context: dg.OpExecutionContext) -> bool:
    """Whether the run consists of this op alone."""
    return len(context.job_def.nodes) == 1
