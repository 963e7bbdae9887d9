"""What goes wrong on a platform, in a connector or in the warehouse ends in a retry or in Airbyte's words for it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest

from adinsights_orchestration.local.ad_platforms.accounts import WorldSize
from adinsights_orchestration.local.connectors.sync import (
    ConnectorError,
    ConnectorRuntime,
    Failure,
    StreamStats,
    SyncResult,
)
from adinsights_orchestration.local.connectors.tables import connection_lock
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import HANG_SECONDS, PostgresServer
from tests.local.connectors_support import CONNECTORS_PYTHON, Connection, Stack, running_stack

CANARY = "EAAGcanary-3f1c9d0be2"


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer) -> Iterator[Stack]:
    dsn = postgres_server.create_database("warehouse")
    size = WorldSize(accounts=2, campaigns=1, groups=1, ads=2, days=3)
    with running_stack(dsn, size, heartbeat_seconds=HANG_SECONDS, batch_rows=10) as stack:
        yield stack


@pytest.fixture
def stack(server: Stack) -> Iterator[Stack]:
    yield server
    server.knobs.reset()


def failures(results: list[SyncResult]) -> list[Failure]:
    assert not any(result.succeeded for result in results)
    return [result.failure for result in results if result.failure is not None]


def turn(stack: Stack, provider: Provider, name: str, value: Any) -> None:
    stack.knobs.set(f"ads.{provider.value}", name, value)


@pytest.fixture(scope="module")
def undisturbed(server: Stack) -> dict[Provider, SyncResult]:
    """What a sync of each provider reads when nothing goes wrong."""
    return dict(zip(Provider, server.sync_all(*map(server.connect, Provider)), strict=True))


@pytest.mark.parametrize("knob", ["rate_limited_next", "server_error_next", "malformed_json_next"])
def test_a_passing_fault_costs_time_and_no_row(
    stack: Stack, undisturbed: dict[Provider, SyncResult], knob: str
) -> None:
    for provider in Provider:
        turn(stack, provider, knob, 2)
    results = stack.sync_all(*map(stack.connect, Provider))
    for provider, result in zip(Provider, results, strict=True):
        assert stack.knobs.get(f"ads.{provider.value}", knob) == 0
        assert result.succeeded, (provider, result.failure)
        assert [s.rows for s in result.streams] == [s.rows for s in undisturbed[provider].streams], provider


def test_a_revoked_token_is_a_configuration_error_at_once(stack: Stack) -> None:
    for provider in Provider:
        turn(stack, provider, "auth_revoked", True)
    # So many retries would outlast the test's time limit.
    results = stack.sync_all(*(stack.connect(provider, max_retries=200) for provider in Provider))
    for provider, failure in zip(Provider, failures(results), strict=True):
        assert (failure.origin, failure.type) == ("source", "config_error"), provider
        assert "refused the access token" in failure.external_message
        assert failure.stream in stack.connect(provider).streams


@pytest.mark.parametrize("knob", ["rate_limited_next", "server_error_next"])
def test_a_lasting_fault_of_the_platform_is_transient(stack: Stack, knob: str) -> None:
    for provider in Provider:
        turn(stack, provider, knob, 1000)
    results = stack.sync_all(*(stack.connect(provider, max_retries=1) for provider in Provider))
    for provider, failure in zip(Provider, failures(results), strict=True):
        # TikTok says everything with HTTP 200, which the CDK takes for a defect of the connector's once retries end.
        expected = "system_error" if provider is Provider.TIKTOK_ADS else "transient_error"
        assert (failure.origin, failure.type) == ("source", expected), provider


def test_pages_that_stay_broken_fail_the_sync_instead_of_shortening_it(stack: Stack) -> None:
    for provider in Provider:
        turn(stack, provider, "malformed_json_next", 1000)
    results = stack.sync_all(*(stack.connect(provider, max_retries=1) for provider in Provider))
    for provider, result in zip(Provider, results, strict=True):
        assert not result.succeeded, provider
        assert [stats.rows for stats in result.streams] == [0] * len(result.streams), provider


def test_streams_that_succeeded_keep_their_rows_when_another_fails(stack: Stack) -> None:
    connection = stack.connect(Provider.META, account_ids=["1"], max_retries=0)
    mixed = {**connection.config, "account_ids": [*stack.connect(Provider.META).config["account_ids"], "1"]}
    result = stack.sync(connection, config=mixed)
    assert result.failure is not None
    assert result.failure.type == "config_error"
    assert sum(stats.rows for stats in result.streams) == sum(
        len(stack.rows(connection, stats.name)) for stats in result.streams
    )
    assert stack.sync(connection, config=stack.connect(Provider.META, tenant_id=connection.tenant_id).config).succeeded
    assert stack.has_all_of_meta(connection)


def test_an_unreachable_platform_fails_the_sync(stack: Stack) -> None:
    connection = stack.connect(Provider.GA4, base_url="http://127.0.0.1:9", max_retries=0)
    result = stack.sync(connection)
    assert result.failure is not None
    assert result.failure.origin == "source"


def test_a_platform_that_keeps_silent_is_given_up(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack.runtime, "_heartbeat_seconds", 5.0)
    turn(stack, Provider.GA4, "latency_ms", 60_000)
    result = stack.sync(stack.connect(Provider.GA4))
    turn(stack, Provider.GA4, "latency_ms", 0)
    assert result.failure is not None
    assert (result.failure.origin, result.failure.type) == ("source", "heartbeat_timeout")


def test_a_stream_that_the_source_lacks_is_named_with_those_it_has(stack: Stack) -> None:
    result = stack.sync(stack.connect(Provider.META), streams=("ad_insights", "videos"))
    assert result.failure is not None
    assert (result.failure.origin, result.failure.type) == ("airbyte_platform", "config_error")
    assert "videos" in result.failure.external_message
    assert "adsets" in result.failure.external_message


def test_a_schema_without_its_key_is_refused_before_anything_is_read(stack: Stack) -> None:
    connection = stack.connect(Provider.GA4)
    broken: Any = {"streams": [dict(s) for s in stack.runtime.declared(Provider.GA4)["streams"]]}
    properties = broken["streams"][0]["json_schema"]["properties"]
    broken["streams"][0]["json_schema"] = {"properties": {k: v for k, v in properties.items() if k != "date"}}
    result = stack.sync(connection, catalog=broken)
    assert result.failure is not None
    assert result.failure.type == "config_error"
    assert "date" in result.failure.external_message


def test_a_job_id_that_another_connection_used_is_refused(stack: Stack) -> None:
    first, second = stack.connect(Provider.GA4), stack.connect(Provider.GA4)
    assert stack.sync(first, job_id=7_000_001).succeeded
    result = stack.sync(second, job_id=7_000_001)
    assert result.failure is not None
    assert "7000001 belongs to another connection" in result.failure.external_message
    assert stack.rows(second, "daily_traffic") == []


def test_check_and_discover_say_what_is_wrong(stack: Stack) -> None:
    turn(stack, Provider.LINKEDIN_ADS, "auth_revoked", True)
    connection = stack.connect(Provider.LINKEDIN_ADS)
    with pytest.raises(ConnectorError, match="refused the access token") as failed:
        stack.run(stack.runtime.check(connection.provider, connection.config))
    assert failed.value.failure.type == "config_error"
    with pytest.raises(ConnectorError):
        stack.run(stack.runtime.discover(connection.provider, connection.config))


def test_a_configuration_without_a_required_field_is_a_configuration_error(stack: Stack) -> None:
    connection = stack.connect(Provider.META)
    config = {name: value for name, value in connection.config.items() if name != "start_date"}
    with pytest.raises(ConnectorError, match="start_date"):
        stack.run(stack.runtime.check(connection.provider, config))
    assert not stack.sync(connection, config=config).succeeded


def test_no_token_reaches_a_log_a_failure_or_the_disk(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    connection = stack.connect(Provider.META, access_token=CANARY, max_retries=0)
    with caplog.at_level(logging.DEBUG):
        result = stack.sync(connection)
        with pytest.raises(ConnectorError) as failed:
            stack.run(stack.runtime.check(connection.provider, connection.config))
    assert not result.succeeded
    assert "connector" in caplog.text  # the connector's own lines are there to be searched
    folder = stack.runtime.state_dir
    files = "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
    for text in (caplog.text, repr(result), str(failed.value), repr(failed.value.failure), files):
        assert CANARY not in text


@asynccontextmanager
async def _under_way(
    stack: Stack, connection: Connection, then_ms: int = 60_000, **changes: Any
) -> AsyncIterator[asyncio.Task[SyncResult]]:
    """A sync that has committed its first batch, and that the platform's answers keep from ending from then on."""
    committed = asyncio.Event()

    def note(stats: StreamStats) -> None:
        if stats.rows:
            turn(stack, connection.provider, "latency_ms", then_ms)
            committed.set()

    turn(stack, connection.provider, "latency_ms", 150)
    cancel = changes.pop("cancel", None)
    work = stack.runtime.sync(stack.request(connection, **changes), on_progress=note, cancel=cancel)
    task = asyncio.create_task(work)
    await committed.wait()
    yield task
    turn(stack, connection.provider, "latency_ms", 0)


