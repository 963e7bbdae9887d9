"""Kept connections: fewer of them, and as hard to lose an event with as Dagster's own way."""

from __future__ import annotations

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.dagster_internals.connections import keep_connections

KEY = dg.AssetKey("built")


def _backend(instance: dg.DagsterInstance) -> int:
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        return int(connection.execute(sa.text("select pg_backend_pid()")).scalar_one())


def _report(instance: dg.DagsterInstance, number: int) -> None:
    for _ in range(number):
        instance.report_runless_asset_event(dg.AssetMaterialization(KEY))


def test_events_share_the_connections_that_are_kept(postgres_instance: dg.DagsterInstance) -> None:
    def used() -> set[int]:
        found = set()
        for _ in range(5):
            _report(postgres_instance, 1)
            found.add(_backend(postgres_instance))
        return found

    assert len(used()) == 5
    keep_connections(postgres_instance)
    kept = used()
    assert len(kept) <= 2
    keep_connections(postgres_instance)
    assert used() <= kept


def test_a_connection_that_the_server_closed_is_opened_again_and_no_event_is_lost(
    postgres_instance: dg.DagsterInstance,
) -> None:
    keep_connections(postgres_instance)
    _report(postgres_instance, 1)
    url = postgres_instance.event_log_storage.postgres_url  # type: ignore[attr-defined]
    admin = sa.create_engine(url, poolclass=sa.NullPool)
    with admin.connect() as connection:
        closed = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
        connection.execute(sa.text(f"{closed} and pid <> pg_backend_pid()"))
    _report(postgres_instance, 1)
    stored = postgres_instance.event_log_storage.get_maximum_record_id()
    assert stored == 2


def test_an_instance_on_other_storage_is_left_as_it_is() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        keep_connections(instance)
        _report(instance, 1)
        assert instance.get_latest_materialization_event(KEY) is not None
