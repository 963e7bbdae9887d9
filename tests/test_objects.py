"""Object stores, against a real S3 server: the status kept as an object, a bucket's probe in each of its states."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.health import recorded, tick
from adinsights_orchestration.health.asking import Asking
from adinsights_orchestration.health.catalog import CATALOG
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.web import Web
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings, HealthSettings, Settings
from adinsights_orchestration.status.file import StatusFileError, keep
from adinsights_orchestration.status.reading import take_status
from tests.conftest import free_port
from tests.objects_served.weed import BUCKET, KEY, S3, SECRET
from tests.status.world import NOON, World

# --------------------------------------------------------------------------------------------------------- the status


def _settings(endpoint: str, secret: str = SECRET, **health: Any) -> Settings:
    access = AuditLogSettings(
        s3_endpoint=endpoint, s3_access_key_id=SecretStr(KEY), s3_secret_access_key=SecretStr(secret)
    )
    return Settings(environment=Environment.PRODUCTION, audit_log=access, health=HealthSettings(**health))


def test_the_status_is_kept_as_an_object_and_replaced_as_a_whole(s3: S3, ops_store: OpsStore) -> None:
    World(ops_store).well()
    settings = _settings(s3.url, status_url=f"s3://{BUCKET}/status/now.json")
    for moment in (NOON, NOON + timedelta(seconds=30)):
        keep(settings, take_status(settings, ops_store, moment))
        content, attributes = s3.get("status/now.json")
        assert json.loads(content)["as_of"] == moment.isoformat().replace("+00:00", "Z")
        assert (attributes["Content-Type"], attributes["Cache-Control"]) == ("application/json", "no-store")


def test_a_file_and_an_address_of_a_file_hold_the_same(s3: S3, ops_store: OpsStore, tmp_path: Path) -> None:
    World(ops_store).well()
    other = tmp_path / "a folder" / "status.json"
    settings = _settings(s3.url, status_path=tmp_path / "status.json", status_url=other.as_uri())
    keep(settings, take_status(settings, ops_store, NOON))
    assert json.loads(other.read_text())["overall"] == "ok"
    assert other.read_text() == (tmp_path / "status.json").read_text()


def test_a_store_that_refuses_is_told_without_its_secret_and_keeps_no_file_from_being_written(
    s3: S3, ops_store: OpsStore, tmp_path: Path
) -> None:
    World(ops_store).well()
    settings = _settings(
        s3.url, "another-canary", status_path=tmp_path / "status.json", status_url=f"s3://{BUCKET}/status.json"
    )
    with pytest.raises(StatusFileError, match="the object store does not serve us") as raised:
        keep(settings, take_status(settings, ops_store, NOON))
    assert raised.value.place == "ADINSIGHTS_HEALTH__STATUS_URL"
    assert "canary" not in str(raised.value)
    assert json.loads((tmp_path / "status.json").read_text())["overall"] == "ok"


# ----------------------------------------------------------------------------------------------------------- the probe


def _probe(store: OpsStore, settings: Settings) -> tuple[Reading, tuple[Health, str]]:
    seconds = settings.health.probe_timeout_seconds
    known, web = recorded.read(store, NOON, timedelta(minutes=5)), Web(seconds)
    with dg.DagsterInstance.ephemeral() as instance:
        ask = Asking(settings, load_sla(Environment.PRODUCTION), web, store, known, lambda: NOON, instance)
        (reading,) = asyncio.run(tick.ask_all(ask, {Component.OBJECT_STORE: CATALOG[Component.OBJECT_STORE]}))
    return reading, (reading.health, reading.state)


def test_a_bucket_is_well_when_it_can_be_listed_and_says_why_when_not(s3: S3, ops_store: OpsStore) -> None:
    archive = f"s3://{BUCKET}/archive"
    assert _probe(ops_store, _settings(s3.url, object_store_url=archive))[1] == (Health.OK, "ok")
    missing = _settings(s3.url, object_store_url="s3://nobody-made-this")
    assert _probe(ops_store, missing)[1] == (Health.DOWN, "no_bucket")
    refused, seen = _probe(ops_store, _settings(s3.url, "another-canary", object_store_url=archive))
    assert seen == (Health.DOWN, "refuses")
    assert "SignatureDoesNotMatch" in refused.detail
    assert "canary" not in repr(refused)


def test_credentials_may_be_the_process_own(s3: S3, ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    own = AuditLogSettings(s3_endpoint=s3.url)
    settings = _settings(s3.url, object_store_url=f"s3://{BUCKET}").model_copy(update={"audit_log": own})
    assert _probe(ops_store, settings)[1] == (Health.OK, "ok")


def test_a_store_that_is_not_there_is_down_by_what_is_wrong(ops_store: OpsStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for endpoint, state, seconds in (
            (f"http://127.0.0.1:{free_port()}", "refused", 20),
            ("http://no-such-host.invalid", "dns", 20),
            (f"http://127.0.0.1:{silent.getsockname()[1]}", "timeout", 1.5),
        ):
            settings = _settings(endpoint, object_store_url=f"s3://{BUCKET}", probe_timeout_seconds=seconds)
            assert _probe(ops_store, settings)[1] == (Health.DOWN, state)
