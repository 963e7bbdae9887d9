"""Freshness in Dagster's event log: the check of each connection, the watermark of each provider, the table of all.

Belongs here: from kept states to events, each written only when it says something new. Does not belong here: concluding
anything (`evaluate`), how events are stored (`dagster_internals`). A materialization clears its partition's check, so
the check is written again after each sync; writing one twice says the same twice, so it is noted only afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.freshness import rendering
from adinsights_orchestration.freshness import states as kept
from adinsights_orchestration.freshness.model import ConnectionState
from adinsights_orchestration.freshness.watermark import Watermark, is_news, watermark_of
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor
from adinsights_orchestration.tenants.model import Provider

CHECKS_PER_TICK = 5000  # what is left is shown by the next tick
TABLE_EVERY = timedelta(minutes=5)
_BATCH = 500
_SHOWN = "freshness_shown"


@dataclass(frozen=True, slots=True)
class Shown:
    """What was written: check evaluations, watermarks, and whether the table of all connections."""

    checks: int = 0
    watermarks: int = 0
    table: bool = False


@dataclass(frozen=True, slots=True)
class Showing:
    """Writes what Dagster has not been told yet of one ops store's states.

    Attributes:
        instance: Where to write.
        store: What is kept.
        warn_after: From which age on a watermark warns; it is renewed well before.
    """

    instance: dg.DagsterInstance
    store: OpsStore
    warn_after: timedelta

    def show(self, now: datetime, *, changed: bool) -> Shown:
        """Writes checks, watermarks and, where something changed, the table.

        Args:
            now: The moment of the evaluation.
            changed: Whether a connection changed its state since the last call.
        """
        checks = sum(self._show_checks(provider, now) for provider in Provider)
        with self.store.begin() as connection:
            last = _last(connection)
            states = list(kept.load_states(connection).values()) if self._wants_states(last, now, changed) else None
        if states is None:
            return Shown(checks)
        watermarks = self._show_watermarks(states, last, now)
        table = (changed or last.dirty) and self._table_is_due(last, now)
        if table:
            self.instance.report_runless_asset_event(rendering.table(states, now))
        with self.store.begin() as connection:
            after = _Last(
                {**last.watermarks, **watermarks},
                now if table else last.table_at,
                not table and (changed or last.dirty),
            )
            _save(connection, after, now)
        return Shown(checks, len(watermarks), table)

    def _show_checks(self, provider: Provider, now: datetime) -> int:
        key, shown = dg.AssetKey(provider.asset_path), 0
        while shown < CHECKS_PER_TICK:
            with self.store.begin() as connection:
                states = kept.unshown_states(connection, provider, _BATCH)
            if not states:
                break
            events.report_checks(self.instance, key, rendering.CHECK, map(rendering.check_result, states), at=now)
            with self.store.begin() as connection:
                kept.mark_shown(connection, states)
            shown += len(states)
        return shown

    def _wants_states(self, last: _Last, now: datetime, changed: bool) -> bool:
        renewal = min((mark.reported_at for mark in last.watermarks.values()), default=None)
        watermarks_due = renewal is None or now - renewal >= self.warn_after / 2
        return changed or watermarks_due or (last.dirty and self._table_is_due(last, now))

    def _show_watermarks(
        self, states: Sequence[ConnectionState], last: _Last, now: datetime
    ) -> dict[Provider, Watermark]:
        reported = {}
        for provider in Provider:
            mark = watermark_of([state for state in states if state.facts.provider is provider], now)
            if mark is not None and is_news(mark, last.watermarks.get(provider), self.warn_after / 2):
                events.report_materializations(
                    self.instance, rendering.watermark_key(provider), [rendering.watermark(mark)]
                )
                reported[provider] = mark
        return reported

    @staticmethod
    def _table_is_due(last: _Last, now: datetime) -> bool:
        return last.table_at is None or not timedelta() <= now - last.table_at < TABLE_EVERY


@dataclass(frozen=True, slots=True)
class _Last:
    """What was written last: each provider's watermark, the table, and whether something changed since that table."""

    watermarks: Mapping[Provider, Watermark]
    table_at: datetime | None
    dirty: bool


def _last(connection: sa.Connection) -> _Last:
    value = connection.execute(sa.select(cursor.c.value).where(cursor.c.name == _SHOWN)).scalar()
    if value is None:
        return _Last({}, None, dirty=True)
    marks = {Provider(name): Watermark.from_json(Provider(name), mark) for name, mark in value["watermarks"].items()}
    table_at = value["table_at"]
    return _Last(marks, datetime.fromisoformat(table_at) if table_at else None, value["dirty"])


def _save(connection: sa.Connection, last: _Last, now: datetime) -> None:
    value: dict[str, Any] = {
        "watermarks": {provider.value: mark.to_json() for provider, mark in last.watermarks.items()},
        "table_at": last.table_at.isoformat() if last.table_at else None,
        "dirty": last.dirty,
    }
    upsert = insert(cursor).values(name=_SHOWN, value=value, updated_at=now)
    connection.execute(upsert.on_conflict_do_update(index_elements=["name"], set_={"value": value, "updated_at": now}))
