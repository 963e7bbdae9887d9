"""Events without a run: backdated materializations and partitioned check evaluations, in batches.

Belongs here: one function per kind of event, each a bounded number of statements however many partitions there are.
Does not belong here: when or why to report. Dagster's public way stores one event a transaction (15 to 45 ms each
on Postgres); here a batch of one asset's events and all that Dagster keeps beside them is one transaction.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.event_api import EventRecordsFilter
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster_postgres.event_log import PostgresEventLogStorage

_Item = TypeVar("_Item")
_BATCH = 500
SYNC_ID_KEY = "airbyte/job_id"


@dataclass(frozen=True, slots=True)
class Materialized:
    """A materialization, of one partition where the asset has partitions, at the moment it happened in the world."""

    partition: str | None
    at: datetime
    metadata: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MaterializationRef:
    """The newest materialization of a partition, as a check evaluation has to point at it."""

    storage_id: int
    run_id: str
    timestamp: float


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check, of one partition where the asset has partitions."""

    partition: str | None
    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


def newest_entry(instance: dg.DagsterInstance) -> int:
    """Returns the number of the newest entry of the event log; 0 where it is empty."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def report_materializations(instance: dg.DagsterInstance, key: dg.AssetKey, items: Iterable[Materialized]) -> int:
    """Reports materializations of one asset without a run, oldest first, and returns how many.

    Give them in order of `at`: what is stored last is what Dagster takes for the newest, whatever its timestamp.
    Up to 500 events share a transaction on Postgres; other storages take them one by one.
    """
    reported = 0
    for batch in _batches((_materialization_entry(key, item) for item in items), _BATCH):
        _store_batch(instance, batch)
        reported += len(batch)
    return reported


def materialized_values(
    instance: dg.DagsterInstance, key: dg.AssetKey, *, after: int, metadata_key: str = SYNC_ID_KEY
) -> set[Any]:
    """Returns the values of one metadata entry in all materializations of `key` stored after the cursor `after`."""
    records = instance.event_log_storage.get_event_records(
        EventRecordsFilter(DagsterEventType.ASSET_MATERIALIZATION, asset_key=key, after_cursor=after)
    )
    return {
        value for record in records if (value := _metadata(record.asset_materialization).get(metadata_key)) is not None
    }


def run_materialized_values(instance: dg.DagsterInstance, run_id: str, *, metadata_key: str = SYNC_ID_KEY) -> set[Any]:
    """Returns the values of one metadata entry in all materializations that a run stored."""
    wanted = DagsterEventType.ASSET_MATERIALIZATION
    found: set[Any] = set()
    cursor: str | None = None
    while True:
        page = instance.event_log_storage.get_records_for_run(run_id, cursor=cursor, of_type=wanted, limit=_BATCH)
        for record in page.records:
            value = _metadata(record.event_log_entry.asset_materialization).get(metadata_key)
            found |= {value} if value is not None else set()
        if not page.has_more:
            return found
        cursor = page.cursor


def latest_materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Iterable[str]
) -> dict[str, MaterializationRef]:
    """Returns the newest materialization of each partition that has one, in two statements."""
    wanted = set(partitions)
    if not wanted:
        return {}
    storage = instance.event_log_storage
    ids = storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION, wanted)
    if not ids:
        return {}
    if isinstance(storage, PostgresEventLogStorage):
        return _refs(storage, ids)
    records = storage.get_event_records(
        EventRecordsFilter(DagsterEventType.ASSET_MATERIALIZATION, asset_key=key, storage_ids=list(ids.values()))
    )
    return {
        record.partition_key: MaterializationRef(record.storage_id, record.run_id, record.timestamp)
        for record in records
        if record.partition_key is not None
    }


def _refs(storage: PostgresEventLogStorage, ids: Mapping[str, int]) -> dict[str, MaterializationRef]:
    """Reads what points at these events from the table's columns: whole events cost more to parse than to write."""
    table = SqlEventLogStorageTable.c
    query = sa.select(table.partition, table.id, table.run_id, table.timestamp).where(table.id.in_(ids.values()))
    with storage.index_connection() as connection:
        rows = connection.execute(query).all()
    return {
        row.partition: MaterializationRef(row.id, row.run_id, row.timestamp.replace(tzinfo=UTC).timestamp())
        for row in rows
    }


def check_evaluation(
    key: dg.AssetKey, check_name: str, result: CheckResult, target: MaterializationRef | None
) -> AssetCheckEvaluation:
    """Builds a check evaluation.

    Without `target` the status of a partition that was ever materialized is not shown: give it where there is one.
    """
    return AssetCheckEvaluation(
        asset_key=key,
        check_name=check_name,
        passed=result.passed,
        description=result.description,
        severity=result.severity,
        partition=result.partition,
        metadata=_normalized(result.metadata),
        target_materialization_data=_target(target) if target else None,
    )


def _target(target: MaterializationRef) -> AssetCheckEvaluationTargetMaterializationData:
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=target.storage_id, run_id=target.run_id, timestamp=target.timestamp
    )


