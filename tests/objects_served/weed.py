"""A real S3 server in a process of its own, with one bucket and one identity."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store
from pydantic import SecretStr

from adinsights_orchestration.settings import AuditLogSettings
from tests.conftest import free_port

KEY, SECRET, BUCKET = "the-key", "the-secret-canary", "adinsights"
READER, READER_SECRET = "a-reader", "a-readers-secret-canary"


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


IDENTITIES = {
    "identities": [
        _identity("a", KEY, SECRET, ["Admin", "Read", "Write", "List"]),
        _identity("reader", READER, READER_SECRET, ["Read", "List"]),
    ]
}


@dataclass(frozen=True)
class S3:
    """A server of objects, with one bucket."""

    url: str

    def client(self, bucket: str = BUCKET) -> S3Store:
        """obstore's own, for what a test does behind the archive's back."""
        return S3Store(
            bucket,
            config={"endpoint": self.url, "region": "us-east-1", "access_key_id": KEY, "secret_access_key": SECRET},
            client_options={"allow_http": True},
        )

    def get(self, key: str) -> tuple[bytes, dict[str, Any]]:
        """An object and its headers."""
        found = obstore.get(self.client(), key)
        return bytes(found.bytes()), dict(found.attributes)

    def settings(self, prefix: str, **more: Any) -> AuditLogSettings:
        """The settings of an archive below a prefix of the bucket."""
        values: dict[str, Any] = {
            "archive_url": f"s3://{BUCKET}/{prefix}",
            "s3_endpoint": self.url,
            "s3_access_key_id": SecretStr(KEY),
            "s3_secret_access_key": SecretStr(SECRET),
        }
        return AuditLogSettings(**(values | more))


@contextmanager
def running_weed(folder: Path) -> Iterator[S3]:
    """SeaweedFS, which honours conditional writes and checksums."""
    port = free_port()
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
        "-volume.max=40",
        "-ip=127.0.0.1",
    ]
    weed = str(Path(sys.executable).with_name("weed"))
    with (folder / "log").open("w") as log:
        command = [weed, "server", f"-dir={folder / 'data'}", *options, *ports]
        own_key = {**os.environ, "WEED_S3_SSE_KEK": "11" * 32}  # with it the server encrypts where it is asked to
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=own_key)
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
