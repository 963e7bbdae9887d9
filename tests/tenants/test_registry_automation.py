"""The registry sensor makes Dagster's partitions what the registry says, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid5

import dagster as dg

from adinsights_orchestration.tenants.automation import apply_partitions, partition_requests
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from adinsights_orchestration.tenants.partitions import PARTITIONS
from adinsights_orchestration.tenants.store import NEVER_READ

SPACE = UUID("6f1d5f2e-0000-4000-8000-000000000000")
TENANT = Tenant(uuid5(SPACE, "acme"), "Acme", "acme")


def _connection(name: str, provider: Provider = Provider.META, *, retired: bool = False) -> Connection:
    row = uuid5(SPACE, name)
    schedule = Schedule(ScheduleType.MANUAL)
    key = f"acme/{name}-{str(row)[:8]}"
    return Connection(row, TENANT.id, provider, name, row, schedule, retired=retired, partition_key=key)


def _registry(*connections: Connection) -> Registry:
    return Registry((TENANT,), connections, "test", datetime(2026, 1, 1, tzinfo=UTC))


def _keys(instance: dg.DagsterInstance, provider: Provider = Provider.META) -> list[str]:
    return sorted(instance.get_dynamic_partitions(provider.partitions_name))


def test_a_new_connection_appears_as_a_partition_of_its_provider_only() -> None:
    meta, tiktok = _connection("meta"), _connection("tiktok", Provider.TIKTOK_ADS)
    with dg.DagsterInstance.ephemeral() as instance:
        apply_partitions(instance, _registry(meta, tiktok))
        assert _keys(instance) == [meta.partition_key]
        assert _keys(instance, Provider.TIKTOK_ADS) == [tiktok.partition_key]
        assert _keys(instance, Provider.GA4) == []


def test_a_connection_that_leaves_loses_its_partition_and_gets_it_back_when_it_returns() -> None:
    staying, leaving = _connection("staying"), _connection("leaving")
    with dg.DagsterInstance.ephemeral() as instance:
        apply_partitions(instance, _registry(staying, leaving))
        apply_partitions(instance, _registry(staying, _connection("leaving", retired=True)))
        assert _keys(instance) == [staying.partition_key]
        apply_partitions(instance, _registry(staying, leaving))
        assert _keys(instance) == sorted([leaving.partition_key, staying.partition_key])


def test_a_history_survives_the_time_that_its_connection_was_away() -> None:
    meta = _connection("meta")
    key = dg.AssetKey(Provider.META.asset_path)
    with dg.DagsterInstance.ephemeral() as instance:
        apply_partitions(instance, _registry(meta))
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=meta.partition_key))
        apply_partitions(instance, _registry(_connection("meta", retired=True), _connection("other")))
        apply_partitions(instance, _registry(meta))
        assert instance.get_materialized_partitions(key) == {meta.partition_key}


def test_a_registry_that_was_never_read_changes_nothing() -> None:
    assert partition_requests(NEVER_READ, lambda _name: ["acme/meta-12345678"]) == []


def test_partitions_that_are_right_already_make_no_request() -> None:
    meta = _connection("meta")
    present = {Provider.META.partitions_name: [meta.partition_key]}
    assert partition_requests(_registry(meta), lambda name: present.get(name, [])) == []


def test_what_a_lost_tick_did_not_add_is_added_by_the_next() -> None:
    first, second = _connection("first"), _connection("second")
    present = {Provider.META.partitions_name: [first.partition_key]}
    (request,) = partition_requests(_registry(first, second), lambda name: present.get(name, []))
    assert isinstance(request, dg.AddDynamicPartitionsRequest)
    assert list(request.partition_keys) == [second.partition_key]
    assert request.partitions_def_name == PARTITIONS[Provider.META].name
