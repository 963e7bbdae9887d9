"""One evaluation of alerts over many connections, beside the freshness tick that it follows and beside Alertmanager.

For each number of connections and share of them that turns late: the tick in which that is found out (`news`), a tick
after it in which nothing changes (`idle`), the delivery of what there is to say, and the freshness tick in which
nothing changes, on a real Postgres with a history of syncs. Idle ticks follow two minutes after the news, for so long
what was written last is read again; each figure is the median of many, and of both kinds in turns, because a machine
that does other work has better and worse moments. The peer is Prometheus' Alertmanager of
Debian's package, fed as many alerts with the same grouping. Prints one JSON line a case.

Targets: an evaluation without a change costs at most 1.2 times the freshness tick without one; all late at once sends
at most 3 messages and takes under 5 s of CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from adinsights_orchestration.tenants.model import Provider
from benchmarks._alerting import CONNECTIONS_OF_A_TENANT, START, Platform, counted_statements
from benchmarks._databases import databases
from benchmarks._machine import cpu_seconds, free_port, peak_memory_mb
from tests.alerting.alertmanager import find_alertmanager

NAME = "alert_tick"
TICK = timedelta(seconds=30)
_AT_ONCE = 500  # alerts in one request
_QUIET_SECONDS = 5.0
_CONFIGURATION = """
route: {{receiver: webhook, group_by: [provider], group_wait: 0s, group_interval: 5m, repeat_interval: 4h}}
receivers: [{{name: webhook, webhook_configs: [{{url: "http://127.0.0.1:{port}/", send_resolved: true}}]}}]
"""


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", default="1000,10000", help="numbers of connections")
    parser.add_argument("--late", default="0,1,100", help="percent of them that turn late")
    parser.add_argument("--idle-ticks", type=int, default=40, help="ticks without a change; the median counts")
    parser.add_argument("--alone", action="store_true", help="no probe and no sensor writes anything between ticks")
    options = parser.parse_args()
    for connections in map(int, options.connections.split(",")):
        for percent in map(int, options.late.split(",")):
            with databases() as (store, instance):
                platform = Platform(store, instance, connections, connections * percent // 100, alone=options.alone)
                print(json.dumps(_case(platform, percent, options.idle_ticks)), flush=True)
        print(json.dumps({"benchmark": NAME, "peer": "Alertmanager", **_alertmanager(connections)}), flush=True)


def _case(platform: Platform, percent: int, idle_ticks: int) -> dict[str, Any]:
    platform.populate()
    platform.judge(START + timedelta(minutes=10))
    platform.judge(START + timedelta(minutes=13))  # what was read last is read again for two minutes
    platform.beside(START + timedelta(minutes=13))
    platform.evaluate(START + timedelta(minutes=13))
    now = platform.LATE_AT
    if len(platform.judge(now).transitions) != platform.late:
        raise RuntimeError("not all that should have turned late did")
    platform.beside(now + TICK)
    news = _measured(lambda: platform.evaluate(now + TICK))
    delivery = _measured(lambda: platform.deliver(now + TICK))
    calls = dict(platform.sink.calls)
    now += timedelta(minutes=3)
    for n in range(3):  # the first ones still read what was written last
        platform.beside(now + n * TICK)
        platform.evaluate(now + n * TICK)
        platform.judge(now + n * TICK)
    idle, fresh = [], []
    for n in range(3, 3 + idle_ticks):
        platform.beside(now + n * TICK)
        idle.append(_measured(lambda n=n: platform.evaluate(now + n * TICK)))  # type: ignore[misc]
        fresh.append(_measured(lambda n=n: platform.judge(now + n * TICK)))  # type: ignore[misc]
    platform.deliver(now + (3 + idle_ticks) * TICK)
    usual, bare = _median(idle), _median(fresh)
    return {
        "benchmark": NAME,
        "connections": platform.connections,
        "late_percent": percent,
        "alone": platform.alone,
        "news": news,
        "idle": usual,
        "idle_most": {name: max(each[name] for each in idle) for name in usual},
        "delivery": delivery,
        "freshness_idle": bare,
        "idle_over_freshness": {name: round(usual[name] / bare[name], 2) for name in ("wall_s", "cpu_s") if bare[name]},
        "sink_calls": calls,
        "sink_calls_while_idle": sum(platform.sink.calls.values()) - sum(calls.values()),
        "peak_memory_mb": round(peak_memory_mb()),
    }


def _median(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(each[name] for each in found), 4) for name in found[0]}


def _measured(work: Callable[[], object]) -> dict[str, float]:
    with counted_statements() as counts:
        began, cpu = time.monotonic(), cpu_seconds()
        work()
        spent = {"wall_s": round(time.monotonic() - began, 4), "cpu_s": round(cpu_seconds() - cpu, 4)}
    return {**spent, "statements": counts["statements"]}


def _alertmanager(connections: int) -> dict[str, Any]:
    """What Alertmanager makes of as many alerts at once: messages, and CPU of its process."""
    with tempfile.TemporaryDirectory(prefix="adinsights-bench-") as name:
        folder = Path(name)
        program = find_alertmanager(folder)
        if program is None:
            return {"skipped": "Debian's package prometheus-alertmanager is neither installed nor in reach"}
        with _receiver() as (port, received), _running(program, folder, port) as (process, url):
            before, began = _cpu_of(process), time.monotonic()
            _feed(url, connections)
            while time.monotonic() - max(began, received["last"]) < _QUIET_SECONDS:
                time.sleep(0.1)
            return {
                "alerts": connections,
                "messages": received["count"],
                "bytes": received["bytes"],
                "wall_s": round(max(received["last"] - began, 0.0), 2),
                "cpu_s": round(_cpu_of(process) - before, 2),
            }


def _feed(url: str, connections: int) -> None:
    starts = datetime.now(UTC).isoformat()
    with httpx.Client(base_url=url, timeout=60) as client:
        for first in range(0, connections, _AT_ONCE):
            alerts = [
                {
                    "labels": {
                        "alertname": "connection_stale",
                        "provider": tuple(Provider)[number % len(Provider)].value,
                        "tenant": f"tenant-{number // CONNECTIONS_OF_A_TENANT}",
                        "resource": f"c{number:05}",
                        "severity": "warn",
                    },
                    "startsAt": starts,
                }
                for number in range(first, min(first + _AT_ONCE, connections))
            ]
            client.post("/api/v2/alerts", json=alerts).raise_for_status()


@contextmanager
def _receiver() -> Iterator[tuple[int, dict[str, Any]]]:
    received: dict[str, Any] = {"count": 0, "bytes": 0, "last": 0.0}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received["bytes"] += len(self.rfile.read(int(self.headers["Content-Length"])))
            received["count"] += 1
            received["last"] = time.monotonic()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, received
    finally:
        server.shutdown()


@contextmanager
def _running(program: Path, folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    configuration = folder / "alertmanager.yml"
    configuration.write_text(_CONFIGURATION.format(port=port))
    own = free_port()
    options = [f"--config.file={configuration}", f"--storage.path={folder / 'data'}", "--cluster.listen-address="]
    process = subprocess.Popen(
        [str(program), *options, f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"],
        cwd=program.parent.parent.parent if "unpacked" in program.parts else folder,
    )
    url = f"http://127.0.0.1:{own}"
    try:
        for _ in range(200):
            try:
                if httpx.get(f"{url}/-/ready").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield process, url
    finally:
        process.terminate()
        process.wait()


def _cpu_of(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds of a child so far, user and system."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()
