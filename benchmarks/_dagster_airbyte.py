"""dagster-airbyte's side of `sync_fanout`: every connection at once, on the server and the storage that it is given.

Belongs here: how dagster-airbyte is really used, and what that costs. Does not belong here: the servers, the engine
(`sync_fanout`). A run is a process of its own, as Dagster's launchers have it, but forked from one that has imported
everything, defined the assets and used the storage before: what a run's process costs before its first step is left
out in dagster-airbyte's favour. The bare client runs in threads.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import dagster as dg
from dagster_airbyte import AirbyteWorkspace, build_airbyte_assets_definitions
from requests.adapters import HTTPAdapter

from benchmarks._machine import cpu_seconds, peak_memory_mb
from benchmarks.sync_fanout import DAGSTER_POLL_SECONDS, WORKSPACE, Case, connection_id

Work = Callable[[], bool]
_fork = multiprocessing.get_context("fork")
_sent = _fork.Value("q", 0)


def main(way: str, case: Case, url: str) -> None:
    """Syncs every connection and prints what it took."""
    workspace = AirbyteWorkspace(
        rest_api_base_url=f"{url}/api/public/v1",
        configuration_api_base_url=f"{url}/api/v1",
        workspace_id=str(WORKSPACE),
        poll_interval=DAGSTER_POLL_SECONDS / case.scale,
        request_timeout=60,
        cancel_on_termination=False,
    )
    works, run = (as_assets(workspace), in_processes) if way == "asset" else (as_client(workspace, case), in_threads)
    count_requests()
    before, started = _cpu_of_all(), time.monotonic()
    good = run(works)
    wall, cpu = time.monotonic() - started, _cpu_of_all() - before
    result = {
        "connections": case.connections,
        "succeeded": good,
        "wall_over_ideal": round(wall / case.ideal, 3),
        "requests_per_sync": round(_sent.value / case.connections, 3),
        "cpu_ms_per_sync": round(cpu / case.connections * 1000, 2),
        "peak_rss_mb": round(peak_memory_mb(), 1),
    }
    print(json.dumps(result))


def as_client(workspace: AirbyteWorkspace, case: Case) -> list[Work]:
    """The client's poll loop, one per connection."""

    def work(number: int) -> bool:
        try:
            workspace.get_client().sync_and_poll(connection_id=str(connection_id(number)))
        except Exception:  # noqa: BLE001  (counted: it gives up on what the engine takes in its stride)
            return False
        return True

    return [partial(work, number) for number in case.numbers]


def as_assets(workspace: AirbyteWorkspace) -> list[Work]:
    """`sync_and_poll(context=context)` of each connection's own assets, each in a run of its own."""
    logging.disable(logging.CRITICAL)
    instance = dg.DagsterInstance.get()

    @dg.asset
    def first() -> None:
        """What a process does once is not what a sync costs."""

    dg.materialize([first], instance=instance)

    def work(assets: dg.AssetsDefinition) -> bool:
        resources = {"airbyte": workspace}
        return dg.materialize([assets], resources=resources, instance=instance, raise_on_error=False).success

    return [partial(work, assets) for assets in build_airbyte_assets_definitions(workspace=workspace)]


def in_threads(works: Sequence[Work]) -> int:
    """Does all at once and returns how many went well."""
    with ThreadPoolExecutor(len(works)) as pool:
        return sum(pool.map(lambda work: work(), works))


def in_processes(works: Sequence[Work]) -> int:
    """As `in_threads`, a process each: runs that share a process wait for each other's logging."""
    processes = [_fork.Process(target=_exit_well, args=(work,)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sum(process.exitcode == 0 for process in processes)


def _exit_well(work: Work) -> None:
    sys.exit(0 if work() else 1)


def _cpu_of_all() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds() + children.ru_utime + children.ru_stime


def count_requests() -> None:
    """Counts what `requests` sends, in every process, without changing it."""
    plain = HTTPAdapter.send

    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        with _sent.get_lock():
            _sent.value += 1
        return plain(self, request, *args, **kwargs)

    HTTPAdapter.send = send  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1], Case(**json.loads(sys.argv[2])), sys.argv[3])
