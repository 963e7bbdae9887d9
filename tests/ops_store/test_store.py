"""The ops store: migrations, locks, and errors that say what to do."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
import yaml
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from dagster_postgres.utils import pg_url_from_config
from pydantic import SecretStr

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store import store as store_module
from adinsights_orchestration.ops_store.store import LOCKS_AT_ONCE, OpsStore
from adinsights_orchestration.ops_store.tables import SCHEMA, cursor, metadata
from adinsights_orchestration.settings import PROJECT_ROOT, OpsStoreSettings
from tests.conftest import PostgresServer, free_port


def _differences(store: OpsStore) -> list[object]:
    with store.begin() as connection:
        options = {
            "include_schemas": True,
            "version_table_schema": SCHEMA,
            "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        }
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def test_migrations_and_tables_describe_the_same_schema(ops_store: OpsStore) -> None:
    assert _differences(ops_store) == []


def test_the_same_migrations_hold_on_postgres_15(postgres_15_server: PostgresServer) -> None:
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres_15_server.create_database("ops"))))
    store.migrate()
    assert _differences(store) == []
    store.dispose()


def test_migrating_twice_and_from_several_processes_at_once_does_the_work_once(postgres_server: PostgresServer) -> None:
    dsn = SecretStr(postgres_server.create_database("ops"))
    stores = [OpsStore(OpsStoreSettings(dsn=dsn)) for _ in range(4)]
    threads = [threading.Thread(target=store.migrate) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _differences(stores[0]) == []
    for store in stores:
        store.dispose()


def test_an_exclusive_section_turns_the_second_one_away_and_lets_the_next_in(ops_store: OpsStore) -> None:
    with (
        ops_store.exclusive("tick") as first,
        ops_store.exclusive("tick") as second,
        ops_store.exclusive("another tick") as other,
    ):
        assert (first, second, other) == (True, False, True)
    with ops_store.exclusive("tick") as again:
        assert again


def test_an_exclusive_section_is_free_again_after_its_body_failed(ops_store: OpsStore) -> None:
    with pytest.raises(ValueError, match="broken"), ops_store.exclusive("tick"):
        raise ValueError("broken")
    with ops_store.exclusive("tick") as again:
        assert again


def test_sections_that_need_a_connection_each_do_not_wait_for_each_other(postgres_server: PostgresServer) -> None:
    dsn = SecretStr(postgres_server.create_database("ops"))
    store = OpsStore(OpsStoreSettings(dsn=dsn, pool_size=1))
    with store.exclusive("one tick"), store.exclusive("another tick"), store.begin() as connection:
        assert connection.execute(sa.select(sa.literal(1))).scalar_one() == 1
    store.dispose()


def test_a_process_takes_so_many_connections_for_locks_and_then_says_what_hangs(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAITS_SECONDS", 0)
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres_server.create_database("ops")), pool_size=1))
    with ExitStack() as held:
        for number in range(LOCKS_AT_ONCE):
            assert held.enter_context(store.exclusive(f"tick {number}"))
        with pytest.raises(OpsStoreError, match="ticks that hang"), store.exclusive("one more"):
            pass
        with store.begin() as connection:  # statements have connections of their own
            assert connection.execute(sa.select(sa.literal(1))).scalar_one() == 1
    with store.exclusive("one more") as mine:
        assert mine
    store.dispose()


def test_an_unreachable_store_names_the_setting_and_not_the_password() -> None:
    dsn = SecretStr(f"postgresql://someone:canary-secret@127.0.0.1:{free_port()}/nowhere")
    store = OpsStore(OpsStoreSettings(dsn=dsn))
    with pytest.raises(OpsStoreError) as caught, store.begin() as connection:
        connection.execute(sa.select(1))
    assert "ADINSIGHTS_OPS_STORE__DSN" in str(caught.value)
    assert "canary-secret" not in str(caught.value)


def test_an_unmigrated_store_says_which_command_to_run(postgres_server: PostgresServer) -> None:
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres_server.create_database("empty"))))
    with pytest.raises(OpsStoreError, match="adinsights migrate"), store.begin() as connection:
        connection.execute(sa.select(cursor))
    store.dispose()


def _vigilance(descriptor: int) -> list[int]:
    """After which silence a socket asks for a sign of life (s), how often (s, times), and gives up (ms)."""
    with socket.socket(fileno=descriptor) as one:
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        found = [one.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        one.detach()
    return found


def test_a_server_that_vanishes_without_a_goodbye_is_noticed_within_30_seconds(ops_store: OpsStore) -> None:
    with ops_store.begin() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        assert _vigilance(raw.fileno()) == [15, 5, 3, 30_000]


def test_dagsters_own_storage_notices_as_soon(postgres_server: PostgresServer) -> None:
    storage = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())["storage"]["postgres"]["postgres_db"]
    server = postgres_server.server
    address = {"hostname": server.host, "port": server.port, "username": server.user, "password": server.password}
    engine = sa.create_engine(pg_url_from_config({"postgres_db": {**storage, **address, "db_name": "postgres"}}))
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        assert _vigilance(raw.fileno()) == [15, 5, 3, 30_000]
    engine.dispose()
