"""Health in Dagster's event log: a check evaluation and an observation of a component when it changes.

Belongs here: when something is written, and what was written last. Does not belong here: how it looks (`rendering`).
What was written is noted only afterwards: a process that dies between the two writes the same again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.health import rendering
from adinsights_orchestration.health.model import Component, ComponentState
from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor

_SHOWN = "health_shown"
LOCK = "health_show"
# An outage may change its face with every probe (refused, timeout): its word alone is news only so often.
SAME_HEALTH_EVERY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Last:
    health: str
    state: str
    at: datetime


def show(
    instance: dg.DagsterInstance, store: OpsStore, states: Mapping[Component, ComponentState], now: datetime
) -> list[Component]:
    """Writes the components that are otherwise than was written last, and returns them.

    Args:
        instance: Where to write.
        store: Where it is noted.
        states: Every watched component.
        now: The moment of the round.
    """
    with store.exclusive(LOCK) as mine:
        if not mine:
            return []
        with store.begin() as connection:
            last = _load(connection)
        news = [component for component, state in states.items() if _is_news(state, last.get(component.value), now)]
        for component in news:
            _write(instance, states[component], now)
        if news or set(last) - {component.value for component in states}:
            _note(store, states, news, last, now)
        return news


def _write(instance: dg.DagsterInstance, state: ComponentState, now: datetime) -> None:
    key = rendering.asset_key(state.reading.component)
    events.report_checks(instance, key, rendering.CHECK, [rendering.check_result(state)], at=now)
    instance.report_runless_asset_event(rendering.observation(state))


def _is_news(state: ComponentState, last: _Last | None, now: datetime) -> bool:
    if last is None or last.health != state.reading.health.value:
        return True
    return last.state != state.reading.state and not timedelta() <= now - last.at < SAME_HEALTH_EVERY


def _load(connection: sa.Connection) -> dict[str, _Last]:
    value = connection.execute(sa.select(cursor.c.value).where(cursor.c.name == _SHOWN)).scalar() or {}
    return {name: _Last(one["health"], one["state"], datetime.fromisoformat(one["at"])) for name, one in value.items()}


def _note(
    store: OpsStore,
    states: Mapping[Component, ComponentState],
    news: list[Component],
    last: Mapping[str, _Last],
    now: datetime,
) -> None:
    value: dict[str, dict[str, Any]] = {}
    for component, state in states.items():
        known = last.get(component.value)
        if component in news or known is None:
            known = _Last(state.reading.health.value, state.reading.state, now)
        value[component.value] = {"health": known.health, "state": known.state, "at": known.at.isoformat()}
    with store.begin() as connection:
        keep_cursor(connection, _SHOWN, value, now)
