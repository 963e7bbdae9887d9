"""From what there is to what it means: one pure function.

Belongs here: when a part is well, and what follows for the whole. Does not belong here: reading (`facts`). Silence is
never health: a reading, an evaluation or a registry that nobody renews is `unknown` and says since when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import NOTHING_TO_MEASURE, Component, ComponentState, Health, Reading
from adinsights_orchestration.health.spells import SPELL, Spell
from adinsights_orchestration.status.facts import NOT_DRIVEN, Count, Facts, FindingCount, Row
from adinsights_orchestration.status.links import REGISTRY_SECTION, Links
from adinsights_orchestration.status.model import (
    FRESHNESS_STATES,
    UNKNOWN_STATE,
    ComponentStatus,
    ConnectionStatus,
    FindingsStatus,
    FreshnessStatus,
    Overall,
    RegistryStatus,
    Status,
    TopologyStatus,
)

# What a customer cannot do without, and what nothing moves without: one of these down is `down`, any other `degraded`.
ESSENTIAL = frozenset(
    {
        Component.FRONTEND,
        Component.BACKEND,
        Component.API,
        Component.SUPERSET,
        Component.WAREHOUSE,
        Component.AIRBYTE,
        Component.DAGSTER_DAEMONS,
        Component.CODE_LOCATIONS,
    }
)
NOT_WATCHED = "not_watched"  # the state of a component that this environment does not look at


@dataclass(frozen=True, slots=True)
class Limits:
    """From what age on silence is a fact of its own.

    Attributes:
        reading: Of a component's reading.
        evaluation: Of an evaluation of freshness, and of a verdict that has run out.
        registry: Of the registry.
    """

    reading: timedelta
    evaluation: timedelta
    registry: timedelta


@dataclass(frozen=True, slots=True)
class Frame:
    """What a picture is taken with, beside the facts.

    Attributes:
        environment: Where this is.
        links: Where rows lead.
        limits: From when silence counts.
        tenant: The tenant to which the connections are narrowed; None for all.
    """

    environment: str
    links: Links
    limits: Limits
    tenant: str | None = None


def build_status(facts: Facts, frame: Frame, now: datetime) -> Status:
    """Returns how everything is at `now`."""
    known = {state.reading.component: state for state in facts.components}
    judged = {each: _judged(known.get(each), _at_work(facts, frame, now), frame, now) for each in Component}
    components = [_component(each, known.get(each), judged[each], frame, now) for each in Component]
    parts = {
        "components": tuple(sorted(components, key=_worst_first)),
        "freshness": _freshness(facts, frame, now),
        "registry": _registry(facts, frame, now),
        "findings": _findings(facts.findings),
        "topology": _topology(facts, now),
    }
    return _concluded(frame, now, parts)


def unreachable(problem: str, frame: Frame, now: datetime, known_at: datetime | None = None) -> Status:
    """The status while the ops store does not answer: nothing is known, and that is down.

    Whether anything was ever looked at, read or published nobody can say then, so none of that is said.

    Args:
        problem: What the ops store, or its address, answered.
        frame: As for `build_status`.
        now: The moment.
        known_at: The moment of the last picture; None where nothing says it.
    """
    blind = build_status(Facts(), frame, now)
    parts = {name: _not_known(getattr(blind, name)) for name in ("freshness", "registry", "topology")}
    components = tuple(_not_known(each).model_copy(update={"state": "not_known"}) for each in blind.components)
    last = (f"the last picture is of {known_at:%Y-%m-%d %H:%M} UTC",) if known_at else ()
    said = {"overall": Overall.DOWN, "reasons": (problem, *last), "known_at": known_at}
    return blind.model_copy(update={**said, **parts, "components": components})


_P = TypeVar("_P", ComponentStatus, FreshnessStatus, RegistryStatus, TopologyStatus)


def _not_known(part: _P) -> _P:
    said = "Not known while the ops store does not answer."
    return part.model_copy(update={"health": Health.UNKNOWN, "detail": said})


def _concluded(frame: Frame, now: datetime, parts: Mapping[str, object]) -> Status:
    blank = {"as_of": now, "known_at": now, "environment": frame.environment, "tenant": frame.tenant}
    status = Status.model_validate({**blank, "overall": Overall.OK, "reasons": (), **parts})
    # No data ends no failure: what was down when it was last seen still takes the whole down.
    grave = [each for each in _watched(status) if each.last_health is Health.DOWN and each.component in ESSENTIAL]
    reasons = (*(_said(each) for each in grave), *_reasons(status, {each.component for each in grave}))
    overall = Overall.DOWN if grave else Overall.DEGRADED if reasons else Overall.OK
    return status.model_copy(update={"overall": overall, "reasons": reasons})


def _reasons(status: Status, told: Iterable[Component]) -> Iterator[str]:
    """What keeps the whole from being well, beside the components that are told already."""
    watched = [each for each in _watched(status) if each.component not in set(told)]
    yield from (_said(each) for each in watched if each.health in (Health.DOWN, Health.DEGRADED))
    if status.freshness.health is not Health.OK:
        yield f"connections: {status.freshness.detail}"
    if status.registry.health is not Health.OK:
        yield f"registry: {status.registry.detail}"
    unknown = [each.component.value for each in watched if each.health is Health.UNKNOWN and not _is_idle(each)]
    if unknown:
        yield f"unknown: {', '.join(unknown)}"
    if status.topology.health is not Health.OK:
        yield f"topology: {status.topology.detail}"


def _watched(status: Status) -> list[ComponentStatus]:
    return [each for each in status.components if each.watched]


def _is_idle(each: ComponentStatus) -> bool:
    return (each.component, each.state) in NOTHING_TO_MEASURE


def _said(each: ComponentStatus) -> str:
    return f"{each.component} is {each.health}: {each.detail or each.state}"


def _worst_first(each: ComponentStatus) -> tuple[bool, int, bool, int]:
    order = tuple(Component).index(each.component)
    return not each.watched, -each.health.rank, each.component not in ESSENTIAL, order


def _component(
    component: Component, state: ComponentState | None, judged: tuple[Health, str, str], frame: Frame, now: datetime
) -> ComponentStatus:
    reading = state.reading if state else None
    health, word, detail = judged
    return ComponentStatus(
        component=component,
        health=health,
        last_health=reading.health if reading else None,
        state=word,
        detail=detail,
        watched=word != NOT_WATCHED,
        since=state.since if state else None,
        last_ok_at=state.last_ok_at if state else None,
        checked_at=reading.at if reading else None,
        age_seconds=_age(reading.at if reading else None, now),
        latency_ms=reading.latency_ms if reading else None,
        value=reading.value if reading else None,
        url=frame.links.component(component),
        runbook=frame.links.component_runbook(component),
    )


def _at_work(facts: Facts, frame: Frame, now: datetime) -> bool:
    """Whether components are looked at. Each look takes all that are watched: one that then has no reading is not."""
    return any(abs(now - state.reading.at) <= frame.limits.reading for state in facts.components)


def _judged(state: ComponentState | None, at_work: bool, frame: Frame, now: datetime) -> tuple[Health, str, str]:
    if state is None and at_work:
        return Health.UNKNOWN, NOT_WATCHED, "Not watched here: docs/settings.md, section Health, says how."
    if state is None:
        return Health.UNKNOWN, "no_reading", "It was never looked at."
    reading = state.reading
    if abs(now - reading.at) <= frame.limits.reading:
        return reading.health, reading.state, f"{reading.detail}{_recovering(reading)}"
    where = "ago" if reading.at < now else "in the future"
    last = f"The last look was {_span(abs(now - reading.at))} {where}, and said {reading.health}: {reading.detail}"
    return Health.UNKNOWN, "old_reading", last


def _recovering(reading: Reading) -> str:
    spell = Spell.from_json(reading.facts.get(SPELL))
    if spell is None or spell.well_since is None or reading.health not in (Health.DOWN, Health.DEGRADED):
        return ""
    return f" (no probe has failed since {spell.well_since:%H:%M:%S} UTC, which is not believed yet)"


def _freshness(facts: Facts, frame: Frame, now: datetime) -> FreshnessStatus:
    total = _by_state(facts.counts)
    silent = _silent(facts.evaluated_at, frame.limits.evaluation, now)
    late = sum(total[state.value] for state in Freshness if state.is_late)
    wrong = {name: total[name] for name in (*_NOT_PASSING, UNKNOWN_STATE) if total[name]}
    words = ", ".join(f"{count:,} {name}" for name, count in wrong.items())
    health, detail = Health.OK, "none is late" if total.total() else "there are none"
    if silent:
        health, detail = Health.UNKNOWN, f"{silent}; then {words or detail}"
    elif wrong:
        health, detail = Health.DEGRADED, f"{words} of {total.total():,}"
    names = {tenant.id: tenant.slug for tenant in facts.tenants}
    return FreshnessStatus(
        health=health,
        detail=detail,
        evaluated_at=facts.evaluated_at,
        age_seconds=_age(facts.evaluated_at, now),
        connections=total.total(),
        late=late,
        by_state={state: total[state] for state in FRESHNESS_STATES},
        by_provider={
            provider: dict(_by_state(each for each in facts.counts if each.provider is provider))
            for provider in sorted({each.provider for each in facts.counts})
        },
        stalest=tuple(_connection(row, names, frame, now) for row in facts.rows),
        driven=sum(each.connections for each in facts.counts if each.state not in NOT_DRIVEN),
    )


_NOT_PASSING = tuple(state.value for state in Freshness if not state.passes)


def _by_state(counts: Iterable[Count]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total[_state(each.state, each.expired)] += each.connections
    return total


def _state(state: Freshness, expired: bool) -> str:
    """A late connection stays late whoever looks: what has run out is only what was good."""
    return UNKNOWN_STATE if expired and state.passes else state.value


def _silent(evaluated_at: datetime | None, limit: timedelta, now: datetime) -> str:
    if evaluated_at is None:
        return "never evaluated"
    if abs(now - evaluated_at) <= limit:
        return ""
    where = "ago" if evaluated_at < now else "in the future"
    return f"last evaluated {_span(abs(now - evaluated_at))} {where}"


def _connection(row: Row, names: Mapping[UUID, str], frame: Frame, now: datetime) -> ConnectionStatus:
    return ConnectionStatus(
        partition=row.partition,
        provider=row.provider,
        tenant=names.get(row.tenant_id, str(row.tenant_id)),
        state=_state(row.state, row.expired),
        since=row.since,
        last_success_at=row.last_success_at,
        age_seconds=_age(row.last_success_at, now),
        deadline=row.deadline,
        reason=row.detail,
        url=frame.links.partition(row.provider, row.partition),
    )


def _registry(facts: Facts, frame: Frame, now: datetime) -> RegistryStatus:
    health, detail = Health.OK, f"read from its source, {len(facts.tenants):,} tenants"
    read_at, attempted_at = facts.registry.succeeded_at, facts.registry.attempted_at
    if read_at is None and not facts.registry.error:
        health, detail = Health.UNKNOWN, "never read"
    elif facts.registry.error:
        since = f"; as of {_span(now - read_at)} ago" if read_at else ""
        health, detail = Health.DEGRADED, f"{facts.registry.error}{since}"
    elif attempted_at is None or abs(now - attempted_at) > frame.limits.registry:
        age = _span(abs(now - attempted_at)) if attempted_at else "unknown"
        health, detail = Health.UNKNOWN, f"last read {age} ago, and nobody has tried since"
    return RegistryStatus(
        health=health,
        detail=detail,
        attempted_at=attempted_at,
        read_at=read_at,
        age_seconds=_age(read_at, now),
        tenants=len(facts.tenants),
        problems=len(facts.registry.problems),
        runbook=frame.links.runbook(REGISTRY_SECTION),
    )


def _findings(counts: Iterable[FindingCount]) -> FindingsStatus:
    found = sorted(counts, key=lambda each: (-each.open, each.kind))
    return FindingsStatus(
        open=sum(each.open for each in found),
        by_kind={each.kind: each.open for each in found},
        oldest_at=min((each.oldest_at for each in found), default=None),
    )


def _topology(facts: Facts, now: datetime) -> TopologyStatus:
    loaded = facts.topology
    topology = loaded.topology
    health = Health.UNKNOWN if topology is None else Health.DEGRADED if loaded.note else Health.OK
    return TopologyStatus(
        health=health,
        detail=loaded.note or ("as the location said at its last load" if topology else "there is none"),
        published_at=loaded.published_at,
        confirmed_at=loaded.confirmed_at,
        age_seconds=_age(loaded.confirmed_at, now),
        assets=len(topology.assets) if topology else 0,
        dashboards=len(topology.dashboards) if topology else 0,
    )


def _age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max((now - moment).total_seconds(), 0.0)


def _span(span: timedelta) -> str:
    return span_words(span.total_seconds())


def span_words(seconds: float) -> str:
    """A span of time as people say it: `40 s`, `12 min`, `3 h`, `2 d`."""
    for size, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < size:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"
