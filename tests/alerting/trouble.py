"""Facts in which each rule finds something wrong, for tests of what all of them say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from adinsights_orchestration.alerting.facts import (
    Availability,
    CheckKey,
    ConnectionFact,
    Disk,
    EmptySyncs,
    Events,
    Facts,
    Failure,
    Halt,
    NightDone,
    OpenFinding,
    ProviderFact,
    SyncErrors,
)
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules import budget, data
from adinsights_orchestration.alerting.rules.catalog import RULES
from adinsights_orchestration.alerting.rules.rule import RULE_FAILED, Rule, Verdict, judge
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.dbt import DbtState
from adinsights_orchestration.health.model import Component, ComponentState, Health, Reading
from adinsights_orchestration.tenants.model import Connection, Provider, Schedule, ScheduleType
from tests.alerting.ledger import ACME
from tests.alerting.plant import PRODUCTION, SLA
from tests.alerting.support import NOON

DAY = timedelta(days=1)
KEY = "acme/meta-ads-1f0c2a9b"
PLACES = Places.of(PRODUCTION, None)
_FAILED = Failure(NOON - DAY, "Steps failed", "run-1")
_STATES = (Freshness.STALE, Freshness.NO_RECENT_SYNC, Freshness.RUNNING_STALE, Freshness.FAILING)


def everything(places: Places = PLACES) -> list[Finding]:
    """Findings of every rule, at least one under each of its names."""
    found = [each for facts in _facts(places) for each in judge(RULES, facts).findings]
    found += judge([Rule("broken", (), _broken)], Facts(NOON, SLA, places)).findings
    names = {RULE_FAILED, *(name for rule in RULES for name in rule.speaks_of)}
    assert names - {each.rule for each in found} == set()
    return found


def component(name: Component, state: str = "x") -> ComponentState:
    """A component that is down, and was well before."""
    return ComponentState(Reading(name, Health.DOWN, state, "it says so", NOON), NOON - DAY, NOON - DAY)


def _broken(_: Facts) -> Verdict:
    raise ValueError("boom")


def _facts(places: Places) -> Iterator[Facts]:
    whole = _everywhere(places)
    yield whole
    for state in (*DbtState, "probe_error"):
        yield replace(whole, components={Component.DBT: component(Component.DBT, state)})
    yield replace(whole, events=Events(problem="Dagster's storage does not answer"))
    yield replace(whole, now=NOON + timedelta(hours=1))  # nobody has looked since


def _everywhere(places: Places) -> Facts:
    connection = Connection(
        ACME.id, ACME.id, Provider.META, "Meta", ACME.id, Schedule(ScheduleType.INTERVAL, interval=DAY)
    )
    return Facts(
        NOON,
        SLA,
        places,
        tenants={ACME.id: ACME},
        connections=[_connection(f"{KEY}{n}", state) for n, state in enumerate((*_STATES, Freshness.MISCONFIGURED))],
        providers={Provider.META: ProviderFact(10, 9)},
        freshness_at=NOON,
        sync_errors=[
            SyncErrors(ACME.id, Provider.META, 99, NOON - DAY, KEY),
            SyncErrors(ACME.id, Provider.GA4, 99, NOON),
        ],
        components={name: component(name) for name in Component},
        findings=[OpenFinding(kind, KEY, {}, NOON - DAY) for kind in ("registry_shrunk", data.NOT_ACTIVE)],
        events=_events(),
        held=["one", "another"],
        served={KEY: connection},
        empty_syncs=[EmptySyncs(KEY, Provider.META, ACME.id, 99, NOON - DAY, NOON - DAY, 20, 7, NOON + DAY)],
        night=NightDone(expected=True),
        availability={span: Availability(1.0, 1.0) for span in budget.windows(SLA)},
        disks=[Disk("/state", 1.0)],
    )


def _events() -> Events:
    halts = {"a": Halt(NOON, "It did not tick.", "pipelines"), "b": Halt(NOON, "It fails.", "pipelines", fails=True)}
    return Events(
        jobs={"nightly": _FAILED, "dbt_refresh": _FAILED, "audit_log_archive": _FAILED},
        checks={CheckKey("marts/x", "unique"): _FAILED},
        stopped=halts,
        materialized={"audit_log/archive": (NOON - 9 * DAY, True)},
    )


def _connection(key: str, state: Freshness) -> ConnectionFact:
    known = ConnectionFact(key, Provider.META, ACME.id, state, "it says so", NOON - DAY, deadline=NOON - DAY)
    return replace(known, failures=9, running_since=NOON - DAY, usual_seconds=60.0, last_job=7, connection_id=ACME.id)
