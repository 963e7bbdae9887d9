"""The archive's stores for tests: a folder, a real S3 server, and a stand-in of GCS, behind a wire that breaks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.settings import AuditLogSettings
from tests.objects_served.gcs import BUCKET, Gcs
from tests.objects_served.weed import S3
from tests.objects_served.wire import Wire, forwarding, serving

KINDS = ("folder", "s3", "gcs")
RETRY_SECONDS = 1.0


@dataclass
class Behind:
    """An archive that nothing lies in yet.

    Attributes:
        settings: Where it is.
        wire: What lies between; None for a folder.
        gcs: The stand-in behind it.
        folder: The folder.
    """

    settings: AuditLogSettings
    wire: Wire | None = None
    gcs: Gcs | None = None
    folder: Path | None = None

    def open(self, **changed: Any) -> Store:
        """Opens it as the settings say, with some of them changed."""
        return open_store(self.settings.model_copy(update=changed))


@contextmanager
def standing(kind: str, request: pytest.FixtureRequest, folder: Path, **more: Any) -> Iterator[Behind]:
    """An empty archive of a kind for the body's time."""
    values: dict[str, Any] = {"retry_seconds": RETRY_SECONDS, **more}
    if kind == "folder":
        yield Behind(AuditLogSettings(archive_url=folder.as_uri(), **values), folder=folder)
    elif kind == "s3":
        server: S3 = request.getfixturevalue("s3")
        with serving(Wire(forwarding(server.url))) as wire:
            prefix = f"archives/{uuid.uuid4().hex[:8]}"
            yield Behind(server.settings(prefix, s3_endpoint=wire.url, **values), wire)
    else:
        gcs = Gcs()
        with serving(Wire(gcs)) as wire:
            settings = AuditLogSettings(archive_url=f"gs://{BUCKET}/archive", gcs_endpoint=wire.url, **values)
            yield Behind(settings, wire, gcs)
