"""Which job last took rows out of a provider's raw tables: a clear deletes what no sync will report.

Belongs here: that note, for ingestion to leave and for whoever builds on the raw tables to read. Does not belong here:
what a clear is (`ingestion`), what is built then (`transformation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.tables import cursor
from adinsights_orchestration.tenants.model import Provider

_NAME = "raw:taken_out"


def note_taken_out(connection: sa.Connection, jobs: Mapping[Provider, int], now: datetime) -> None:
    """Notes each provider's newest clear, by its Airbyte job; the caller has its turn on the ledger."""
    if jobs:
        notes = {**taken_out(connection), **jobs}
        keep_cursor(connection, _NAME, {provider.value: job_id for provider, job_id in notes.items()}, now)


def taken_out(connection: sa.Connection) -> dict[Provider, int]:
    """Returns the Airbyte job of each provider's newest clear, of those that had one."""
    found = connection.execute(sa.select(cursor.c.value).where(cursor.c.name == _NAME)).scalar_one_or_none()
    return {Provider(name): int(job_id) for name, job_id in (found or {}).items()}
