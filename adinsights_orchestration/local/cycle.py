"""One cycle of the product on the local stack: sync every connection, build the models, publish the run results.

Belongs here: running that cycle with the product's own jobs, following the one that the automation runs, and telling a
person about either. Does not belong here: any of the work; it is the same code that production runs.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation, dbt_model_result, sync_job
from adinsights_orchestration.settings import Settings

Say = Callable[[str], None]
now = utc_now
_POLL_SECONDS = 1.0
_HEARTBEAT_SECONDS = 10.0
_FIRST_CYCLE_SECONDS = 300.0
_QUIET_LOGGERS = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What one cycle did.

    Attributes:
        syncs: A row per connection: partition, status, rows, seconds, reason.
        build: The dbt invocation's row; None when dbt was not reached.
        failed_models: Models that did not succeed, with dbt's message.
        published: The run results file, None when it was not written.
        seconds: Wall time of the whole cycle.
    """

    syncs: tuple[Mapping[str, Any], ...]
    build: Mapping[str, Any] | None
    failed_models: tuple[Mapping[str, Any], ...]
    published: Path | None
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether every sync succeeded, every model was built, and the results were published."""
        synced = bool(self.syncs) and all(row["status"] == "succeeded" for row in self.syncs)
        built = self.build is not None and bool(self.build["succeeded"])
        return synced and built and self.published is not None


class CycleError(AdinsightsError):
    """The cycle could not be run at all."""


def run(settings: Settings, say: Say) -> CycleResult:
    """Runs one cycle in this process, on the Dagster instance of the stack, and returns what it did."""
    import dagster as dg

    from adinsights_orchestration.build import build_pipelines
    from adinsights_orchestration.tenants.automation import apply_partitions
    from adinsights_orchestration.tenants.cron import parse_cron
    from adinsights_orchestration.tenants.model import Standing
    from adinsights_orchestration.tenants.refresh import refresh

    for category in (dg.PreviewWarning, dg.BetaWarning):
        warnings.filterwarnings("ignore", category=category)
    began, started = time.monotonic(), utc_now()
    store = OpsStore(settings.ops_store)
    report = refresh(settings, store, started, check_cron=parse_cron)
    if report.error:
        raise CycleError(report.error)
    driven = [c for c in report.registry.connections if c.standing in (Standing.ACTIVE, Standing.MANUAL)]
    say(f"registry: {len(report.registry.tenants)} tenants, {len(driven)} connections to sync")
    definitions = build_pipelines(settings)
    with dg.DagsterInstance.get() as instance:
        apply_partitions(instance, report.registry)
        with _Progress(store, say, started):
            keys = [connection.partition_key for connection in driven]
            config = {"ops": {"sync": {"config": {"partitions": keys, "requested_by": "adinsights local demo"}}}}
            _execute(definitions, "sync_connections", instance, config)
        with _heartbeat(say, "dbt is building"):
            build_run = _execute(definitions, "dbt_build", instance, {})
    result = _result(settings, store, started, build_run, time.monotonic() - began)
    store.dispose()
    return result


def follow_first(settings: Settings, say: Say, *, since: datetime) -> None:
    """Tells what the automation does after `since` until syncs, a build and published results were seen."""
    store = OpsStore(settings.ops_store)
    say("the automation is running; its first cycle:")
    deadline = time.monotonic() + _FIRST_CYCLE_SECONDS
    done: list[Mapping[str, Any]] = []
    with _Progress(store, say, since):
        while time.monotonic() < deadline:
            builds = _rows(store, sa.select(dbt_invocation).where(dbt_invocation.c.started_at >= since))
            done = [build for build in builds if build["completed"]]
            if done and _published_since(settings.dbt.run_results_path, since):
                break
            time.sleep(_POLL_SECONDS)
        else:
            say(f"the first cycle is not over after {_FIRST_CYCLE_SECONDS:.0f} s; it goes on, watch it in the UI")
    for build in done:
        outcome = "succeeded" if build["succeeded"] else "FAILED"
        say(f"  dbt: {build['models']} models, {outcome}, {build['elapsed_seconds']:.0f} s; results published")
    store.dispose()


def show(result: CycleResult) -> None:
    """Prints the cycle as tables, and what to do about what failed."""
    from adinsights_orchestration.cli import process

    process.print_rows(list(result.syncs), as_json=False, title="Synced")
    build = result.build
    built = {
        "models": build["models"] if build else 0,
        "succeeded": "yes" if build and build["succeeded"] else "no",
        "seconds": round(build["elapsed_seconds"], 1) if build else "",
        "published": str(result.published or "not published"),
    }
    process.print_rows([built], as_json=False, title="Built and published")
    if result.failed_models:
        process.print_rows(list(result.failed_models), as_json=False, title="Models that failed")
    verdict = "one cycle, all well" if result.succeeded else "the cycle FAILED: see the tables above"
    process.say(f"{verdict}, in {result.seconds:.0f} s")


def _execute(definitions: Any, job: str, instance: Any, config: Mapping[str, Any]) -> str:
    done = definitions.resolve_job_def(job).execute_in_process(
        run_config={**config, **_QUIET_LOGGERS}, instance=instance, raise_on_error=False
    )
    return str(done.run_id)


def _result(settings: Settings, store: OpsStore, since: datetime, run_id: str, seconds: float) -> CycleResult:
    builds = _rows(store, sa.select(dbt_invocation).where(dbt_invocation.c.run_id == run_id))
    failed = sa.select(dbt_model_result.c.unique_id, dbt_model_result.c.status, dbt_model_result.c.message)
    models = _rows(store, failed.where(dbt_model_result.c.status.not_in(("success", "skipped"))))
    path = settings.dbt.run_results_path
    return CycleResult(
        syncs=tuple(_sync_row(row) for row in _finished_syncs(store, since)),
        build=builds[-1] if builds else None,
        failed_models=tuple(models),
        published=path if _published_since(path, since) else None,
        seconds=seconds,
    )


def _sync_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "partition": row["partition_key"],
        "provider": row["provider"],
        "status": row["status"],
        "rows": row["rows_synced"],
        "seconds": round(row["duration_seconds"], 1) if row["duration_seconds"] is not None else None,
        "reason": row["failure_message"] or "",
    }


def _finished_syncs(store: OpsStore, since: datetime) -> list[Mapping[str, Any]]:
    finished = sa.select(sync_job).where(sync_job.c.observed_at >= since, sync_job.c.ended_at.is_not(None))
    return _rows(store, finished.order_by(sync_job.c.ended_at))


def _rows(store: OpsStore, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
    with store.begin() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _published_since(path: Path, since: datetime) -> bool:
    return path.exists() and path.stat().st_mtime >= since.timestamp()


class _Progress:
    """Says one line for every sync that finishes while it is open, and that it is alive when none does."""

    def __init__(self, store: OpsStore, say: Say, since: datetime) -> None:
        self._store, self._say, self._since = store, say, since
        self._told: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tell()

    def _watch(self) -> None:
        began = quiet_since = time.monotonic()
        while not self._stop.wait(_POLL_SECONDS):
            if self._tell():
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > _HEARTBEAT_SECONDS:
                quiet_since = time.monotonic()
                self._say(f"  ... {quiet_since - began:.0f} s")

    def _tell(self) -> bool:
        fresh = [row for row in _finished_syncs(self._store, self._since) if row["job_id"] not in self._told]
        for row in fresh:
            self._told.add(row["job_id"])
            how = (
                f"{row['rows_synced'] or 0:,} rows"
                if row["status"] == "succeeded"
                else f"FAILED: {row['failure_message']}"
            )
            self._say(f"  synced {row['partition_key']}: {how} in {row['duration_seconds'] or 0:.0f} s")
        return bool(fresh)


class _heartbeat:  # noqa: N801  (used as a function)
    """Says that something long is still going on."""

    def __init__(self, say: Say, what: str) -> None:
        self._say, self._what = say, what
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._say(self._what)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(_HEARTBEAT_SECONDS):
            self._say(f"  ... {time.monotonic() - began:.0f} s")
