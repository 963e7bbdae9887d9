"""The fork server and its children: real processes, one way out to the network, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.connectors import messages
from adinsights_orchestration.local.connectors.process import Command, ConnectorProcessError, ForkServer
from adinsights_orchestration.local.serving import running
from tests.conftest import HANG_SECONDS
from tests.local.connectors_support import CONNECTORS_PYTHON

MANIFEST: dict[str, Any] = {
    "version": "7.39.1",
    "type": "DeclarativeSource",
    "check": {"type": "CheckStream", "stream_names": ["things"]},
    "streams": [
        {
            "type": "DeclarativeStream",
            "name": "things",
            "primary_key": ["id"],
            "retriever": {
                "type": "SimpleRetriever",
                "requester": {
                    "type": "HttpRequester",
                    "url": "{{ config['url'] }}",
                    "error_handler": {"type": "DefaultErrorHandler", "max_retries": 0},
                },
                "record_selector": {
                    "type": "RecordSelector",
                    "extractor": {"type": "DpathExtractor", "field_path": ["data"]},
                },
            },
            "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": {}}},
        }
    ],
    "spec": {
        "type": "Spec",
        "connection_specification": {"type": "object", "properties": {"url": {"type": "string"}}},
    },
}
CATALOG = {
    "streams": [
        {
            "stream": {"name": "things", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
            "sync_mode": "full_refresh",
            "destination_sync_mode": "append",
        }
    ]
}

_LONGEST_HOLD_SECONDS = 60


class Platform:
    """Answers with one row, or holds the request until it is let go; remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held = False

    async def answer(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        for _ in range(_LONGEST_HOLD_SECONDS * 100):
            if not self.held:
                break
            await asyncio.sleep(0.01)
        return JSONResponse({"data": [{"id": "1", "name": "日本 ☕ 😀"}]})


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ForkServer, asyncio.Runner]]:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        server = ForkServer(CONNECTORS_PYTHON, Path(folder))
        yield server, runner
        server.close()


@pytest.fixture
def platform() -> Iterator[tuple[Platform, str]]:
    platform = Platform()
    with running(Starlette(routes=[Route("/{path:path}", platform.answer)])) as url:
        yield platform, url
        platform.held = False


def read(url: str, base_url: str | None = None) -> Command:
    documents = {"manifest-path": MANIFEST, "config": {"url": f"{url}/things"}, "catalog": CATALOG}
    return Command("read", documents, base_url or url)


async def outcome(server: ForkServer, command: Command) -> tuple[list[messages.Message | None], int, str]:
    async with server.running(command) as process:
        found = [messages.parse(line) async for batch in process.lines(30) for line in batch]
        code, errors = await process.wait()
    return found, code, errors


def test_a_connector_reads_and_ends_with_code_zero(
    server: tuple[ForkServer, asyncio.Runner], platform: tuple[Platform, str]
) -> None:
    fork_server, runner = server
    found, code, _ = runner.run(outcome(fork_server, read(platform[1])))
    records = [message for message in found if isinstance(message, messages.Record)]
    assert code == 0
    assert [record.data for record in records] == [{"id": "1", "name": "日本 ☕ 😀"}]


def test_every_connector_is_a_process_of_its_own(
    server: tuple[ForkServer, asyncio.Runner], platform: tuple[Platform, str]
) -> None:
    fork_server, runner = server
    platform[0].held = True

    async def side_by_side() -> set[int]:
        async with fork_server.running(read(platform[1])) as one, fork_server.running(read(platform[1])) as other:
            return {one.pid, other.pid, *(child.pid for child in psutil.Process(one.pid).parents())}

    pids = runner.run(side_by_side())
    assert len(pids) >= 4  # two connectors, their server, us
    assert os.getpid() in pids


def test_a_connector_cannot_reach_anything_but_its_platform(
    server: tuple[ForkServer, asyncio.Runner], platform: tuple[Platform, str]
) -> None:
    fork_server, runner = server
    with running(Starlette(routes=[Route("/{path:path}", platform[0].answer)])) as elsewhere:
        found, code, _ = runner.run(outcome(fork_server, read(elsewhere, base_url=platform[1])))
    assert code != 0
    assert platform[0].asked == []
    errors = [message for message in found if isinstance(message, messages.TraceError)]
    assert any("may only reach" in error.internal_message + error.message for error in errors)


