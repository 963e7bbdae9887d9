"""How runs ended and how asset checks stand, for whoever follows Dagster's log.

Belongs here: reading Dagster's storages, a bounded number of rows at a time. Does not belong here: what follows from it
(`alerting`). Several processes write the event log, so a row with a lower number may appear after one with a higher:
whoever follows reads a stretch again (`REREAD`) and takes each row's number as its place in the order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sa
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._serdes import deserialize_value

from adinsights_orchestration.dagster_internals.events import newest_entry

REREAD = 1000  # rows
READ_AT_ONCE = 200  # of each kind of end
_WILL_RETRY = "dagster/will_retry"
_CHECK = AssetCheckExecutionsTable.c
_ENDS = {
    dg.DagsterEventType.RUN_SUCCESS: "succeeded",
    dg.DagsterEventType.RUN_FAILURE: "failed",
}


@dataclass(frozen=True, slots=True)
class RunEnd:
    """One run's end.

    Attributes:
        id: Its number in the event log.
        at: When.
        run_id: The run.
        job: Its job.
        assets: What it was to make, where its job is Dagster's own for assets.
        succeeded: Whether it did.
        retried: Whether a failure is tried again; None while Dagster has not decided.
        error: The first line of the failure.
    """

    id: int
    at: datetime
    run_id: str
    job: str
    assets: tuple[str, ...]
    succeeded: bool
    retried: bool | None
    error: str


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check whose newest evaluation failed with severity error."""

    asset: str
    check: str
    partition: str | None
    at: datetime
    run_id: str
    detail: str


def run_ends(instance: dg.DagsterInstance, after: int) -> tuple[list[RunEnd], int]:
    """Returns ends of runs after a place in the event log, in order, and the place up to which that is all."""
    complete_to = max(newest_entry(instance), after)
    found: list[RunEnd] = []
    for kind in _ENDS:
        wanted = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after)  # type: ignore[arg-type]
        records = instance.fetch_run_status_changes(wanted, limit=READ_AT_ONCE, ascending=True).records
        if len(records) == READ_AT_ONCE:
            complete_to = min(complete_to, records[-1].storage_id)
        found += _ends(instance, records, succeeded=kind is dg.DagsterEventType.RUN_SUCCESS)
    return sorted((end for end in found if end.id <= complete_to), key=lambda end: end.id), complete_to


def failed_checks(instance: dg.DagsterInstance, checks: Collection[tuple[str, str]]) -> list[FailedCheck]:
    """Returns those of the checks (asset, name) whose newest evaluation failed, in one statement.

    Dagster's own statement returns the newest row, and a run writes one for each of its checks as soon as it is made: a
    build that is under way, or died, would say of everything that it was to check that it fails no more.
    """
    keys = {(dg.AssetKey.from_user_string(asset).to_string(), name): (asset, name) for asset, name in checks}
    if not keys:
        return []
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        rows = connection.execute(_newest_failed(keys)).all()
    return [failed for row in rows if (failed := _failed(keys.get((row[0], row[1])), *row[2:])) is not None]


def last_materialized(instance: dg.DagsterInstance, assets: Collection[str]) -> dict[str, datetime]:
    """Returns when each of the assets was last materialized, in one statement; what never was is not in it."""
    keys = [dg.AssetKey.from_user_string(key) for key in assets]
    if not keys:
        return {}
    events = instance.get_latest_materialization_events(keys)
    return {
        key.to_user_string(): datetime.fromtimestamp(event.timestamp, UTC)
        for key, event in events.items()
        if event is not None
    }


def _ends(instance: dg.DagsterInstance, records: Collection[dg.EventLogRecord], *, succeeded: bool) -> Iterator[RunEnd]:
    runs = _runs(instance, [record.event_log_entry.run_id for record in records])
    decides = instance.run_retries_enabled
    for record in records:
        run = runs.get(record.event_log_entry.run_id)
        if run is None:
            continue  # pruned since
        tag = run.tags.get(_WILL_RETRY)
        retried = None if tag is None and decides else tag == "true"
        yield RunEnd(
            record.storage_id,
            datetime.fromtimestamp(record.timestamp, UTC),
            run.run_id,
            run.job_name,
            tuple(sorted(key.to_user_string() for key in run.asset_selection or ())),
            succeeded,
            False if succeeded else retried,
            "" if succeeded else _error(record),
        )


def _runs(instance: dg.DagsterInstance, run_ids: list[str]) -> Mapping[str, dg.DagsterRun]:
    if not run_ids:
        return {}
    return {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=run_ids))}


def _error(record: dg.EventLogRecord) -> str:
    event = record.event_log_entry.dagster_event
    text = (event.message if event is not None else None) or record.event_log_entry.user_message
    return next(iter(text.strip().splitlines()), "")


def _newest_failed(keys: Collection[tuple[str, str]]) -> sa.Select[tuple[str, str, str | None, str, str]]:
    """Of each check whose newest evaluation failed, that row: what passes is counted, not read."""
    assets, names = {asset for asset, _ in keys}, {name for _, name in keys}
    newest = (
        sa.select(sa.func.max(_CHECK.id))
        .where(_CHECK.asset_key.in_(assets), _CHECK.check_name.in_(names))
        .where(_CHECK.execution_status != AssetCheckExecutionRecordStatus.PLANNED.value)
        .group_by(_CHECK.asset_key, _CHECK.check_name)
    )
    wanted = sa.and_(_CHECK.id.in_(newest), _CHECK.execution_status == AssetCheckExecutionRecordStatus.FAILED.value)
    query = sa.select(_CHECK.asset_key, _CHECK.check_name, _CHECK.partition, _CHECK.run_id, _CHECK.evaluation_event)
    return query.where(wanted).order_by(_CHECK.id)


def _failed(key: tuple[str, str] | None, partition: str | None, run_id: str, event: str) -> FailedCheck | None:
    """The row as a value; None where it only warns, or is of a check that merely has the name of one asked for."""
    if key is None:
        return None
    entry = deserialize_value(event, EventLogEntry)
    evaluation = entry.get_dagster_event().asset_check_evaluation_data
    if evaluation.severity is not dg.AssetCheckSeverity.ERROR:
        return None
    at = datetime.fromtimestamp(entry.timestamp, UTC)
    return FailedCheck(*key, partition, at, run_id, evaluation.description or "It failed.")
