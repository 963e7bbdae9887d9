"""How each component is after its readings so far: the rule, and the rows.

Belongs here: from a reading to a component's standing (`step`, pure), and reading and writing `component_health`. Does
not belong here: counting readings (`samples`), showing anything (`showing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.health.model import LAST_STATE, QUIET, Component, ComponentState, Health, Reading
from adinsights_orchestration.ops_store.tables import component_health

_BAD = (Health.DEGRADED, Health.DOWN)
# Facts that the rule keeps for itself.
DOWN_SINCE, LAST_BAD_AT = "down_since", "last_bad_at"


@dataclass(frozen=True, slots=True)
class Transition:
    """A component whose health is another than before; `before` is None at its first reading."""

    before: Health | None
    after: ComponentState


def step(
    before: ComponentState | None, reading: Reading, confirm_after: timedelta, quiet_after: timedelta | None = None
) -> ComponentState:
    """Returns how the component is after one more reading.

    No data never ends a failure: a component that was bad stays so, and its detail says that nothing was learnt. Having
    looked and found nothing to measure is another thing: it ends one when the whole of what was looked at lies after
    the last bad reading. Without that a site whose failures sent its visitors away would be down until they came back.
    One failed probe is not an outage: what was not down before is `DEGRADED` until it has been down for
    `confirm_after`, and then down since its first failed probe.

    Args:
        before: How it was; None at its first reading.
        reading: The new one.
        confirm_after: How long it must be down before it counts as down.
        quiet_after: How long after the last bad reading a quiet one ends the failure; None where none does.
    """
    if before is None:
        return ComponentState(reading, reading.at, reading.at if reading.health is Health.OK else None)
    last_ok_at = reading.at if reading.health is Health.OK else before.last_ok_at
    shown, since = reading, reading.at
    if (
        reading.health is Health.UNKNOWN
        and before.reading.health in _BAD
        and not _is_over(before, reading, quiet_after)
    ):
        shown = _still(before, reading)
    elif reading.health is Health.DOWN and before.reading.health is not Health.DOWN:
        since = _down_since(before) or reading.at
        shown = _down(reading, since, confirmed=reading.at - since >= confirm_after)
    if shown.health is before.reading.health:
        since = before.since
    return ComponentState(shown, min(since, reading.at), last_ok_at)


def load(connection: sa.Connection) -> dict[Component, ComponentState]:
    """Returns what is kept of every component that this release knows."""
    known = {component.value for component in Component}
    rows = connection.execute(sa.select(component_health))
    return {Component(row.component): _state(row) for row in rows if row.component in known}


def record(
    connection: sa.Connection, readings: Iterable[Reading], confirm_after: timedelta, quiet_after: timedelta
) -> tuple[dict[Component, ComponentState], list[Transition]]:
    """Writes how each component is after its reading, and forgets those that are not watched any more.

    Args:
        connection: The caller's transaction.
        readings: One for every component that is watched.
        confirm_after: See `step`.
        quiet_after: See `step`; it holds while the backend answers, without which a quiet API is a dead one.

    Returns:
        Every component's state, and those of another health than before.
    """
    before, new = load(connection), {each.component: each for each in readings}
    backend = new.get(Component.BACKEND)
    quiet = quiet_after if backend is not None and backend.health is Health.OK else None
    after = {component: step(before.get(component), each, confirm_after, quiet) for component, each in new.items()}
    _write(connection, after)
    gone = sa.delete(component_health).where(component_health.c.component.not_in([one.value for one in after]))
    connection.execute(gone)
    return after, _transitions(before, after)


def _transitions(
    before: Mapping[Component, ComponentState], after: Mapping[Component, ComponentState]
) -> list[Transition]:
    found = []
    for component, state in after.items():
        known = before.get(component)
        was = known.reading.health if known else None
        if was is not state.reading.health:
            found.append(Transition(was, state))
    return found


def _is_over(before: ComponentState, reading: Reading, quiet_after: timedelta | None) -> bool:
    if quiet_after is None or not (reading.is_idle and reading.facts.get(QUIET)):
        return False
    return reading.at - _last_bad_at(before) >= quiet_after


def _last_bad_at(before: ComponentState) -> datetime:
    """When it was seen to be bad; `before` is, or nothing was learnt since it was."""
    kept = before.reading.facts.get(LAST_BAD_AT)
    return datetime.fromisoformat(kept) if kept else before.reading.at


def _still(before: ComponentState, reading: Reading) -> Reading:
    last = before.reading.matter
    kept = {name: value for name, value in before.reading.facts.items() if name == DOWN_SINCE}
    return replace(
        reading,
        health=before.reading.health,
        detail=f"no data ({reading.detail}); it was {last} before",
        facts={**reading.facts, **kept, LAST_STATE: last, LAST_BAD_AT: _last_bad_at(before).isoformat()},
    )


def _down(reading: Reading, since: datetime, *, confirmed: bool) -> Reading:
    health = Health.DOWN if confirmed else Health.DEGRADED
    return replace(reading, health=health, facts={**reading.facts, DOWN_SINCE: since.isoformat()})


def _down_since(before: ComponentState) -> datetime | None:
    kept = before.reading.facts.get(DOWN_SINCE)
    return datetime.fromisoformat(kept) if kept else None


def _write(connection: sa.Connection, states: Mapping[Component, ComponentState]) -> None:
    if not states:
        return
    upsert = insert(component_health)
    changed = {column.name: column for column in upsert.excluded if column.name != "component"}
    upsert = upsert.on_conflict_do_update(index_elements=[component_health.c.component], set_=changed)
    connection.execute(upsert, [_row(state) for state in states.values()])


def _row(state: ComponentState) -> dict[str, Any]:
    reading = state.reading
    return {
        "component": reading.component.value,
        "health": reading.health.value,
        "state": reading.state,
        "detail": reading.detail,
        "facts": dict(reading.facts),
        "latency_ms": reading.latency_ms,
        "value": reading.value,
        "since": state.since,
        "last_ok_at": state.last_ok_at,
        "checked_at": reading.at,
    }


def _state(row: sa.Row[Any]) -> ComponentState:
    reading = Reading(
        component=Component(row.component),
        health=Health(row.health),
        state=row.state,
        detail=row.detail,
        at=row.checked_at,
        latency_ms=row.latency_ms,
        value=row.value,
        facts=row.facts,
    )
    return ComponentState(reading, row.since, row.last_ok_at)
