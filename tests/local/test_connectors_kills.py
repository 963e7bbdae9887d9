"""SIGKILL of the whole service in the middle of a sync: no orphan, nothing lost, nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from adinsights_orchestration.local.ad_platforms.accounts import WorldSize
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import HANG_SECONDS, PostgresServer
from tests.local.connectors_support import CONNECTORS_PYTHON, Connection, Stack, running_stack

SIZE = WorldSize(accounts=3, campaigns=2, groups=1, ads=2, days=5)
# A service of its own: syncs once and says on its standard output what has been committed.
SERVICE = """
import asyncio, json, sys
from pathlib import Path
from uuid import UUID
from adinsights_orchestration.local.connectors.sync import ConnectorRuntime, SyncRequest
from adinsights_orchestration.tenants.model import Provider

order = json.loads(sys.argv[1])
request = order["request"]
for name in ("connection_id", "tenant_id"):
    request[name] = UUID(request[name])
request["provider"], request["streams"] = Provider(request["provider"]), tuple(request["streams"])

async def main():
    runtime = ConnectorRuntime(Path(order["python"]), order["dsn"], Path(order["state_dir"]), batch_rows=20)
    await runtime.discover(request["provider"], request["config"])  # warms up, so that the test kills a sync
    print("ready", flush=True)
    await runtime.sync(SyncRequest(**request), on_progress=lambda stats: print(stats.name, stats.rows, flush=True))
    print("done", flush=True)
    runtime.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer) -> Iterator[Stack]:
    with running_stack(postgres_server.create_database("warehouse"), SIZE) as stack:
        yield stack


def start_service(stack: Stack, connection: Connection, state_dir: Path) -> subprocess.Popen[str]:
    request = stack.request(connection)
    order: dict[str, Any] = {
        "python": str(CONNECTORS_PYTHON),
        "dsn": stack.dsn,
        "state_dir": str(state_dir),
        "request": {
            "job_id": request.job_id,
            "attempt": 1,
            "connection_id": str(connection.id),
            "tenant_id": str(connection.tenant_id),
            "provider": connection.provider.value,
            "config": dict(connection.config),
            "streams": list(connection.streams),
            "generation_id": 0,
        },
    }
    command = [sys.executable, "-c", SERVICE, json.dumps(order)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(service: subprocess.Popen[str], lines: int, seconds: float = 0.0) -> list[psutil.Process]:
    """Kills the service that long after it has said so much, and returns the processes that it had started."""
    assert service.stdout is not None
    for _ in range(lines):
        assert service.stdout.readline().strip() not in ("", "done"), "it ended before it could be killed"
    time.sleep(seconds)
    started = psutil.Process(service.pid).children(recursive=True)
    service.send_signal(signal.SIGKILL)
    service.wait()
    service.stdout.close()
    return started


def assert_state_is_covered_by_rows(stack: Stack, connection: Connection) -> None:
    """Every day before a partition's committed cursor is in the warehouse, complete."""
    state = stack.state(connection, "ad_insights") or {"states": []}
    stored = {(key[0], key[2]) for key in stack.meta_rows(connection)}
    for partition in state["states"]:
        account, cursor = partition["partition"]["account"], partition["cursor"]["date_start"]
        days = {key[2] for key in stack.expected_meta(connection) if key[0] == account and key[2] < cursor}
        assert {(account, day) for day in days} <= stored


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [(1, 0.0), (1, 0.3), (2, 0.0), (4, 0.0), (6, 0.05)],
    ids=["at the start", "while it connects", "after the first commit", "after a few", "in between"],
)
def test_a_killed_service_loses_nothing_and_leaves_no_process(
    stack: Stack, tmp_path: Path, lines: int, seconds: float
) -> None:
    connection = stack.connect(Provider.META, page_size=10)
    stack.knobs.set("ads.meta", "latency_ms", 40)
    started = kill_after(start_service(stack, connection, tmp_path), lines, seconds)
    stack.knobs.reset()
    _, alive = psutil.wait_procs(started, timeout=HANG_SECONDS)
    assert started
    assert not alive
    if stack.query("select to_regclass('raw_meta.ad_insights') as known")[0]["known"]:
        assert_state_is_covered_by_rows(stack, connection)
    assert stack.sync(connection).succeeded
    assert stack.has_all_of_meta(connection)


def test_the_next_service_clears_away_what_a_killed_one_left_on_disk(stack: Stack, tmp_path: Path) -> None:
    connection = stack.connect(Provider.META, page_size=10)
    stack.knobs.set("ads.meta", "latency_ms", 40)
    started = kill_after(start_service(stack, connection, tmp_path), 2)
    stack.knobs.reset()
    psutil.wait_procs(started, timeout=HANG_SECONDS)
    service = start_service(stack, connection, tmp_path)
    output, _ = service.communicate(timeout=120)
    assert output.splitlines()[-1] == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["connectors.log"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_kills_at_any_moment_lose_nothing(stack: Stack, tmp_path: Path) -> None:
    connection = stack.connect(Provider.META, page_size=10)
    stack.knobs.set("ads.meta", "latency_ms", 20)
    for step in range(25):
        started = kill_after(start_service(stack, connection, tmp_path), 1, step * 0.06)
        psutil.wait_procs(started, timeout=HANG_SECONDS)
        if stack.query("select to_regclass('raw_meta.ad_insights') as known")[0]["known"]:
            assert_state_is_covered_by_rows(stack, connection)
    stack.knobs.reset()
    assert stack.sync(connection).succeeded
    assert stack.has_all_of_meta(connection)
