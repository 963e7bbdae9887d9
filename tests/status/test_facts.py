"""What is read of the ops store: exact counts, the stalest rows, and nothing that only another release knows."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import component_health
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.facts import Count, Facts, load_facts
from adinsights_orchestration.status.model import Overall
from adinsights_orchestration.status.reading import take_status
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Provider, Registry, RegistryProblem, Tenant
from tests.status.world import HOUR, NOON, World, id_of, late, state_of


def _load(store: OpsStore, *tenants: str, stalest: int = 20) -> Facts:
    ids = [id_of(name) for name in tenants] or None
    return load_facts(store, NOON, expired_before=NOON - timedelta(minutes=2), tenants=ids, stalest=stalest)


def test_an_ops_store_in_which_nothing_has_happened_yet_is_read_and_degraded(ops_store: OpsStore) -> None:
    facts = _load(ops_store)
    assert (facts.components, facts.evaluated_at, facts.counts, facts.rows, facts.tenants) == ([], None, [], [], [])
    assert take_status(Settings(), ops_store, NOON).overall is Overall.DEGRADED


def test_everything_well_is_read_as_well(ops_store: OpsStore) -> None:
    World(ops_store).well().evaluated([state_of("acme/meta")])
    status = take_status(Settings(), ops_store, NOON)
    assert (status.overall, status.reasons) == (Overall.OK, ())
    assert [each.partition for each in status.freshness.stalest] == ["acme/meta"]
    assert status.freshness.stalest[0].tenant == "acme"


def test_the_same_rows_are_not_well_any_more_when_nobody_renews_them(ops_store: OpsStore) -> None:
    World(ops_store).well().evaluated([state_of("acme/meta")])
    status = take_status(Settings(), ops_store, NOON + timedelta(minutes=10))
    assert {each.health for each in status.components} == {Health.UNKNOWN}
    assert (status.freshness.health, status.registry.health) == (Health.UNKNOWN, Health.UNKNOWN)


def test_connections_are_counted_by_provider_state_and_whether_their_verdict_ran_out(ops_store: OpsStore) -> None:
    World(ops_store).evaluated(
        [
            *(state_of(f"acme/meta-{number}") for number in range(3)),
            state_of("acme/old", valid_until=NOON - timedelta(minutes=3)),
            state_of("acme/just", valid_until=NOON - timedelta(minutes=1)),
            state_of("acme/paused", Freshness.PAUSED, provider=Provider.GA4),
        ]
    )
    counted = sorted(_load(ops_store).counts, key=lambda one: (one.provider, one.expired))
    assert counted == [
        Count(Provider.GA4, Freshness.PAUSED, False, 1),
        Count(Provider.META, Freshness.OK, False, 4),
        Count(Provider.META, Freshness.OK, True, 1),
    ]


def test_the_worst_state_comes_first_and_in_it_the_oldest_success(ops_store: OpsStore) -> None:
    World(ops_store).evaluated(
        [
            state_of("acme/young", last_success_at=NOON),
            state_of("acme/older", last_success_at=NOON - HOUR),
            late("acme/late"),
            state_of("acme/never", Freshness.NO_RECENT_SYNC, last_success_at=None),
            state_of("acme/wrong", Freshness.MISCONFIGURED),
            state_of("acme/failing", Freshness.FAILING),
            state_of("acme/paused", Freshness.PAUSED),
            state_of("acme/manual", Freshness.MANUAL),
        ]
    )
    assert [row.partition.removeprefix("acme/") for row in _load(ops_store).rows] == [
        *("never", "late", "wrong", "failing", "older", "young")
    ]
    assert [row.partition for row in _load(ops_store, stalest=2).rows] == ["acme/never", "acme/late"]
    assert _load(ops_store, stalest=0).rows == []


def test_one_tenant_s_picture_holds_nothing_of_another_s_connections(ops_store: OpsStore) -> None:
    world = World(ops_store).well()
    world.evaluated([late("acme/meta"), state_of("globex/meta")])
    facts = _load(ops_store, "globex")
    assert [row.partition for row in facts.rows] == ["globex/meta"]
    assert [each.connections for each in facts.counts] == [1]
    narrowed = take_status(Settings(), ops_store, NOON, tenant=("globex", [id_of("globex")]))
    assert (narrowed.overall, narrowed.tenant) == (Overall.OK, "globex")
    assert take_status(Settings(), ops_store, NOON).overall is Overall.DEGRADED


def test_open_findings_are_counted_by_kind(ops_store: OpsStore) -> None:
    world = World(ops_store)
    for subject in ("a", "b"):
        world.finding("webhook_missed", subject)
    [found] = _load(ops_store).findings
    assert (found.kind, found.open, found.oldest_at) == ("webhook_missed", 2, NOON)


def test_a_component_that_only_another_release_watches_is_passed_over(ops_store: OpsStore) -> None:
    World(ops_store).read({Component.BACKEND: Health.OK})
    with ops_store.begin() as connection:
        connection.execute(sa.update(component_health).values(component="of_tomorrow"))
    assert _load(ops_store).components == []


def test_tenants_and_problems_are_read_without_parsing_the_connections(ops_store: OpsStore) -> None:
    tenant = Tenant(id_of("acme"), "Acme", "acme")
    problem = RegistryProblem("acme/meta", "no schedule")
    registry = Registry((tenant,), (), "a test", NOON, (problem,))
    with ops_store.begin() as connection:
        registry_store.write_success(connection, registry_store.write_snapshot(connection, "1", registry, None), NOON)
    facts = _load(ops_store)
    assert ops_store not in registry_store._parsed
    assert (facts.tenants, facts.registry.problems) == ([tenant], (problem,))
    assert registry_store.load_registry(ops_store).tenants == (tenant,)
    again = _load(ops_store)  # from what this process has parsed by now
    assert (again.tenants, again.registry) == (facts.tenants, facts.registry)
