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

from adinsights_orchestration.health import spells
from adinsights_orchestration.health.model import LAST_STATE, QUIET, Component, ComponentState, Health, Reading
from adinsights_orchestration.health.spells import SPELL, Spell
from adinsights_orchestration.ops_store.tables import component_health

_BAD = (Health.DEGRADED, Health.DOWN)
LAST_BAD_AT = "last_bad_at"  # a fact that the rule keeps for itself


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
    One failed probe is not an outage: what was not down before is `DEGRADED` until it has failed for `confirm_after` in
    all and more often than not, and then down since its first failed probe. Nor is one good probe its end: what failed
    more than once stays as bad as it was until no probe has failed for as long, or it would come and go with every one.

    Args:
        before: How it was; None at its first reading.
        reading: The new one.
        confirm_after: How long it must be down before it counts as down.
        quiet_after: How long after the last bad reading a quiet one ends the failure; None where none does.
    """
    spell = spells.after(_spell(before), reading, confirm_after)
    last_ok_at = reading.at if reading.health is Health.OK else before.last_ok_at if before else None
    if before is None:
        return ComponentState(_in(spell, reading), reading.at, last_ok_at)
    shown, since = reading, reading.at
    if reading.health is Health.UNKNOWN and before.reading.health in _BAD:
        if _is_over(before, reading, quiet_after):
            spell = None
        else:
            shown = _still(before, reading)
    elif reading.health is Health.DOWN and before.reading.health is not Health.DOWN:
        assert spell is not None
        since = spell.since
        shown = reading if spell.is_outage(confirm_after) else replace(reading, health=Health.DEGRADED)
    elif spell is not None and spell.failed > 1 and _is_better(reading, before):
        shown = _as_before(before, reading)
    if shown.health is before.reading.health:
        since = before.since
    return ComponentState(_in(spell, shown), min(since, reading.at), last_ok_at)


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
    return replace(
        reading,
        health=before.reading.health,
        detail=f"no data ({reading.detail}); it was {last} before",
        facts={**reading.facts, LAST_STATE: last, LAST_BAD_AT: _last_bad_at(before).isoformat()},
    )


def _is_better(reading: Reading, before: ComponentState) -> bool:
    return before.reading.health in _BAD and reading.health.rank < before.reading.health.rank


def _as_before(before: ComponentState, reading: Reading) -> Reading:
    """A better reading that is not believed yet: the spell among the facts says since when it has been so."""
    last = before.reading
    told = reading if LAST_STATE in last.facts else last  # what was no data is some now
    return replace(reading, health=last.health, state=last.matter, detail=told.detail, facts=told.facts)


def _in(spell: Spell | None, reading: Reading) -> Reading:
    return replace(reading, facts={**reading.facts, SPELL: spell.to_json()}) if spell else reading


def _spell(before: ComponentState | None) -> Spell | None:
    return Spell.from_json(before.reading.facts.get(SPELL)) if before else None


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
