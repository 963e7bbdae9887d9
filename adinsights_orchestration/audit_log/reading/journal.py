"""Who verified or read the archive, beside the archive: for when the ops store, which has the journal, does not answer.

Belongs here: that one object. Does not belong here: the journal (`audit_log.journal`). No manifest names it. Where
there is no archive none is begun: its disk may not be mounted, and what lies below its mount point is hidden later.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.errors import MissingObjectError


def note_beside(store: Store, source: str, kind: str, *, actor: str, now: datetime, summary: Mapping[str, Any]) -> str:
    """Writes down that somebody verified or read the archive; returns the object's key.

    Raises:
        StoreError: It takes no new object, as for a role that may only read; or it holds no archive of the table.
    """
    if not chain.beyond_the_end(store, source, 0):
        raise MissingObjectError("there is no archive", place=store.url)
    key = f"audit/v1/{source}/journal/{now.astimezone(UTC):%Y-%m-%dT%H%M%SZ}-{uuid.uuid4().hex[:12]}.json"
    said = {"kind": kind, "actor": actor, "at": now.astimezone(UTC).isoformat(), **summary}
    store.create(key, json.dumps(said, sort_keys=True).encode())
    return key
