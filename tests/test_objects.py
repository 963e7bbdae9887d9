"""Object stores, against a real S3 server: the status kept as an object, a bucket's probe in each of its states."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import obstore
import pytest
from obstore.store import S3Store
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
from adinsights_orchestration.status.file import StatusFileError, write_status_file
from tests.conftest import free_port
from tests.status.world import NOON, World

KEY, SECRET, BUCKET = "the-key", "the-secret-canary", "adinsights"
IDENTITIES = {
    "identities": [
        {
            "name": "a",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
    ]
}


@dataclass(frozen=True)
class S3:
    """A server of objects, with one bucket."""

    url: str

    def get(self, key: str) -> tuple[bytes, dict[str, Any]]:
        """An object and its headers."""
        store = S3Store(
            BUCKET,
            config={"endpoint": self.url, "region": "us-east-1", "access_key_id": KEY, "secret_access_key": SECRET},
            client_options={"allow_http": True},
        )
        found = obstore.get(store, key)
        return bytes(found.bytes()), dict(found.attributes)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    identities = folder / "identities.json"
    identities.write_text(json.dumps(IDENTITIES))
    (folder / "data").mkdir()
    parts = ("master.port", "volume.port", "filer.port")
    # Unasked, gRPC's ports are 10,000 above, which may be none.
    ports = [f"-{part}={free_port()}" for part in (*parts, *(f"{part}.grpc" for part in (*parts, "s3.port")))]
    options = [
        "-s3",
        f"-s3.port={port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        f"-s3.config={identities}",
        "-volume.max=5",
        "-ip=127.0.0.1",
    ]
    weed = str(Path(sys.executable).with_name("weed"))
    with (folder / "log").open("w") as log:
        command = [weed, "server", f"-dir={folder / 'data'}", *options, *ports]
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        found = S3(f"http://127.0.0.1:{port}")
        _make_bucket(found, folder / "log")
        yield found
    finally:
        server.kill()  # its data goes with the test; in an orderly way it takes half a minute
        server.wait()


def _make_bucket(server: S3, log: Path) -> None:
    """The server makes a bucket with the first object that an administrator puts there."""
    store = S3Store(
        BUCKET,
        config={"endpoint": server.url, "region": "us-east-1", "access_key_id": KEY, "secret_access_key": SECRET},
        client_options={"allow_http": True, "timeout": timedelta(seconds=5)},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
    )
    deadline = time.monotonic() + 90
    while True:
        try:
            obstore.put(store, "made", b"x", use_multipart=False)
        except (obstore.exceptions.BaseError, OSError):
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.5)
        else:
            return


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
        write_status_file(settings, ops_store, moment)
        content, attributes = s3.get("status/now.json")
        assert json.loads(content)["as_of"] == moment.isoformat().replace("+00:00", "Z")
        assert (attributes["Content-Type"], attributes["Cache-Control"]) == ("application/json", "no-store")


def test_a_file_and_an_address_of_a_file_hold_the_same(s3: S3, ops_store: OpsStore, tmp_path: Path) -> None:
    World(ops_store).well()
    other = tmp_path / "a folder" / "status.json"
    settings = _settings(s3.url, status_path=tmp_path / "status.json", status_url=other.as_uri())
    write_status_file(settings, ops_store, NOON)
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
        write_status_file(settings, ops_store, NOON)
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
        for endpoint, state in (
            (f"http://127.0.0.1:{free_port()}", "refused"),
            ("http://no-such-host.invalid", "dns"),
            (f"http://127.0.0.1:{silent.getsockname()[1]}", "timeout"),
        ):
            settings = _settings(endpoint, object_store_url=f"s3://{BUCKET}", probe_timeout_seconds=1.5)
            assert _probe(ops_store, settings)[1] == (Health.DOWN, state)
