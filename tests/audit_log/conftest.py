"""What the archive's tests share: a backend with tenants, a folder, and an archiver between them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from adinsights_orchestration.audit_log.archive.report import ArchiveReport
from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.cli.entry import run
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings, BackendSettings, OpsStoreSettings, Settings
from tests.audit_log.rows import FIRST, Row, insert, some_rows
from tests.backend.backend_tables import Backend
from tests.cli.conftest import Answer, logging_restored

NOW = datetime(2024, 2, 1, 3, tzinfo=UTC)
DAYS = 6
LAST = FIRST + timedelta(days=DAYS - 1)


@dataclass
class Place:
    """A backend's audit log, an archive in a folder, and the ops store between them."""

    backend: Backend
    ops: OpsStore
    settings: Settings
    tenants: list[UUID]
    folder: Path
    now: datetime = NOW
    rows: list[Row] = field(default_factory=list)

    @property
    def store(self) -> Folder:
        return Folder(self.folder)

    def archiver(self, store: Store | None = None) -> Archiver:
        return Archiver(self.settings, self.ops, AUDIT_LOG, store or self.store, clock=lambda: self.now)

    def archive(self, first: date = FIRST, last: date = LAST, store: Store | None = None) -> ArchiveReport:
        return self.archiver(store).run(first, last, actor="a test")

    def add(self, rows: list[Row]) -> None:
        insert(self.backend.dsn, rows)
        self.rows += rows


@pytest.fixture
def place(backend: Backend, ops_store: OpsStore, tmp_path: Path) -> Place:
    """Three tenants with six days of rows, and an empty archive."""
    ops_dsn = ops_store._settings.dsn
    folder = tmp_path / "archive"
    settings = Settings(
        backend=BackendSettings(dsn=SecretStr(backend.dsn)),
        ops_store=OpsStoreSettings(dsn=ops_dsn),
        audit_log=AuditLogSettings(archive_url=folder.as_uri(), first_day=FIRST),
    )
    tenants = sorted(backend.add_tenant(f"Tenant {number}") for number in range(3))
    made = Place(backend, ops_store, settings, tenants, folder)
    made.add(some_rows(tenants, DAYS, 40, rng=random.Random(7)))
    return made


@pytest.fixture
def audit_command(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Answer]]:
    """Runs `adinsights audit` in this process, on the place."""
    for name in [name for name in os.environ if name.startswith(("ADINSIGHTS_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    nowhere = place.folder.parent / "nothing.env"
    nowhere.touch()
    environment = {
        "ADINSIGHTS_ENV_FILE": str(nowhere),
        "ADINSIGHTS_OPS_STORE__DSN": place.settings.ops_store.dsn.get_secret_value(),
        "ADINSIGHTS_BACKEND__DSN": place.backend.dsn,
        "ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL": place.folder.as_uri(),
        "ADINSIGHTS_AUDIT_LOG__FIRST_DAY": str(FIRST),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def audit(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(("audit", *arguments), os.environ)
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    with logging_restored():
        yield audit
