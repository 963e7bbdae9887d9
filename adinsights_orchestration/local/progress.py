"""Progress for a person who waits: a line per finished sync, and a sign of life when nothing else is said.

Belongs here: when a line is due and what it says. Does not belong here: the work that is waited for. Nobody should have
to guess whether a command of the local stack still works, so nothing is silent for longer than a few seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job

Say = Callable[[str], None]
QUIET_SECONDS = 5.0
_POLL_SECONDS = 1.0


class Pulse:
    """Says that something is still going on, when nothing was said for a while; asked again and again by its owner.

    Args:
        say: Where lines go.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(self, say: Say, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._say, self._monotonic = say, monotonic
        self._began = self._last = monotonic()

    def said(self) -> None:
        """Something else was said just now."""
        self._last = self._monotonic()

    def beat(self, doing: str) -> None:
        """Says what is being done and for how long, unless something was said only just now."""
        now = self._monotonic()
        if now - self._last >= QUIET_SECONDS:
            self._last = now
            self._say(f"  ... {now - self._began:.0f} s: {doing}")


class SyncLines:
    """One line for each sync that finished since a moment, each told once."""

    def __init__(self, store: OpsStore, say: Say, since: datetime) -> None:
        self._store, self._say, self._since = store, say, since
        self._told: set[int] = set()

    def tell(self) -> bool:
        """Tells those that finished since the last call; returns whether there were any."""
        fresh = [row for row in finished_syncs(self._store, self._since) if row["job_id"] not in self._told]
        for row in fresh:
            self._told.add(row["job_id"])
            self._say(_line(row))
        return bool(fresh)


@contextmanager
def telling(say: Say, doing: str, lines: SyncLines | None = None) -> Iterator[None]:
    """Gives signs of life while the block runs, and says which syncs finish meanwhile."""
    over = threading.Event()
    pulse = Pulse(say)

    def work() -> None:
        while not over.wait(_POLL_SECONDS):
            if lines is not None and _tell(lines):
                pulse.said()
            pulse.beat(doing)

    thread = threading.Thread(target=work, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if lines is not None:
            _tell(lines)


def finished_syncs(store: OpsStore, since: datetime) -> Sequence[Mapping[str, Any]]:
    """The ledger's rows of syncs that were seen to have ended since then, oldest first."""
    finished = sa.select(sync_job).where(sync_job.c.observed_at >= since, sync_job.c.ended_at.is_not(None))
    return rows_of(store, finished.order_by(sync_job.c.ended_at))


def rows_of(store: OpsStore, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
    """The rows of a query on the ops store."""
    with store.begin() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _tell(lines: SyncLines) -> bool:
    """Whoever does the work reports a store that is gone; telling of it is no reason to fail."""
    try:
        return lines.tell()
    except OpsStoreError:
        return False


def _line(row: Mapping[str, Any]) -> str:
    if row["status"] != "succeeded":
        return f"  {row['partition_key']}: {row['status'].upper()}: {row['failure_message'] or 'no reason given'}"
    return f"  synced {row['partition_key']}: {row['rows_synced'] or 0:,} rows in {whole_seconds(row)} s"


def whole_seconds(row: Mapping[str, Any]) -> str:
    """A sync's duration as Airbyte knows it, which is in whole seconds."""
    seconds = row["duration_seconds"] or 0
    return "<1" if seconds < 1 else f"{seconds:.0f}"


def published_since(path: Path, since: datetime) -> bool:
    """Whether the file of published run results was written at a moment or later."""
    return path.exists() and path.stat().st_mtime >= since.timestamp()