def test_a_connector_sees_nothing_of_our_environment(
    server: tuple[ForkServer, asyncio.Runner], platform: tuple[Platform, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_server, runner = server
    monkeypatch.setenv("ADINSIGHTS_CANARY", "do not inherit me")
    platform[0].held = True

    async def environment() -> dict[str, str]:
        async with fork_server.running(read(platform[1])) as process:
            parent = psutil.Process(process.pid).parent()
            assert parent is not None
            return {**parent.environ(), **psutil.Process(process.pid).environ()}

    assert "PATH" in (seen := runner.run(environment()))
    assert "ADINSIGHTS_CANARY" not in seen


def test_leaving_the_block_ends_the_connector(
    server: tuple[ForkServer, asyncio.Runner], platform: tuple[Platform, str]
) -> None:
    fork_server, runner = server
    platform[0].held = True

    async def leave() -> int:
        async with fork_server.running(read(platform[1])) as process:
            return process.pid

    assert not psutil.pid_exists(runner.run(leave()))


def test_silence_longer_than_allowed_is_a_timeout(
    server: tuple[ForkServer, asyncio.Runner], platform: tuple[Platform, str]
) -> None:
    fork_server, runner = server
    platform[0].held = True

    async def wait_for_lines() -> None:
        async with fork_server.running(read(platform[1])) as process:
            async for _ in process.lines(0.5):
                pass

    with pytest.raises(TimeoutError):
        runner.run(wait_for_lines())


def test_a_manifest_that_the_cdk_refuses_is_said_in_its_own_words(
    server: tuple[ForkServer, asyncio.Runner], platform: tuple[Platform, str]
) -> None:
    fork_server, runner = server
    broken = {**MANIFEST, "streams": [{"type": "DeclarativeStream", "name": "things"}]}
    command = Command("read", {"manifest-path": broken, "config": {}, "catalog": CATALOG}, platform[1])
    found, code, _ = runner.run(outcome(fork_server, command))
    assert code == 1
    assert any(isinstance(message, messages.TraceError) for message in found)


def test_a_base_url_that_is_no_address_is_refused_before_anything_starts(
    server: tuple[ForkServer, asyncio.Runner],
) -> None:
    fork_server, runner = server
    with pytest.raises(ConnectorProcessError, match="not an address"):
        runner.run(outcome(fork_server, read("nowhere")))


def test_an_interpreter_without_the_cdk_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    bare = Path("/usr/bin/python3")
    server = ForkServer(bare if bare.exists() else CONNECTORS_PYTHON.with_name("missing"), tmp_path)
    with pytest.raises((ConnectorProcessError, FileNotFoundError), match=r"connectors\.log|missing"):
        asyncio.run(outcome(server, read("http://127.0.0.1:9")))
    server.close()


def test_closing_ends_the_server_and_its_connectors(tmp_path: Path, platform: tuple[Platform, str]) -> None:
    platform[0].held = True
    server = ForkServer(CONNECTORS_PYTHON, tmp_path)

    async def close_in_the_middle() -> list[psutil.Process]:
        async with server.running(read(platform[1])) as process:
            connector = psutil.Process(process.pid)
            parent = connector.parent()
            assert parent is not None
            server.close()
            return [connector, parent]

    processes = asyncio.run(close_in_the_middle())
    _, alive = psutil.wait_procs(processes, timeout=HANG_SECONDS)
    assert not alive
    assert [path.name for path in tmp_path.iterdir()] == ["connectors.log"]


def test_a_closed_server_starts_again_when_it_is_needed_also_in_another_loop(
    tmp_path: Path, platform: tuple[Platform, str]
) -> None:
    server = ForkServer(CONNECTORS_PYTHON, tmp_path)
    codes = [asyncio.run(outcome(server, read(platform[1])))[1] for _ in range(2)]
    server.close()
    assert codes == [0, 0]
