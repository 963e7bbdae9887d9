"""A person who waits is told what goes on, at least every few seconds, and each finished sync once."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.local import progress
from adinsights_orchestration.local.progress import Pulse, SyncLines, telling
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.settings import OpsStoreSettings

NOW = utc_now()


def add_job(store: OpsStore, number: int, **values: object) -> None:
    """A finished sync in the ledger."""
    row = {
        "job_id": number,
        "connection_id": UUID(int=number),
        "partition_key": f"acme/meta-{number}",
        "provider": "meta",
        "tenant_id": UUID(int=1),
        "job_type": "sync",
        "status": "succeeded",
        "started_by": "orchestrator",
        "started_at": NOW,
        "ended_at": NOW,
        "duration_seconds": 3.0,
        "rows_synced": 1200,
        "first_observed_at": NOW,
        "observed_at": NOW,
    }
    with store.begin() as connection:
        connection.execute(sa.insert(sync_job).values({**row, **values}))


def test_silence_is_broken_every_few_seconds_with_what_is_done_and_since_when() -> None:
    said: list[str] = []
    moments = iter([0, 3, 6, 8, 10, 13, 18, 19])
    pulse = Pulse(said.append, lambda: next(moments))  # begins at 0
    for doing in ("one", "two", "three"):  # 3, 6, 8
        pulse.beat(doing)
    pulse.said()  # 10
    for doing in ("four", "five", "six"):  # 13, 18, 19
        pulse.beat(doing)
    assert said == ["  ... 6 s: two", "  ... 18 s: five"]


def test_each_finished_sync_is_told_once_with_its_rows_or_its_reason(ops_store: OpsStore) -> None:
    said: list[str] = []
    lines = SyncLines(ops_store, said.append, NOW)
    add_job(ops_store, 1, observed_at=NOW - timedelta(minutes=1))  # before it was asked for
    add_job(ops_store, 2)
    add_job(ops_store, 3, ended_at=None)
    assert lines.tell()
    assert not lines.tell()
    add_job(ops_store, 4, status="failed", failure_message="token revoked")
    add_job(ops_store, 5, duration_seconds=0.0, rows_synced=None)
    assert lines.tell()
    assert said == [
        "  synced acme/meta-2: 1,200 rows in 3 s",
        "  acme/meta-4: FAILED: token revoked",
        "  synced acme/meta-5: 0 rows in <1 s",
    ]


def test_the_last_syncs_are_told_at_the_end_of_the_block(ops_store: OpsStore) -> None:
    said: list[str] = []
    with telling(said.append, "syncing", SyncLines(ops_store, said.append, NOW)):
        add_job(ops_store, 2)
    assert said == ["  synced acme/meta-2: 1,200 rows in 3 s"]


def test_a_block_that_takes_long_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    heard = threading.Event()
    with telling(lambda line: heard.set() if "dbt is building" in line else None, "dbt is building"):
        assert heard.wait(20)


def test_a_store_that_is_gone_spoils_neither_the_block_nor_its_error() -> None:
    said: list[str] = []
    store = OpsStore(OpsStoreSettings(dsn=SecretStr("postgresql://nobody@127.0.0.1:9/nothing")))
    with pytest.raises(ValueError, match="the work's own"), telling(said.append, "x", SyncLines(store, print, NOW)):
        raise ValueError("the work's own")
    store.dispose()
    assert said == []
