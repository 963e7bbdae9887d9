"""Watching the syncs of one run: where each connection stands, read from the ledger.

Belongs here: the rows, and showing them while they change: a live table on a terminal, a line per change elsewhere.
Does not belong here: starting the run (`runs`). The ledger knows every state whoever runs the run, so a command can
follow one in another process as well as its own.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from adinsights_orchestration.cli import process
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_intent, sync_job

POLL_SECONDS = 1.0
_QUIET_SECONDS = 10.0
_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "red", "abandoned": "red", "running": "cyan"}


class SyncWatch:
    """The connections of one run, as the ledger has them.

    Args:
        store: The ops store.
        run_id: The run; what it lets go of at its end is still shown.
        partitions: The partitions that were asked for, in the order of the table.
    """

    def __init__(self, store: OpsStore, run_id: str, partitions: Sequence[str]) -> None:
        self._store = store
        self._run_id = run_id
        self._rows: dict[str, dict[str, Any]] = {key: _row(key, "waiting") for key in partitions}
        self._intents: set[int] = set()

    def look(self) -> list[dict[str, Any]]:
        """Reads the ledger again and returns a row per partition; an unreachable one leaves the rows as they were."""
        try:
            found = self._read()
        except OpsStoreError:
            found = []
        for row in found:
            self._intents.add(row.id)
            if row.partition_key in self._rows:
                reason = "" if row.state == "succeeded" else (row.failure_message or row.last_error or "")
                self._rows[row.partition_key] = _row(row.partition_key, _state(row), row.job_id, row, reason)
        return list(self._rows.values())

    def fail(self, reasons: Mapping[str, str]) -> list[dict[str, Any]]:
        """Puts the run's own verdict in: exactly these failed, each with its reason."""
        for partition, reason in reasons.items():
            known = self._rows.get(partition) or _row(partition, "failed")
            state = known["state"] if known["state"] in ("cancelled", "abandoned") else "failed"
            self._rows[partition] = {**known, "state": state, "reason": reason}
        return list(self._rows.values())

    def _read(self) -> Sequence[sa.Row[Any]]:
        columns = (sync_intent.c.id, sync_intent.c.partition_key, sync_intent.c.state, sync_intent.c.job_id)
        details = (sync_intent.c.last_error, sync_job.c.failure_message, sync_job.c.rows_synced)
        query = (
            sa.select(*columns, *details, sync_job.c.duration_seconds, sync_job.c.status)
            .select_from(sync_intent.outerjoin(sync_job, sync_job.c.job_id == sync_intent.c.job_id))
            .where(sa.or_(sync_intent.c.run_id == self._run_id, sync_intent.c.id.in_(self._intents)))
            .order_by(sync_intent.c.id)
        )
        with self._store.begin() as connection:
            return connection.execute(query).all()


class Shown:
    """Shows rows while the block runs: a live table on a terminal, else one line per change of state.

    Args:
        look: Returns the rows as they are now.
        silent: Show nothing.
    """

    def __init__(self, look: Callable[[], list[dict[str, Any]]], *, silent: bool = False) -> None:
        self._look = look
        self._silent = silent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._lines if not sys.stderr.isatty() else self._live, daemon=True)

    def __enter__(self) -> Self:
        if not self._silent:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if not self._silent:
            self._thread.join()

    def _live(self) -> None:
        from rich.live import Live

        with Live(console=process.console(stderr=True), refresh_per_second=4, transient=True) as live:
            while not self._stop.wait(POLL_SECONDS):
                live.update(process.table(self._look(), style=row_style))

    def _lines(self) -> None:
        began = said_at = time.monotonic()
        said: dict[str, str] = {}
        over = False
        while not over:
            over = self._stop.wait(POLL_SECONDS)  # the end is looked at once more
            rows = self._look()
            for row in _news(rows, said):
                said_at = time.monotonic()
                process.say(_line(row))
            if time.monotonic() - said_at > _QUIET_SECONDS:
                said_at = time.monotonic()
                process.say(f"  ... {said_at - began:.0f} s, {_count(rows)}")


def _news(rows: Sequence[Mapping[str, Any]], said: dict[str, str]) -> list[Mapping[str, Any]]:
    """The rows whose state was not said yet; it counts as said from now on."""
    fresh = [row for row in rows if row["state"] != "waiting" and said.get(row["partition"]) != row["state"]]
    said.update({row["partition"]: row["state"] for row in fresh})
    return fresh


def row_style(row: Mapping[str, Any]) -> str:
    """The colour of a row's state."""
    return _STYLES.get(str(row["state"]), "")


def _row(partition: str, state: str, job_id: int | None = None, found: Any = None, reason: str = "") -> dict[str, Any]:
    return {
        "partition": partition,
        "state": state,
        "job": job_id,
        "rows": found.rows_synced if found is not None else None,
        "seconds": round(found.duration_seconds, 1) if found is not None and found.duration_seconds else None,
        "reason": reason,
    }


def _state(row: sa.Row[Any]) -> str:
    return "waiting" if row.state == "planned" else str(row.state)


def _line(row: Mapping[str, Any]) -> str:
    parts = [f"  {row['partition']}: {row['state']}"]
    parts += [f"job {row['job']}"] if row["job"] else []
    parts += [f"{row['rows']:,} rows"] if row["rows"] is not None else []
    parts += [str(row["reason"])] if row["reason"] else []
    return ", ".join(parts)


def _count(rows: Sequence[Mapping[str, Any]]) -> str:
    over = sum(row["state"] in ("succeeded", "failed", "cancelled", "abandoned") for row in rows)
    return f"{over} of {len(rows)} done"
