"""What Dagster was told of finished jobs, and reporters that die: for tests of what happens after a sync."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import sqlalchemy as sa
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.ingestion import specs
from adinsights_orchestration.ingestion.reporting import Reporter
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import report_batch, sync_job
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from tests.ingestion.finished import connection, registry

META = specs.asset_key(Provider.META)


class KilledError(Exception):
    """Stands for a process that ends between two statements."""


def reporter(instance: dg.DagsterInstance, store: OpsStore, *names: str) -> Reporter:
    return Reporter(instance, store, Settings(), registry(connection(name) for name in names))


def materialized(instance: dg.DagsterInstance, provider: Provider = Provider.META) -> list[tuple[str, int]]:
    wanted = dg.EventRecordsFilter(DagsterEventType.ASSET_MATERIALIZATION, asset_key=specs.asset_key(provider))
    records = instance.event_log_storage.get_event_records(wanted, ascending=True)
    found = []
    for record_ in records:
        materialization = record_.asset_materialization
        assert materialization is not None
        assert record_.partition_key is not None
        found.append((record_.partition_key, int(materialization.metadata[events.SYNC_ID_KEY].value)))  # type: ignore[arg-type]
    return found


def checks(instance: dg.DagsterInstance) -> dict[str | None, bool]:
    """The newest result of the `sync` check by partition, as the UI would show it."""
    key = dg.AssetCheckKey(META, specs.SYNC_CHECK)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
    return {record_.partition: record_.status.value == "SUCCEEDED" for record_ in reversed(history)}


def check_history(instance: dg.DagsterInstance) -> list[tuple[str | None, int]]:
    """Every result of the `sync` check, oldest first: its partition, and the job that it speaks of."""
    key = dg.AssetCheckKey(META, specs.SYNC_CHECK)
    found = []
    for record_ in reversed(instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)):
        assert record_.event is not None
        evaluation = record_.event.get_dagster_event().asset_check_evaluation_data
        found.append((record_.partition, int(evaluation.metadata[events.SYNC_ID_KEY].value)))  # type: ignore[arg-type]
    return found


def shown(instance: dg.DagsterInstance, partition: str) -> bool | None:
    """Whether the UI shows the partition's check as passed; None while nothing later than its data was evaluated."""
    key = dg.AssetCheckKey(META, specs.SYNC_CHECK)
    record_, *_ = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, partition_filter=PartitionKeyFilter(key=partition)
    )
    assert record_.event is not None
    target = record_.event.get_dagster_event().asset_check_evaluation_data.target_materialization_data
    latest = events.latest_materializations(instance, META, [partition]).get(partition)
    if (target.storage_id if target else None) != (latest.storage_id if latest else None):
        return None
    return record_.status.value == "SUCCEEDED"


def states(store: OpsStore) -> Counter[str]:
    with store.begin() as transaction:
        return Counter(transaction.execute(sa.select(sync_job.c.report_state)).scalars())


def materialized_by(instance: dg.DagsterInstance, run: dg.DagsterRun, partition: str, job_id: int) -> None:
    """What a run writes when it tells Dagster of a job's data."""
    materialization = dg.AssetMaterialization(META, partition=partition, metadata={events.SYNC_ID_KEY: job_id})
    data = StepMaterializationData(materialization)
    event = DagsterEvent(DagsterEventType.ASSET_MATERIALIZATION.value, run.job_name, event_specific_data=data)
    instance.report_dagster_event(event, run_id=run.run_id)


class DyingStore(OpsStore):
    """An ops store that ends the process before or after its n-th transaction."""

    def __init__(self, store: OpsStore, dies_at: int) -> None:
        self._engine, self._left = store.engine, dies_at

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        self._left -= 1
        if self._left == 0:
            raise KilledError
        with super().begin() as transaction:
            yield transaction
        self._left -= 1
        if self._left == 0:
            raise KilledError


def emptied(instance: dg.DagsterInstance, store: OpsStore) -> None:
    """A fresh world for the next example."""
    instance.event_log_storage.wipe()
    with store.begin() as transaction:
        transaction.execute(sa.delete(sync_job))
        transaction.execute(sa.delete(report_batch))
