"""One cycle of the product on the local stack: sync every connection, build the models, publish the run results.

Belongs here: running that cycle with the product's own jobs, and showing a person what came of it. Does not belong
here: any of the work, which is the same code that production runs, and the automation's cycle (`first_cycle`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.local.interrupts import never_swallowed
from adinsights_orchestration.local.progress import (
    Say,
    SyncLines,
    finished_syncs,
    published_since,
    rows_of,
    telling,
    whole_seconds,
)
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation, dbt_model_result
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection, Standing

_QUIET_LOGGERS = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What one cycle did.

    Attributes:
        syncs: A row per sync that ended, and per connection of which none did: partition, status, rows, seconds,
            reason.
        builds: The dbt commands of the build, in order: a second one goes on without what failed in the first. Empty
            when dbt was not reached.
        failed_models: Models that did not succeed, with dbt's message.
        failed_runs: Jobs of the cycle that failed, whatever of.
        published: The run results file, None when it was not written.
        seconds: Wall time of the whole cycle.
    """

    syncs: tuple[Mapping[str, Any], ...]
    builds: tuple[Mapping[str, Any], ...]
    failed_models: tuple[Mapping[str, Any], ...]
    failed_runs: tuple[str, ...]
    published: Path | None
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether each connection's last sync succeeded, all was built and tested, and the results were published."""
        last = {row["partition"]: row["status"] for row in self.syncs}
        synced = bool(last) and set(last.values()) == {"succeeded"}
        built = bool(self.builds) and all(row["completed"] and row["succeeded"] for row in self.builds)
        unharmed = not self.failed_models and not self.failed_runs
        return synced and built and unharmed and self.published is not None


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the cycle: its job, its id, and whether it succeeded."""

    job: str
    run_id: str
    succeeded: bool


class CycleError(AdinsightsError):
    """The cycle could not be run at all."""


def run(settings: Settings, say: Say) -> CycleResult:
    """Runs one cycle in this process, on the Dagster instance of the stack, and returns what it did."""
    import dagster as dg

    from adinsights_orchestration.build import build_pipelines
    from adinsights_orchestration.tenants.automation import apply_partitions
    from adinsights_orchestration.tenants.refresh import refresh

    for category in (dg.PreviewWarning, dg.BetaWarning):
        warnings.filterwarnings("ignore", category=category)
    began, started = time.monotonic(), utc_now()
    store = OpsStore(settings.ops_store)
    report = refresh(settings, store, started)
    if report.error:
        raise CycleError(report.error)
    driven = [c for c in report.registry.connections if c.standing in (Standing.ACTIVE, Standing.MANUAL)]
    say(f"registry: {len(report.registry.tenants)} tenants, {len(driven)} connections to sync")
    definitions = build_pipelines(settings)
    with dg.DagsterInstance.get() as instance:
        apply_partitions(instance, report.registry)
        with telling(say, "syncing", SyncLines(store, say, started)):
            keys = [connection.partition_key for connection in driven]
            config = {"ops": {"sync": {"config": {"partitions": keys, "requested_by": "adinsights local demo"}}}}
            runs = [_execute(definitions, "sync_connections", instance, config)]
        say("building the models with dbt")
        with telling(say, "dbt is building"):
            runs.append(_execute(definitions, "dbt_build", instance, {}))
    result = read_result(settings, store, driven, started, runs, time.monotonic() - began)
    store.dispose()
    return result


def show(result: CycleResult) -> None:
    """Prints the cycle as tables, and what to do about what failed."""
    from adinsights_orchestration.cli import process

    process.print_rows(list(result.syncs), as_json=False, title="Synced")
    published = str(result.published or "not published")
    built = [
        {
            "models": build["models"],
            "succeeded": "yes" if build["succeeded"] else "no",
            "seconds": round(build["elapsed_seconds"], 1),
            "published": published,
        }
        for build in result.builds
    ]
    nothing = {"models": 0, "succeeded": "no", "seconds": "", "published": published}
    process.print_rows(built or [nothing], as_json=False, title="Built and published")
    if result.failed_models:
        process.print_rows(list(result.failed_models), as_json=False, title="Models that failed")
    if result.failed_runs:
        process.say(f"failed: {', '.join(result.failed_runs)}; `make up`, and the run's log in the UI says why")
    verdict = "one cycle, all well" if result.succeeded else "the cycle FAILED: see the tables above"
    process.say(f"{verdict}, in {result.seconds:.0f} s")


def _execute(definitions: Any, job: str, instance: Any, config: Mapping[str, Any]) -> Ran:
    with never_swallowed():
        done = definitions.resolve_job_def(job).execute_in_process(
            run_config={**config, **_QUIET_LOGGERS}, instance=instance, raise_on_error=False
        )
    return Ran(job, str(done.run_id), bool(done.success))


def read_result(
    settings: Settings,
    store: OpsStore,
    asked: Sequence[Connection],
    since: datetime,
    runs: Sequence[Ran],
    seconds: float,
) -> CycleResult:
    """Reads what a cycle did.

    Args:
        settings: Where the run results are published.
        store: The ops store.
        asked: The connections that should have been synced.
        since: When the cycle began.
        runs: Its runs.
        seconds: How long it took.
    """
    mine = dbt_invocation.c.run_id.in_([run.run_id for run in runs])
    builds = rows_of(store, sa.select(dbt_invocation).where(mine).order_by(dbt_invocation.c.started_at))
    failed = sa.select(dbt_model_result.c.unique_id, dbt_model_result.c.status, dbt_model_result.c.message)
    models = rows_of(store, failed.where(dbt_model_result.c.status.not_in(("success", "skipped"))))
    path = settings.dbt.run_results_path
    ended = [_sync_row(row) for row in finished_syncs(store, since)]
    known = {row["partition"] for row in ended}
    return CycleResult(
        syncs=(*ended, *(_no_sync_row(each) for each in asked if each.partition_key not in known)),
        builds=tuple(builds),
        failed_models=tuple(models),
        failed_runs=tuple(run.job for run in runs if not run.succeeded),
        published=path if published_since(path, since) else None,
        seconds=seconds,
    )


def _sync_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "partition": row["partition_key"],
        "provider": row["provider"],
        "status": row["status"],
        "rows": row["rows_synced"],
        "seconds": whole_seconds(row),
        "reason": row["failure_message"],
    }


def _no_sync_row(connection: Connection) -> dict[str, Any]:
    reason = "no sync of it ended: `adinsights local logs service`"
    row = {"partition": connection.partition_key, "provider": connection.provider.value, "status": "unfinished"}
    return {**row, "rows": None, "seconds": None, "reason": reason}
