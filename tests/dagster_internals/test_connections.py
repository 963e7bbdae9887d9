"""Kept connections: fewer of them, and as hard to lose an event with as Dagster's own way."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.dagster_internals.connections import keep_connections
from tests.conftest import HANG_SECONDS, PostgresServer, dagster_instance_on
from tests.transformation.support import eventually

KEY = dg.AssetKey("built")


@pytest.fixture
def postgres_instance(postgres_server: PostgresServer) -> Iterator[dg.DagsterInstance]:
    """An instance that connects as Dagster's own do."""
    with dagster_instance_on(postgres_server, pooled=False) as instance:
        yield instance


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
        # It waits until they are: one that is only told to end may still take a statement, and fail it.
        closed = f"select pg_terminate_backend(pid, {HANG_SECONDS * 1000:.0f}) from pg_stat_activity"
        connection.execute(sa.text(f"{closed} where datname = current_database() and pid <> pg_backend_pid()"))
    _report(postgres_instance, 1)
    stored = postgres_instance.event_log_storage.get_maximum_record_id()
    assert stored == 2


def test_another_instance_of_the_process_uses_the_same_connections(postgres_instance: dg.DagsterInstance) -> None:
    keep_connections(postgres_instance)
    first = _backend(postgres_instance)
    with dg.DagsterInstance.from_ref(postgres_instance.get_ref()) as next_tick:
        keep_connections(next_tick)
        assert _backend(next_tick) == first


def test_connections_of_databases_that_came_before_are_let_go(postgres_server: PostgresServer) -> None:
    with (
        dagster_instance_on(postgres_server, pooled=False) as first,
        dagster_instance_on(postgres_server, pooled=False) as second,
        dagster_instance_on(postgres_server, pooled=False) as third,
    ):
        keep_connections(first)
        backend = _backend(first)
        for other in (second, third):
            keep_connections(other)
        with third.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            alive = sa.text("select count(*) from pg_stat_activity where pid = :pid")
            # The server sees some time later that a client has hung up.
            assert eventually(lambda: connection.execute(alive, {"pid": backend}).scalar_one() == 0)
        _report(first, 1)
        assert first.event_log_storage.get_maximum_record_id() == 1


def test_an_instance_on_other_storage_is_left_as_it_is() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        keep_connections(instance)
        _report(instance, 1)
        assert instance.get_latest_materialization_event(KEY) is not None