def connectors_of(process_id: int) -> list[psutil.Process]:
    """The running connectors below a process: children of its fork server."""
    return [
        child
        for server in psutil.Process(process_id).children()
        if any("fork_server" in part for part in server.cmdline())
        for child in server.children()
    ]


def test_cancelling_ends_the_connector_and_keeps_what_was_committed(stack: Stack) -> None:
    connection, cancel = stack.connect(Provider.META, page_size=5), asyncio.Event()

    async def scenario() -> SyncResult:
        async with _under_way(stack, connection, cancel=cancel) as task:
            cancel.set()
            return await task

    result = stack.run(scenario())
    assert result.failure is not None
    assert (result.failure.origin, result.failure.type) == ("airbyte_platform", "manual_cancellation")
    assert connectors_of(os.getpid()) == []
    assert sum(s.rows for s in result.streams) >= len(stack.rows(connection, "ad_insights")) > 0
    assert stack.sync(connection).succeeded
    assert stack.has_all_of_meta(connection)


def test_cancelling_the_task_ends_the_connector_too(stack: Stack) -> None:
    connection = stack.connect(Provider.META, page_size=5)

    async def scenario() -> None:
        async with _under_way(stack, connection, cancel=asyncio.Event()) as task:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    stack.run(scenario())
    assert connectors_of(os.getpid()) == []
    assert stack.sync(connection).succeeded


