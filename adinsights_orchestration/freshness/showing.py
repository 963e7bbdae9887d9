"""Freshness in Dagster's event log: the check of each connection, the watermark of each provider, the table of all.

Belongs here: from kept states to events, each written only when it says something new. Does not belong here: concluding
anything (`evaluate`), how events are stored (`dagster_internals`). What was written last is kept beside the marks of
the evaluations that it told of, and noted only after it was written: whoever dies in between, or finds somebody else at
it, leaves a difference that the next tick finds, and writing something twice says the same twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.freshness import rendering
from adinsights_orchestration.freshness import states as kept
from adinsights_orchestration.freshness.model import ConnectionState, Freshness
from adinsights_orchestration.freshness.states import Place
from adinsights_orchestration.freshness.watermark import Delivered, Watermark, is_news, renewal_is_due, watermark_of
from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor
from adinsights_orchestration.tenants.model import Provider

CHECKS_PER_TICK = 10_000  # of all providers; what is left is shown by the next tick
TABLE_EVERY = timedelta(minutes=5)
LOCK = "freshness_show"
_BATCH = 500
_SHOWN = "freshness_shown"


@dataclass(frozen=True, slots=True)
class Shown:
    """What was written.

    Attributes:
        checks: Evaluations of checks.
        watermarks: Watermarks.
        table: Whether the table of all connections.
        left: Whether checks were left to the next tick.
        skipped: Why nothing was shown, or empty; the next tick shows it.
    """

    checks: int = 0
    watermarks: int = 0
    table: bool = False
    left: bool = False
    skipped: str = ""


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

    def show(self, clock: TickClock, *, checks: bool = True) -> Shown:
        """Writes watermarks, the table and checks, the few that speak of many first.

        Args:
            clock: Starts at the moment of the evaluation; when its budget is used up, what is left of the checks waits
                for the next tick, but for a first batch, so that each tick gets somewhere.
            checks: Whether checks are shown too, or somebody else does that.
        """
        with self.store.exclusive(LOCK) as mine:
            if not mine:
                return Shown(skipped="another tick is at it")
            with self.store.begin() as connection:
                place, last = kept.load_place(connection), _last(connection)
            if place is None:
                return Shown(skipped="nothing was evaluated yet")
            watermarks = self._show_watermarks(last, place, clock.start)
            last = self._noted(last, clock.start, {**last.watermarks, **watermarks}, mark=place.mark)
            table = last.turned != place.turned and _table_is_due(last, clock.start)
            if table:
                self._show_table(clock.start)
                self._noted(last, clock.start, turned=place.turned, table_at=clock.start)
            shown, left = self._show_checks(clock) if checks else (0, False)
        return Shown(shown, len(watermarks), table, left)

    def show_provider(self, provider: Provider, now: datetime, *, by_run: str) -> Counter[Freshness]:
        """Writes the check of each of a provider's connections, whether it says something new or not.

        Returns:
            How many are in each state.
        """
        judged: Counter[Freshness] = Counter()
        after = ""
        while True:
            with self.store.begin() as connection:
                states = kept.states_after(connection, provider, after, _BATCH)
            if not states:
                return judged
            self._show_checks_of(provider, states, now, by_run)
            judged.update(one.verdict.state for one in states)
            after = states[-1].facts.partition_key

    def _show_watermarks(self, last: _Last, place: Place, now: datetime) -> dict[Provider, Watermark]:
        """Reports the watermarks that are news; looks at connections only where one of them may be."""
        renew_after = self.warn_after / 2
        due = any(renewal_is_due(mark, renew_after, now) for mark in last.watermarks.values())
        if last.mark == place.mark and not due:
            return {}
        with self.store.begin() as connection:
            delivered = {one.provider: one for one in kept.delivered(connection, self.warn_after)}
        reported = {}
        for provider in Provider:
            before = last.watermarks.get(provider)
            mark = watermark_of(delivered.get(provider, Delivered(provider)), before, now)
            if mark is not None and is_news(mark, before, renew_after):
                events.report_materializations(
                    self.instance, rendering.watermark_key(provider), [rendering.watermark(mark)]
                )
                reported[provider] = mark
        return reported

    def _show_table(self, now: datetime) -> None:
        with self.store.begin() as connection:
            counts = kept.count_by_state(connection)
            stalest = kept.stalest_states(connection, rendering.TABLE_ROWS)
        self.instance.report_runless_asset_event(rendering.table(counts, stalest, now))

    def _show_checks(self, clock: TickClock) -> tuple[int, bool]:
        """Returns how many checks were written, and whether some are left."""
        shown = 0
        while True:
            with self.store.begin() as connection:
                states = kept.unshown_states(connection, _BATCH)
            if not states:
                return shown, False
            if shown and (shown >= CHECKS_PER_TICK or not clock.left()):
                return shown, True
            for provider in Provider:
                self._show_checks_of(provider, [one for one in states if one.facts.provider is provider], clock.start)
            shown += len(states)

    def _show_checks_of(
        self, provider: Provider, states: Sequence[ConnectionState], now: datetime, by_run: str | None = None
    ) -> None:
        if not states:
            return
        key, results = dg.AssetKey(provider.asset_path), map(rendering.check_result, states)
        events.report_checks(self.instance, key, rendering.CHECK, results, at=now, by_run=by_run)
        with self.store.begin() as connection:
            kept.mark_shown(connection, states)

    def _noted(
        self, last: _Last, now: datetime, watermarks: Mapping[Provider, Watermark] | None = None, **changes: Any
    ) -> _Last:
        """Notes what was written, where that is something else than before."""
        after = replace(last, watermarks=last.watermarks if watermarks is None else watermarks, **changes)
        if after != last:
            with self.store.begin() as connection:
                _save(connection, after, now)
        return after


@dataclass(frozen=True, slots=True)
class _Last:
    """What was written last.

    Attributes:
        watermarks: Each provider's.
        mark: Up to which evaluation they tell what is true, as `Place.mark`.
        table_at: When the table was written.
        turned: Up to which evaluation it shows every change, as `Place.turned`.
    """

    watermarks: Mapping[Provider, Watermark] = field(default_factory=dict)
    mark: str = ""
    table_at: datetime | None = None
    turned: str = ""


def _table_is_due(last: _Last, now: datetime) -> bool:
    return last.table_at is None or not timedelta() <= now - last.table_at < TABLE_EVERY


def _last(connection: sa.Connection) -> _Last:
    value = connection.execute(sa.select(cursor.c.value).where(cursor.c.name == _SHOWN)).scalar()
    if value is None:
        return _Last()
    marks = {Provider(name): Watermark.from_json(Provider(name), mark) for name, mark in value["watermarks"].items()}
    table_at = value["table_at"]
    return _Last(
        marks,
        value.get("mark", ""),  # a release that kept no marks: everything is looked at once
        datetime.fromisoformat(table_at) if table_at else None,
        value.get("turned", ""),
    )


def _save(connection: sa.Connection, last: _Last, now: datetime) -> None:
    value: dict[str, Any] = {
        "watermarks": {provider.value: mark.to_json() for provider, mark in last.watermarks.items()},
        "mark": last.mark,
        "table_at": last.table_at.isoformat() if last.table_at else None,
        "turned": last.turned,
        "dirty": True,  # what a release before this one reads: it looks again rather than miss something
    }
    keep_cursor(connection, _SHOWN, value, now)
