"""Prometheus' Alertmanager from Debian's package, without a service: the oracle for who is told what, when."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import free_port

_CONFIGURATION = """
route:
  receiver: webhook
  group_by: [history, kind]
  group_wait: {wait}s
  group_interval: {interval}s
  repeat_interval: {repeat}s
inhibit_rules:
  - source_matchers: [kind="cause"]
    target_matchers: [kind="symptom"]
    equal: [history]
receivers:
  - name: webhook
    webhook_configs:
      - url: http://127.0.0.1:{port}/
        send_resolved: true
"""


def find_alertmanager(folder: Path) -> Path | None:
    """Returns the program: the installed one, or the package's unpacked into the folder; None where there is none."""
    installed = shutil.which("prometheus-alertmanager")
    if installed:
        return Path(installed)
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return None
    try:
        download = ["apt-get", "download", "prometheus-alertmanager"]
        subprocess.run(download, cwd=folder, check=True, capture_output=True, timeout=120)
        package = next(folder.glob("prometheus-alertmanager_*.deb"))
        subprocess.run(["dpkg", "-x", str(package), str(folder / "unpacked")], check=True, timeout=60)
    except (subprocess.SubprocessError, StopIteration, OSError):
        return None
    return _movable(folder / "unpacked")


def _movable(unpacked: Path) -> Path:
    """Makes the program look for its templates in its working directory: Debian's looks below /usr/share alone."""
    program = unpacked / "usr" / "bin" / "prometheus-alertmanager"
    installed = b"/usr/share/prometheus/alertmanager"
    here = (b"./" * len(installed))[: len(installed)].rstrip(b"/")
    program.write_bytes(program.read_bytes().replace(installed, here.ljust(len(installed), b"/")))
    for template in (unpacked / installed.decode()[1:]).glob("*.tmpl"):
        shutil.copy(template, unpacked)
    return program


@dataclass(frozen=True)
class Told:
    """One notice of one group."""

    at: float
    firing: frozenset[str]
    resolved: frozenset[str]


@dataclass
class Oracle:
    """A running Alertmanager, and what it told its receiver, by group."""

    client: httpx.Client
    told: dict[tuple[str, str], list[Told]] = field(default_factory=dict)

    def alerts(self, alerts: list[dict[str, Any]]) -> None:
        """Tells it of alerts, firing or over."""
        self.client.post("/api/v2/alerts", json=alerts).raise_for_status()

    def silence(self, silence: dict[str, Any]) -> None:
        """Silences something."""
        self.client.post("/api/v2/silences", json=silence).raise_for_status()


@contextmanager
def running(program: Path, folder: Path, *, wait: float, interval: float, repeat: float) -> Iterator[Oracle]:
    """Runs it with these timings, in seconds."""
    oracle = Oracle(httpx.Client(timeout=10))
    receiver = _Server(("127.0.0.1", 0), _receiver(oracle))
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    configuration = folder / "alertmanager.yml"
    configuration.write_text(
        _CONFIGURATION.format(wait=wait, interval=interval, repeat=repeat, port=receiver.server_address[1])
    )
    port = free_port()
    arguments = [
        str(program),
        f"--config.file={configuration}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    template = next((parent for parent in program.parents if (parent / "default.tmpl").exists()), folder)
    process = subprocess.Popen(arguments, cwd=template, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    oracle.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
    try:
        _wait_until_ready(oracle.client)
        yield oracle
    finally:
        process.kill()
        process.wait()
        oracle.client.close()
        receiver.shutdown()
        receiver.server_close()


def _wait_until_ready(client: httpx.Client) -> None:
    for _ in range(200):
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("Alertmanager does not start")


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024  # all groups speak at the same second
    daemon_threads = True


def _receiver(oracle: Oracle) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at = time.time()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names: dict[str, set[str]] = {"firing": set(), "resolved": set()}
            for alert in body["alerts"]:
                names[alert["status"]].add(alert["labels"]["resource"])
            key = body["groupLabels"]["history"], body["groupLabels"]["kind"]
            told = Told(at, frozenset(names["firing"]), frozenset(names["resolved"]))
            oracle.told.setdefault(key, []).append(told)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    return Receiver
