"""What follows from what there is: the whole is well only while everything was seen to be well a moment ago."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import Component, ComponentState, Health, Reading
from adinsights_orchestration.health.spells import SPELL, Spell
from adinsights_orchestration.status.facts import Count, Facts, FindingCount, Row
from adinsights_orchestration.status.links import Links
from adinsights_orchestration.status.model import (
    ComponentStatus,
    FreshnessStatus,
    Overall,
    RegistryStatus,
    Status,
    TopologyStatus,
)
from adinsights_orchestration.status.rules import ESSENTIAL, Frame, Limits, build_status, span_words, unreachable
from adinsights_orchestration.tenants.model import Provider, Tenant
from adinsights_orchestration.tenants.store import RegistryHealth
from adinsights_orchestration.topology.model import Topology
from adinsights_orchestration.topology.store import LoadedTopology
from tests.status.world import HOUR, NOON, id_of

LIMIT = timedelta(minutes=2)
FRAME = Frame("production", Links("https://dagster.example.com", "https://runbook"), Limits(LIMIT, LIMIT, LIMIT))
INESSENTIAL = sorted(set(Component) - ESSENTIAL)


def _component(
    component: Component, health: Health = Health.OK, at: datetime = NOON, state: str = ""
) -> ComponentState:
    reading = Reading(component, health, state or health.value, f"{component} answered", at)
    return ComponentState(reading, NOON - HOUR, NOON if health is Health.OK else None)


def _facts(*components: ComponentState, **changes: object) -> Facts:
    """Everything well, but for these."""
    seen = {one.reading.component: one for one in components}
    well: dict[str, object] = {
        "components": [seen.get(each, _component(each)) for each in Component],
        "evaluated_at": NOON,
        "counts": [Count(Provider.META, Freshness.OK, expired=False, connections=3)],
        "tenants": [Tenant(id_of("acme"), "Acme", "acme")],
        "registry": RegistryHealth(NOON, NOON, None, timedelta(), ()),
        "topology": LoadedTopology(Topology("pipelines"), NOON, NOON),
    }
    return Facts(**{**well, **changes})  # type: ignore[arg-type]


def _status(*components: ComponentState, **changes: object) -> Status:
    return build_status(_facts(*components, **changes), FRAME, NOON)


def test_all_is_well_when_everything_was_seen_to_be_a_moment_ago() -> None:
    status = _status()
    assert (status.overall, status.reasons) == (Overall.OK, ())
    assert status.overall.exit_code == 0


@pytest.mark.parametrize("component", sorted(ESSENTIAL))
def test_an_essential_component_that_is_down_takes_the_whole_down(component: Component) -> None:
    status = _status(_component(component, Health.DOWN))
    assert status.overall is Overall.DOWN
    assert status.reasons == (f"{component} is down: {component} answered",)
    assert status.overall.exit_code == 2


@pytest.mark.parametrize("component", INESSENTIAL)
def test_any_other_component_that_is_down_degrades_the_whole(component: Component) -> None:
    assert _status(_component(component, Health.DOWN)).overall is Overall.DEGRADED


def test_the_gravest_reason_is_told_first_and_nothing_twice() -> None:
    status = _status(
        _component(Component.FRONTEND, Health.DEGRADED),
        _component(Component.WEBHOOK, Health.DOWN),
        _component(Component.AIRBYTE, Health.DOWN),
        _component(Component.DBT, Health.UNKNOWN),
    )
    assert [reason.split(":")[0] for reason in status.reasons] == [
        "airbyte is down",
        "webhook is down",
        "frontend is degraded",
        "unknown",
    ]
    worst = [each.component for each in status.components[:4]]
    assert worst == [Component.AIRBYTE, Component.WEBHOOK, Component.FRONTEND, Component.DBT]


def test_while_nobody_looks_at_components_each_is_unknown_and_not_green() -> None:
    status = _status(components=[])
    assert {(each.health, each.state, each.watched) for each in status.components} == {
        (Health.UNKNOWN, "no_reading", True)
    }
    assert status.overall is Overall.DEGRADED
    assert status.reasons == (f"unknown: {', '.join(each.component for each in status.components)}",)


def test_an_old_reading_is_unknown_and_says_what_it_was_and_how_long_ago() -> None:
    status = _status(_component(Component.BACKEND, at=NOON - timedelta(minutes=10)))
    backend = _of(status, Component.BACKEND)
    assert (backend.health, backend.state) == (Health.UNKNOWN, "old_reading")
    assert backend.detail == "The last look was 10 min ago, and said ok: backend answered"
    assert backend.age_seconds == 600
    assert status.overall is Overall.DEGRADED


def test_what_was_down_when_it_was_last_seen_is_unknown_and_the_whole_stays_down() -> None:
    status = _status(_component(Component.BACKEND, Health.DOWN, NOON - timedelta(minutes=10)))
    assert _of(status, Component.BACKEND).health is Health.UNKNOWN
    assert status.overall is Overall.DOWN
    assert status.reasons == ("backend is unknown: The last look was 10 min ago, and said down: backend answered",)


def test_what_is_down_and_answers_again_says_since_when() -> None:
    facts = {SPELL: Spell(NOON - HOUR, NOON, failed=9, probes=9, well_since=NOON).to_json()}
    reading = Reading(Component.BACKEND, Health.DOWN, "refused", "refused", NOON, facts=facts)
    (backend, *_) = _status(ComponentState(reading, NOON - HOUR, NOON)).components
    assert backend.detail == "refused (no probe has failed since 12:00:00 UTC, which is not believed yet)"


def test_a_reading_from_the_future_is_not_believed_for_longer_than_an_old_one() -> None:
    assert _of(_status(_component(Component.API, at=NOON + LIMIT)), Component.API).health is Health.OK
    ahead = _of(_status(_component(Component.API, at=NOON + 2 * LIMIT)), Component.API)
    assert ahead.health is Health.UNKNOWN
    assert "in the future" in ahead.detail
    assert ahead.age_seconds == 0


def test_too_few_requests_for_an_error_rate_are_unknown_and_no_fault() -> None:
    status = _status(_component(Component.API, Health.UNKNOWN, state="too_few_requests"))
    assert (_of(status, Component.API).health, status.overall) == (Health.UNKNOWN, Overall.OK)
    assert _status(_component(Component.API, Health.UNKNOWN, state="no_metrics")).overall is Overall.DEGRADED
    old = _component(Component.API, Health.UNKNOWN, NOON - HOUR, state="too_few_requests")
    assert _status(old).overall is Overall.DEGRADED


def _without(component: Component, at: datetime) -> Status:
    """All but one were looked at, then."""
    return _status(components=[_component(each, at=at) for each in Component if each is not component])


def test_what_is_left_out_of_a_look_at_components_is_not_watched_here_and_counts_for_nothing() -> None:
    status = _without(Component.SCHEDULER, NOON)
    assert status.overall is Overall.OK
    last = status.components[-1]
    assert (last.component, last.watched, last.state) == (Component.SCHEDULER, False, "not_watched")
    assert last.health is Health.UNKNOWN


def test_whether_it_is_watched_is_not_known_once_nobody_looks() -> None:
    scheduler = _of(_without(Component.SCHEDULER, NOON - HOUR), Component.SCHEDULER)
    assert (scheduler.watched, scheduler.state) == (True, "no_reading")


def _connections(**counts: int) -> list[Count]:
    return [Count(Provider.META, Freshness(state), False, count) for state, count in counts.items()]


@pytest.mark.parametrize("state", ["stale", "no_recent_sync", "misconfigured"])
def test_one_connection_that_is_late_or_wrong_degrades_the_whole(state: str) -> None:
    status = _status(counts=_connections(ok=99, **{state: 1}))
    assert status.freshness.health is Health.DEGRADED
    assert status.reasons == (f"connections: 1 {state} of 100",)


@pytest.mark.parametrize("state", ["pending", "failing", "running_stale", "paused", "manual"])
def test_a_connection_that_is_not_late_yet_degrades_nothing(state: str) -> None:
    assert _status(counts=_connections(ok=1, **{state: 5})).overall is Overall.OK


def test_counts_are_exact_per_state_and_per_provider() -> None:
    counts = [
        Count(Provider.META, Freshness.OK, expired=False, connections=7_000),
        Count(Provider.META, Freshness.STALE, expired=True, connections=2),
        Count(Provider.GA4, Freshness.OK, expired=False, connections=10),
        Count(Provider.GA4, Freshness.OK, expired=True, connections=4),
        Count(Provider.GA4, Freshness.PAUSED, expired=False, connections=1),
    ]
    freshness = _status(counts=counts).freshness
    assert (freshness.connections, freshness.late, freshness.driven) == (7_017, 2, 7_016)
    assert freshness.by_state["unknown"] == 4
    assert freshness.by_provider == {
        Provider.GA4: {"ok": 10, "unknown": 4, "paused": 1},
        Provider.META: {"ok": 7_000, "stale": 2},
    }
    assert set(freshness.by_state) == {*(state.value for state in Freshness), "unknown"}


@pytest.mark.parametrize(
    ("evaluated_at", "said"),
    [
        (None, "never evaluated; then none is late"),
        (NOON - HOUR, "last evaluated 60 min ago; then none is late"),
        (NOON + HOUR, "last evaluated 60 min in the future; then none is late"),
    ],
)
def test_an_evaluation_that_is_not_at_work_is_unknown_whatever_the_counts_say(
    evaluated_at: datetime | None, said: str
) -> None:
    status = _status(evaluated_at=evaluated_at)
    assert (status.freshness.health, status.freshness.detail) == (Health.UNKNOWN, said)
    assert status.overall is Overall.DEGRADED


def test_a_connection_row_leads_to_its_partition_and_names_tenant_age_and_deadline() -> None:
    row = Row(
        partition="acme/meta ads-1f0c2a9b",
        provider=Provider.META,
        tenant_id=id_of("acme"),
        state=Freshness.STALE,
        expired=False,
        detail="Nothing was started.",
        since=NOON,
        last_success_at=NOON - 3 * HOUR,
        deadline=NOON - HOUR,
    )
    [found] = _status(rows=[row]).freshness.stalest
    assert (found.tenant, found.age_seconds, found.deadline) == ("acme", 3 * 3600, NOON - HOUR)
    assert found.url == (
        "https://dagster.example.com/assets/airbyte/meta?view=partitions&partition=acme%2Fmeta%20ads-1f0c2a9b"
    )


def test_a_tenant_that_left_is_named_by_its_id() -> None:
    row = Row("gone/x", Provider.GA4, id_of("gone"), Freshness.OK, True, "", NOON, None, None)
    [found] = _status(rows=[row]).freshness.stalest
    assert (found.tenant, found.state, found.age_seconds) == (str(id_of("gone")), "unknown", None)


@pytest.mark.parametrize(
    ("registry", "health", "said"),
    [
        (RegistryHealth(None, None, None, None, ()), Health.UNKNOWN, "never read"),
        (
            RegistryHealth(NOON, NOON - HOUR, "no answer", HOUR, ()),
            Health.DEGRADED,
            "no answer; as of 60 min ago",
        ),
        (RegistryHealth(NOON, None, "no answer", None, ()), Health.DEGRADED, "no answer"),
        (
            RegistryHealth(NOON - HOUR, NOON - HOUR, None, HOUR, ()),
            Health.UNKNOWN,
            "last read 60 min ago, and nobody has tried since",
        ),
    ],
)
def test_a_registry_that_is_not_read_says_why_or_since_when(
    registry: RegistryHealth, health: Health, said: str
) -> None:
    status = _status(registry=registry)
    assert (status.registry.health, status.registry.detail) == (health, said)
    assert status.reasons == (f"registry: {said}",)


def test_findings_are_counted_and_degrade_nothing() -> None:
    found = [FindingCount("registry_problem", 1, NOON), FindingCount("webhook_missed", 4, NOON - HOUR)]
    status = _status(findings=found)
    assert status.overall is Overall.OK
    assert status.findings.by_kind == {"webhook_missed": 4, "registry_problem": 1}
    assert (status.findings.open, status.findings.oldest_at) == (5, NOON - HOUR)


def test_a_topology_that_is_not_the_newest_or_not_there_is_told() -> None:
    assert _status(topology=LoadedTopology(note="never published")).topology.health is Health.UNKNOWN
    older = _status(topology=LoadedTopology(Topology("p"), NOON, NOON, "version 2 is newer"))
    assert (older.topology.health, older.reasons) == (Health.DEGRADED, ("topology: version 2 is newer",))


def _parts(status: Status) -> list[ComponentStatus | FreshnessStatus | RegistryStatus | TopologyStatus]:
    return [*status.components, status.freshness, status.registry, status.topology]


def test_without_an_ops_store_everything_is_unknown_and_the_whole_is_down() -> None:
    status = unreachable("the ops store does not answer (refused)", FRAME, NOON)
    assert status.overall is Overall.DOWN
    assert status.reasons == ("the ops store does not answer (refused)",)
    assert status.known_at is None
    assert {each.health for each in _parts(status)} == {Health.UNKNOWN}


def test_without_an_ops_store_nothing_is_said_of_what_was_looked_at_or_read_before() -> None:
    status = unreachable("the ops store does not answer (refused)", FRAME, NOON, NOON - HOUR)
    assert status.reasons[1:] == ("the last picture is of 2026-03-10 11:00 UTC",)
    assert (status.as_of, status.known_at) == (NOON, NOON - HOUR)
    assert {each.detail for each in _parts(status)} == {"Not known while the ops store does not answer."}
    assert {each.state for each in status.components} == {"not_known"}
    assert all(each.watched for each in status.components)


healths = st.sampled_from(Health)
pictures = st.lists(healths, min_size=len(Component), max_size=len(Component))


@given(pictures, st.integers(0, len(Component) - 1), healths)
def test_a_component_that_gets_worse_never_makes_the_whole_better(
    picture: list[Health], which: int, other: Health
) -> None:
    worse = [
        max(health, other, key=lambda one: one.rank) if at == which else health for at, health in enumerate(picture)
    ]
    before, after = (
        _status(*(_component(each, health) for each, health in zip(Component, one, strict=True)))
        for one in (picture, worse)
    )
    assert after.overall.exit_code >= before.overall.exit_code


@given(pictures, st.integers(0, 10_000), st.integers(0, 10_000))
def test_silence_never_turns_anything_green(picture: list[Health], first: int, more: int) -> None:
    facts = _facts(*(_component(each, health) for each, health in zip(Component, picture, strict=True)))
    early = build_status(facts, FRAME, NOON + timedelta(seconds=first))
    later = build_status(facts, FRAME, NOON + timedelta(seconds=first + more))
    assert later.overall.exit_code >= early.overall.exit_code
    well = {each.component for each in early.components if each.health is Health.OK}
    assert {each.component for each in later.components if each.health is Health.OK} <= well


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_spans_are_said_as_people_do(seconds: float, said: str) -> None:
    assert span_words(seconds) == said


def _of(status: Status, component: Component) -> ComponentStatus:
    return next(each for each in status.components if each.component is component)