def test_a_cancel_that_comes_after_the_end_cancels_nothing(stack: Stack) -> None:
    cancel = asyncio.Event()

    async def scenario() -> SyncResult:
        result = await stack.runtime.sync(stack.request(stack.connect(Provider.GA4)), cancel=cancel)
        cancel.set()
        await asyncio.sleep(0)
        return result

    assert stack.run(scenario()).succeeded


def test_a_connector_that_is_killed_is_a_system_error_and_the_next_sync_loses_nothing(stack: Stack) -> None:
    connection = stack.connect(Provider.META, page_size=5)

    async def scenario() -> SyncResult:
        async with _under_way(stack, connection) as task:
            (connector,) = connectors_of(os.getpid())
            connector.send_signal(signal.SIGKILL)
            return await task

    result = stack.run(scenario())
    assert result.failure is not None
    assert (result.failure.origin, result.failure.type) == ("source", "system_error")
    assert "signal 9" in result.failure.external_message
    assert stack.sync(connection).succeeded
    assert stack.has_all_of_meta(connection)


def test_a_killed_fork_server_takes_its_connectors_along_and_is_started_again(stack: Stack) -> None:
    connection = stack.connect(Provider.META, page_size=5)

    async def scenario() -> tuple[SyncResult, psutil.Process]:
        async with _under_way(stack, connection) as task:
            (connector,) = connectors_of(os.getpid())
            connector.parent().send_signal(signal.SIGKILL)  # type: ignore[union-attr]
            return await task, connector

    result, connector = stack.run(scenario())
    assert not result.succeeded
    psutil.wait_procs([connector], timeout=HANG_SECONDS)
    assert not connector.is_running()
    assert stack.sync(connection).succeeded
    assert stack.has_all_of_meta(connection)


def test_a_lost_warehouse_session_is_transient_and_the_next_sync_loses_nothing(stack: Stack) -> None:
    connection = stack.connect(Provider.META, page_size=5)

    async def scenario() -> SyncResult:
        async with _under_way(stack, connection, then_ms=150) as task:  # it is noticed by the next batch
            stack.query(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'airbyte%%'"
            )
            return await task

    result = stack.run(scenario())
    assert result.failure is not None
    assert (result.failure.origin, result.failure.type) == ("destination", "transient_error")
    assert connectors_of(os.getpid()) == []
    assert stack.sync(connection).succeeded
    assert stack.has_all_of_meta(connection)


def test_a_second_sync_of_a_connection_waits_for_the_first(stack: Stack) -> None:
    connection = stack.connect(Provider.GA4)
    order: list[str] = []

    async def scenario() -> SyncResult:
        async with await psycopg.AsyncConnection.connect(stack.dsn, autocommit=True) as other:
            await other.execute("select pg_advisory_lock(%s)", (connection_lock(connection.id),))
            task = asyncio.create_task(stack.runtime.sync(stack.request(connection)))
            task.add_done_callback(lambda _: order.append("synced"))
            await _until_someone_waits(other)
            order.append("released")
        return await task

    assert stack.run(scenario()).succeeded
    assert order == ["released", "synced"]


async def _until_someone_waits(session: psycopg.AsyncConnection[Any]) -> None:
    waiting = 0
    while not waiting:
        await asyncio.sleep(0.01)
        cursor = await session.execute("select count(*) from pg_locks where locktype = 'advisory' and not granted")
        ((waiting,),) = await cursor.fetchall()


def test_an_unreachable_warehouse_is_transient_and_no_connector_starts(tmp_path: Path) -> None:
    runtime = ConnectorRuntime(CONNECTORS_PYTHON, "postgresql://nobody@127.0.0.1:9/warehouse", tmp_path)

    async def scenario() -> SyncResult:
        return await runtime.clear(uuid4(), Provider.META, uuid4(), ("ads",))

    result = asyncio.run(scenario())
    assert result.failure is not None
    assert (result.failure.origin, result.failure.type) == ("destination", "transient_error")
    assert list(tmp_path.iterdir()) == []
