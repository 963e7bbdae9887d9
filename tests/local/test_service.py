"""The whole loopback service as a process: real connectors, real Postgres, kills and restarts."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from adinsights_orchestration.local import seed
from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.settings import PROJECT_ROOT
from tests.conftest import free_port

CONNECTORS = PROJECT_ROOT / ".venv-connectors" / "bin" / "python"
CONNECTION = next(c for c in seed.connections() if c.key == "initech-ny/tiktok_ads")
PATIENCE_SECONDS = 120.0
pytestmark = pytest.mark.skipif(not CONNECTORS.exists(), reason="the connectors' environment is not installed")


class Service:
    """The service's process and a client that has signed in."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.warehouse = postgres.dsn("warehouse")
        self.log = folder / "service.log"
        self._environment = {
            **os.environ,
            "ADINSIGHTS_LOCAL_POSTGRES_PORT": str(postgres.port),
            "ADINSIGHTS_LOCAL_SERVICE_PORT": str(self.port),
            "ADINSIGHTS_LOCAL_STATE_DIR": str(folder / "state"),
            "ADINSIGHTS_LOCAL_DAYS": "5",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "adinsights_orchestration.local.service"]
            self.process = subprocess.Popen(
                command, env=self._environment, cwd=PROJECT_ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        eventually(self.answers, self.log)
        credentials = {"client_id": seed.AIRBYTE_CLIENT_ID, "client_secret": seed.AIRBYTE_CLIENT_SECRET}
        granted = self.client.post("/airbyte/api/public/v1/applications/token", json=credentials).json()
        self.client.headers["Authorization"] = f"Bearer {granted['access_token']}"

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def answers(self) -> bool:
        try:
            return self.client.get("/knobs").is_success
        except httpx.TransportError:
            return False

    def start_sync(self) -> int:
        body = {"connectionId": str(CONNECTION.connection_id), "jobType": "sync"}
        reply = self.client.post("/airbyte/api/public/v1/jobs", json=body)
        assert reply.status_code == 200, reply.text
        return int(reply.json()["jobId"])

    def job(self, job_id: int) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(f"/airbyte/api/public/v1/jobs/{job_id}").json()
        return shown

    def finished(self, job_id: int) -> dict[str, Any]:
        eventually(lambda: self.job(job_id)["status"] in ("succeeded", "failed", "cancelled"), self.log)
        return self.job(job_id)

    def rows(self) -> tuple[int, int]:
        """Rows of the connection's report, and distinct keys among them."""
        with psycopg.connect(self.warehouse) as database:
            row = database.execute(
                "select count(*), count(distinct (tenant_id, advertiser_id, ad_id, stat_time_day))"
                " from raw_tiktok_ads.ads_report_daily"
            ).fetchone()
        assert row is not None
        return row[0], row[1]


def eventually(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that root's Postgres can reach too, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="adinsights-service-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    postgres = EmbeddedPostgres(folder / "pg", free_port(), die_with_parent=True)
    postgres.start()
    for name in ("warehouse", "backend"):
        postgres.create_database(name)
    service = Service(folder, postgres)
    service.start()
    try:
        yield service
    finally:
        assert service.process is not None
        if service.process.poll() is None:
            service.end(signal.SIGTERM)
        service.client.close()
        postgres.stop()


def test_the_index_links_to_what_answers(service: Service) -> None:
    page = service.client.get("/").text
    for path in ("/airbyte/api/v1/health", "/backend/api/health/", "/backend/metrics/app/", "/knobs"):
        assert f'href="{path}"' in page
        assert service.client.get(path).status_code == 200


def test_every_part_has_its_knobs(service: Service) -> None:
    areas = service.client.get("/knobs").json()
    assert {"airbyte", "backend", "ads.meta", "ads.tiktok_ads"} <= areas.keys()


def test_what_the_readme_says_of_breaking_it_breaks_it_and_mends_it(service: Service) -> None:
    """The lines as they stand there, apart from the port."""
    text = (PROJECT_ROOT / "README.md").read_text()
    down, well = re.findall(r"^curl -X .*$", text.partition("## Break it")[2].partition("\n## ")[0], re.MULTILINE)

    def send(line: str) -> int:
        words = shlex.split(line, comments=True)
        path = words[-1].removeprefix("http://127.0.0.1:18000")
        body = words[words.index("-d") + 1] if "-d" in words else None
        return service.client.request(words[2], path, content=body).status_code

    health = "/airbyte/api/public/v1/health"
    assert send(down) == 200
    try:
        assert service.client.get(health).status_code == 503
    finally:
        assert send(well) == 204
    assert service.client.get(health).status_code == 200


def test_airbyte_asks_for_a_token(service: Service) -> None:
    assert httpx.get(f"{service.url}/airbyte/api/public/v1/jobs").status_code == 401


def test_a_sync_fills_the_warehouse_and_reaches_the_backend(service: Service) -> None:
    job_id = service.start_sync()
    job = service.finished(job_id)
    assert job["status"] == "succeeded"
    assert job["rowsSynced"] > 0
    rows, keys = service.rows()
    assert rows == keys > 0
    eventually(lambda: service.client.get("/backend/api/health/airbyte/").json()["status"] == "ok", service.log)
    last = service.client.get("/backend/api/health/airbyte/").json()["last_sync"]
    assert (last["tenant_id"], last["last_job_id"]) == (str(seed.tenant_id(CONNECTION.tenant)), str(job_id))


def test_a_revoked_token_is_a_failure_of_the_configuration(service: Service) -> None:
    service.client.put("/knobs/ads.tiktok_ads/auth_revoked", json=True)
    try:
        job_id = service.start_sync()
        assert service.finished(job_id)["status"] == "failed"
    finally:
        service.client.delete("/knobs")
    info = service.client.post("/airbyte/api/v1/jobs/get_without_logs", json={"id": job_id}).json()
    assert len(info["attempts"]) == 1
    failure = info["attempts"][0]["attempt"]["failureSummary"]["failures"][0]
    assert (failure["failureOrigin"], failure["failureType"]) == ("source", "config_error")


def test_a_sync_that_was_killed_with_the_service_is_made_good_after_the_restart(service: Service) -> None:
    service.client.put("/knobs/ads.tiktok_ads/latency_ms", json=1500)
    job_id = service.start_sync()
    eventually(lambda: service.job(job_id)["status"] == "running", service.log)
    service.end(signal.SIGKILL)
    service.start()
    assert service.finished(job_id)["status"] == "succeeded"
    info = service.client.post("/airbyte/api/v1/jobs/get_without_logs", json={"id": job_id}).json()
    assert [attempt["attempt"]["status"] for attempt in info["attempts"]] == ["failed", "succeeded"]
    rows, keys = service.rows()
    assert rows == keys > 0


def test_the_service_ends_when_told_and_leaves_no_connector_behind(service: Service) -> None:
    service.client.put("/knobs/ads.tiktok_ads/latency_ms", json=1500)
    job_id = service.start_sync()
    eventually(lambda: service.job(job_id)["status"] == "running", service.log)
    service.end(signal.SIGTERM)
    state = str(service.log.parent / "state" / "connectors")
    left = subprocess.run(["pgrep", "-f", state], capture_output=True, text=True, check=False)
    assert left.stdout == ""
    service.start()
    assert service.finished(job_id)["status"] == "succeeded"


def test_a_taken_port_and_a_missing_postgres_are_said_in_one_line(service: Service) -> None:
    def run(**changed: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "adinsights_orchestration.local.service"]
        environment = {**service._environment, **changed}
        return subprocess.run(
            command, env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    taken = run()
    assert taken.returncode != 0
    assert f"port {service.port} on 127.0.0.1 cannot be used" in taken.stderr
    alone = run(ADINSIGHTS_LOCAL_SERVICE_PORT=str(free_port()), ADINSIGHTS_LOCAL_POSTGRES_PORT=str(free_port()))
    assert alone.returncode == 2
    assert "Traceback" not in taken.stderr + alone.stderr