def report_checks(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    check_name: str,
    results: Iterable[CheckResult],
    *,
    at: datetime,
    by_run: str | None = None,
) -> int:
    """Reports check results in batches and returns how many.

    Dagster allows one evaluation per check, partition and run id, and counts all events without a run as one. So what
    no run evaluated carries a made-up run id, another one each batch; the price is a run link that leads nowhere.

    Args:
        instance: Where to report.
        key: The asset.
        check_name: The check.
        results: One of each partition at most, where a run reports them.
        at: When it was evaluated.
        by_run: The run that evaluated, if one did.
    """
    reported = 0
    for batch in _batches(results, _BATCH):
        partitions = [result.partition for result in batch if result.partition is not None]
        targets = latest_materializations(instance, key, partitions)
        run_id = by_run or str(uuid.uuid4())
        entries = [
            _entry(
                DagsterEvent(
                    DagsterEventType.ASSET_CHECK_EVALUATION.value,
                    RUNLESS_JOB_NAME,
                    event_specific_data=check_evaluation(key, check_name, result, targets.get(result.partition or "")),
                ),
                at,
                run_id,
            )
            for result in batch
        ]
        _store_checks(instance, entries)
        reported += len(entries)
    return reported


def plan_partitions(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, key: dg.AssetKey, partitions: Iterable[str]
) -> None:
    """Marks partitions as planned in a run without partition tags; those it never materializes show as failed."""
    op_context = context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context
    step_key = op_context._step_execution_context.step.key  # noqa: SLF001
    for partition in partitions:
        event = DagsterEvent.build_asset_materialization_planned_event(
            context.job_name, step_key, AssetMaterializationPlannedData(key, partition=partition)
        )
        context.instance.report_dagster_event(event, run_id=context.run.run_id)


def _materialization_entry(key: dg.AssetKey, item: Materialized) -> EventLogEntry:
    materialization = dg.AssetMaterialization(key, partition=item.partition, metadata=item.metadata, tags=item.tags)
    event = DagsterEvent(
        DagsterEventType.ASSET_MATERIALIZATION.value,
        RUNLESS_JOB_NAME,
        event_specific_data=StepMaterializationData(materialization),
    )
    return _entry(event, item.at, RUNLESS_RUN_ID)


def _entry(event: DagsterEvent, at: datetime, run_id: str) -> EventLogEntry:
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=run_id,
        timestamp=at.timestamp(),
        job_name=event.job_name,
        dagster_event=event,
    )


def _store_batch(instance: dg.DagsterInstance, entries: Sequence[EventLogEntry]) -> None:
    storage = instance.event_log_storage
    if not isinstance(storage, PostgresEventLogStorage):
        _store_one_by_one(instance, entries)
        return
    with storage.index_transaction() as connection:
        ids = [stored["id"] for stored in _insert(storage, connection, entries)]
        storage._store_asset_event_tags(connection, entries, ids)  # noqa: SLF001
        storage._store_asset_event(connection, entries[-1], ids[-1])  # noqa: SLF001


def _store_checks(instance: dg.DagsterInstance, entries: Sequence[EventLogEntry]) -> None:
    storage = instance.event_log_storage
    if not isinstance(storage, PostgresEventLogStorage):
        _store_one_by_one(instance, entries)
        return
    # One transaction for both tables: Dagster's own writer commits the event before the row that points at it.
    with storage.index_transaction() as connection:
        stored = _insert(storage, connection, entries)
        rows = [_check_row(entry, event) for entry, event in zip(entries, stored, strict=True)]
        connection.execute(AssetCheckExecutionsTable.insert(), rows)


def _store_one_by_one(instance: dg.DagsterInstance, entries: Iterable[EventLogEntry]) -> None:
    for entry in entries:
        instance.handle_new_event(entry)


def _insert(
    storage: PostgresEventLogStorage, connection: sa.Connection, entries: Sequence[EventLogEntry]
) -> list[dict[str, Any]]:
    """Inserts events and returns their rows, ids and all, in order.

    Rows are given as parameters: Dagster's batch puts them into the statement, which is then compiled anew each time.
    """
    rows = [storage._event_to_row(entry) for entry in entries]  # noqa: SLF001
    insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
    return [row | {"id": stored} for row, stored in zip(rows, connection.execute(insert, rows).scalars(), strict=True)]


def _check_row(entry: EventLogEntry, stored: Mapping[str, Any]) -> dict[str, Any]:
    evaluation = entry.get_dagster_event().asset_check_evaluation_data
    status = AssetCheckExecutionRecordStatus
    target = evaluation.target_materialization_data
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "partition": evaluation.partition,
        "run_id": entry.run_id,
        "execution_status": (status.SUCCEEDED if evaluation.passed else status.FAILED).value,
        "evaluation_event": stored["event"],
        "evaluation_event_timestamp": datetime.fromtimestamp(entry.timestamp, UTC).replace(tzinfo=None),
        "evaluation_event_storage_id": stored["id"],
        "materialization_event_storage_id": target.storage_id if target else None,
    }


def _metadata(materialization: dg.AssetMaterialization | None) -> Mapping[str, Any]:
    entries = materialization.metadata if materialization else {}
    return {name: entry.value for name, entry in entries.items()}


def _normalized(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return dg.AssetMaterialization("_", metadata=metadata).metadata


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
