"""A served world for commands: an ops store, a registry file, an Airbyte with simulated syncs over real HTTP."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from adinsights_orchestration import redaction
from adinsights_orchestration.cli.entry import run
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.local.airbyte.app import create_airbyte_app
from adinsights_orchestration.local.airbyte.model import AirbyteConnection
from adinsights_orchestration.local.airbyte.simulated import SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import PROJECT_ROOT, OpsStoreSettings, RegistrySource, Settings
from adinsights_orchestration.tenants.refresh import refresh
from tests.conftest import PostgresServer
from tests.local.airbyte_support import add_connection, add_workspace

TENANT_ID = "11111111-1111-4111-8111-111111111111"
_REGISTRY = """tenants:
  - id: {tenant}
    name: Acme Jamaica Ltd
    connections:
      - {{provider: meta, name: Meta Ads, connection_id: {meta}, schedule: {{interval_minutes: 60}}}}
      - {{provider: google_ads, name: Google Ads, connection_id: {google}, schedule: {{cron: "0 6-22 * * *"}}}}
      - {{provider: ga4, name: Web, connection_id: {ga4}}}
      - {{provider: tiktok_ads, name: TikTok, connection_id: {tiktok}, active: false}}
"""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@dataclass
class Served:
    """The world, and the environment that points commands at it."""

    environment: dict[str, str]
    knobs: Knobs
    connections: dict[str, AirbyteConnection]
    dsn: str
    folder: Path
    airbyte: AirbyteWorld

    @contextmanager
    def store(self) -> Iterator[OpsStore]:
        """The ops store."""
        store = OpsStore(OpsStoreSettings(dsn=SecretStr(self.dsn)))
        yield store
        store.dispose()

    def prepare(self) -> None:
        """Migrates the ops store and reads the registry, as `migrate` and `registry refresh` do."""
        default = Settings()
        path = Path(self.environment["ADINSIGHTS_REGISTRY__YAML_PATH"])
        file = default.registry.model_copy(update={"source": RegistrySource.YAML, "yaml_path": path})
        with self.store() as store:
            store.migrate()
            assert refresh(default.model_copy(update={"registry": file}), store, utc_now()).error is None

    def as_process(self, *arguments: str, **environment: str) -> Answer:
        """Runs a command in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "adinsights_orchestration.cli", *arguments],
            env={**_outside(), **self.environment, **environment},
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def served(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Four connections of one tenant: interval, cron, manual, paused; syncs take a second and move 20 rows."""
    folder = tmp_path_factory.mktemp("cli")
    dsn = postgres_server.create_database("cli")
    knobs = Knobs()
    world = AirbyteWorld(knobs, clock=utc_now)
    workspace = add_workspace(world)
    connections = {name: add_connection(world, workspace, name) for name in ("meta", "google", "ga4", "tiktok")}
    SimulatedExecutor(world, steady(timedelta(seconds=1), records=10))
    registry = folder / "registry.yaml"
    registry.write_text(_REGISTRY.format(tenant=TENANT_ID, **{name: each.id for name, each in connections.items()}))
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\npython_logs: {python_log_level: INFO}\n")
    with running(create_airbyte_app(world, knobs, clock=utc_now)) as url:
        yield Served(_environment(url, dsn, folder, registry), knobs, connections, dsn, folder, world)


@pytest.fixture
def command(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Answer]]:
    """Runs a command in this process, in the served world."""
    for name in [name for name in os.environ if name.startswith(("ADINSIGHTS_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)

    def run_command(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(arguments, os.environ)
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    with logging_restored():
        yield run_command


@contextmanager
def logging_restored() -> Iterator[None]:
    """Undoes what a command configured for its process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    redaction.use(redaction.Redactor())
    logging.captureWarnings(False)


def _environment(url: str, dsn: str, folder: Path, registry: Path) -> dict[str, str]:
    nowhere = folder / "nothing.env"
    nowhere.touch()
    return {
        "ADINSIGHTS_ENV_FILE": str(nowhere),
        "ADINSIGHTS_OPS_STORE__DSN": dsn,
        "ADINSIGHTS_REGISTRY__SOURCE": "yaml",
        "ADINSIGHTS_REGISTRY__YAML_PATH": str(registry),
        "ADINSIGHTS_AIRBYTE__PUBLIC_API_URL": f"{url}/api/public/v1",
        "ADINSIGHTS_AIRBYTE__CONFIG_API_URL": f"{url}/api/v1",
        "ADINSIGHTS_DAGSTER__UI_URL": "http://127.0.0.1:9",
        "DAGSTER_HOME": str(folder),
    }


def _outside() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("ADINSIGHTS_", "DAGSTER_"))}
