"""Findings about very many connections are kept while they hold: at every moment they are those of a fresh look."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from adinsights_orchestration.alerting.facts import ConnectionFact, Facts, ProviderFact
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules import connections, data
from adinsights_orchestration.alerting.rules.rule import judge
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.tenants.model import Provider, Tenant
from tests.alerting.plant import PRODUCTION, SLA
from tests.alerting.support import NOON

RULES = (*connections.RULES, *data.RULES)
PLACES = Places.of(PRODUCTION, None)
TENANTS = {
    UUID(int=1): Tenant(UUID(int=1), "Acme", "acme"),
    UUID(int=2): Tenant(UUID(int=2), "Zeta", "zeta", sla={"sync_age_warn_minutes": 30, "sync_age_page_minutes": 45}),
}


def _facts(dice: random.Random) -> Facts:
    facts = Facts(NOON, SLA, PLACES, TENANTS, providers={Provider.META: ProviderFact(9, dice.randrange(9))})
    late = replace(_fact(0, dice), provider=Provider.META, state=Freshness.STALE)  # whom the provider's count counts
    found = [late, *(_fact(number, dice) for number in range(1, 12))]
    return replace(facts, connections=found, freshness_at=NOON)


def _fact(number: int, dice: random.Random) -> ConnectionFact:
    state = dice.choice([each for each in Freshness if each is not Freshness.OK])
    since = NOON - timedelta(minutes=dice.randrange(150))
    provider = dice.choice((Provider.META, Provider.GA4))
    return ConnectionFact(
        f"c{number}",
        provider,
        UUID(int=dice.choice((1, 2))),
        state,
        "it says so",
        since,
        deadline=since if dice.random() < 0.7 else None,
        failures=dice.randrange(3) if state is not Freshness.STALE else 0,
        running_since=since if dice.random() < 0.5 else None,
        usual_seconds=dice.choice((None, 60.0, 3600.0)),
    )


@pytest.mark.parametrize("seed", range(40))
def test_what_is_kept_is_what_a_fresh_look_finds_at_every_moment_whichever_way_the_clock_goes(seed: int) -> None:
    dice = random.Random(seed)
    facts, now = _facts(dice), NOON
    for _ in range(30):
        now += timedelta(minutes=dice.choice((1, 1, 3, 7, 15, 30, 120, -2, -45)), seconds=dice.randrange(2))
        if dice.random() < 0.2:
            facts = replace(
                facts, connections=[facts.connections[0], *facts.connections[2:], _fact(dice.randrange(50, 99), dice)]
            )
        at = replace(facts, now=now, freshness_at=now)
        assert judge(RULES, at).findings == judge(RULES, replace(at, memo={})).findings


def test_a_second_look_at_the_same_connections_makes_no_finding_anew() -> None:
    facts = _facts(random.Random(3))
    first, again = judge(RULES, facts).findings, judge(RULES, replace(facts, now=NOON + timedelta(seconds=1))).findings
    assert first
    assert all(one is other for one, other in zip(first, again, strict=True) if one.rule.startswith("connection_"))
