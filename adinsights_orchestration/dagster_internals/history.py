"""Pruning what open-source Dagster keeps for ever: finished runs with all that they left, and events without a run.

Belongs here: which rows may go, and deleting them in bounded pieces. Does not belong here: for how long to keep
(settings). What the UI and freshness read is always kept: the newest materialization and observation of every asset
and partition, the newest evaluation of every check and partition, the newest freshness state of every asset. A run
that holds one of them stays whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.runs.schema import RunsTable
from dagster_postgres.event_log import PostgresEventLogStorage

from adinsights_orchestration.dagster_internals.run_output import Dropped, drop_of_run, drop_orphans

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_EVENT = SqlEventLogStorageTable
_CHECK = AssetCheckExecutionsTable
_NEWEST_BY_ASSET = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "FRESHNESS_STATE_CHANGE")
_PRUNABLE = (*_NEWEST_BY_ASSET, "ASSET_CHECK_EVALUATION")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one pruning deleted; `done` is False when it stopped at its budget and the next one goes on.

    `output` says of how many runs files were deleted, and `undeletable` of which they could not be, and why.
    """

    runs: int
    runs_kept_for_state: int
    events: int
    check_rows: int
    done: bool
    output: int = 0
    undeletable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Newest:
    """What must stay, as of the start: later events only make it more than enough."""

    events: frozenset[int]
    checks: frozenset[int]
    runs: frozenset[str]


def prune_history(
    instance: dg.DagsterInstance,
    *,
    runs_before: datetime,
    events_before: datetime,
    batch: int = 500,
    keep_going: Callable[[], bool] = lambda: True,
) -> Pruned:
    """Deletes finished runs updated before `runs_before` and events without a run older than `events_before`.

    Args:
        instance: The Dagster instance.
        runs_before: Age limit of runs.
        events_before: Age limit of events without a run and of check results, by their own time.
        batch: Runs or events per statement.
        keep_going: Asked between batches; False ends the pruning early.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return Pruned(0, 0, 0, 0, done=True)
    newest, dropped = _newest(storage), Dropped()
    runs, kept, runs_done = _prune_runs(instance, newest, runs_before, batch, keep_going, dropped)
    runs_done = drop_orphans(instance, dropped, keep_going) and runs_done
    files: dict[str, Any] = {"output": dropped.runs, "undeletable": tuple(dropped.problems)}
    if not isinstance(storage, PostgresEventLogStorage):  # only there do runs and events share a database
        return Pruned(runs, kept, 0, 0, runs_done, **files)
    moment = events_before.astimezone(UTC).replace(tzinfo=None)  # Dagster stores UTC without a zone
    checks, checks_done = _prune_checks(storage, newest, moment, batch, keep_going)
    events, events_done = _prune_runless(storage, newest, moment, batch, keep_going)
    return Pruned(runs, kept, events, checks, runs_done and checks_done and events_done, **files)


def _newest(storage: SqlEventLogStorage) -> _Newest:
    event_ids = (
        sa.select(sa.func.max(_EVENT.c.id))
        .where(_EVENT.c.dagster_event_type.in_(_NEWEST_BY_ASSET), _EVENT.c.asset_key.is_not(None))
        .group_by(_EVENT.c.dagster_event_type, _EVENT.c.asset_key, _EVENT.c.partition)
    )
    by_check = (_CHECK.c.asset_key, _CHECK.c.check_name, _CHECK.c.partition)
    newest_row = sa.select(sa.func.max(_CHECK.c.id)).group_by(*by_check)
    # A run that failed before its checks leaves a row that was only planned: newer, and no evaluation.
    newest_evaluation = newest_row.where(_CHECK.c.execution_status != AssetCheckExecutionRecordStatus.PLANNED.value)
    with storage.index_connection() as connection:
        events = connection.execute(sa.select(_EVENT.c.id, _EVENT.c.run_id).where(_EVENT.c.id.in_(event_ids))).all()
        checks = connection.execute(
            sa.select(_CHECK.c.id, _CHECK.c.run_id, _CHECK.c.evaluation_event_storage_id).where(
                sa.or_(_CHECK.c.id.in_(newest_row), _CHECK.c.id.in_(newest_evaluation))
            )
        ).all()
    return _Newest(
        events=frozenset(row[0] for row in events) | frozenset(row[2] for row in checks if row[2] is not None),
        checks=frozenset(row[0] for row in checks),
        runs=frozenset(row[1] for row in events) | frozenset(row[1] for row in checks),
    )


def _prune_runs(
    instance: dg.DagsterInstance,
    newest: _Newest,
    before: datetime,
    batch: int,
    keep_going: Callable[[], bool],
    dropped: Dropped,
) -> tuple[int, int, bool]:
    deleted = kept = 0
    cursor: str | None = None
    wanted = dg.RunsFilter(statuses=_FINISHED, updated_before=before)
    while keep_going():
        page = [record.dagster_run.run_id for record in instance.get_run_records(wanted, limit=batch, cursor=cursor)]
        if not page:
            return deleted, kept, True
        holding = [run_id for run_id in page if run_id in newest.runs]
        for run_id in page:
            if run_id not in newest.runs:
                instance.delete_run(run_id)
                drop_of_run(instance, run_id, dropped)
        deleted += len(page) - len(holding)
        kept += len(holding)
        # The listing runs from newest to oldest behind its cursor, which must be a run that still exists.
        cursor = holding[-1] if holding else cursor
    return deleted, kept, False


def _prune_checks(
    storage: PostgresEventLogStorage, newest: _Newest, before: datetime, batch: int, keep_going: Callable[[], bool]
) -> tuple[int, bool]:
    deleted = after = 0
    while keep_going():
        with storage.index_transaction() as connection:
            page = sa.select(_CHECK.c.id).where(_CHECK.c.id > after, _CHECK.c.evaluation_event_timestamp < before)
            ids = [row[0] for row in connection.execute(page.order_by(_CHECK.c.id).limit(batch))]
            if not ids:
                return deleted, True
            after = ids[-1]
            doomed = [row_id for row_id in ids if row_id not in newest.checks]
            deleted += connection.execute(_CHECK.delete().where(_CHECK.c.id.in_(doomed))).rowcount
    return deleted, False


def _prune_runless(
    storage: PostgresEventLogStorage, newest: _Newest, before: datetime, batch: int, keep_going: Callable[[], bool]
) -> tuple[int, bool]:
    deleted = after = 0
    while keep_going():
        with storage.index_transaction() as connection:
            ids = [row[0] for row in connection.execute(_runless_page(before, after, batch))]
            if not ids:
                return deleted, True
            after = ids[-1]
            doomed = [row_id for row_id in ids if row_id not in newest.events]
            connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(doomed)))
            deleted += connection.execute(_EVENT.delete().where(_EVENT.c.id.in_(doomed))).rowcount
    return deleted, False


def _runless_page(before: datetime, after: int, limit: int) -> sa.Select[tuple[int]]:
    """The next events, in id order, that belong to no run: reported without one, or under a made-up run id."""
    has_run = sa.exists().where(RunsTable.c.run_id == _EVENT.c.run_id)
    return (
        sa.select(_EVENT.c.id)
        .where(
            _EVENT.c.id > after,
            _EVENT.c.timestamp < before,
            _EVENT.c.dagster_event_type.in_(_PRUNABLE),
            sa.or_(_EVENT.c.run_id == "", ~has_run),
        )
        .order_by(_EVENT.c.id)
        .limit(limit)
    )
