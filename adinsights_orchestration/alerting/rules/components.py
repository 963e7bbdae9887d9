"""Rules about components: every probe that is degraded or down, dbt, the API, the webhook and the dashboards too.

Belongs here: from a component's standing to a finding, pure. Does not belong here: what makes one degraded or down: the
probes hold it against the SLA table themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.message import Link, Severity
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.rules.rule import Rule, Verdict
from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health.catalog import CATALOG
from adinsights_orchestration.health.dbt import DbtState
from adinsights_orchestration.health.model import Component, ComponentState, Health, Reading
from adinsights_orchestration.owners import PLATFORM_ENG
from adinsights_orchestration.tenants.model import Provider

HEALTH_SILENT, FRESHNESS_SILENT = "health_not_probed", "freshness_not_evaluated"
DOWN = "component_down"
_NAMES = {
    Component.API: "api_error_rate",
    Component.WEBHOOK: "webhook_silent",
    Component.DASHBOARDS: "dashboards_stale",
    Component.REGISTRY: "registry_stale",
    Component.CODE_LOCATIONS: "code_location_not_loaded",
    Component.DAGSTER_DAEMONS: "daemon_silent",
}
_DBT = {
    DbtState.STALE: "dbt_stale",
    DbtState.FAILING: "dbt_failing",
    DbtState.INVALID: "dbt_invalid",
    DbtState.MISSING: "dbt_missing",
}
_DBT_OTHER = "dbt_unwell"  # of a probe that failed itself
_LEVELS = {
    Component.API: Sla.API_ERROR_RATE,
    Component.WEBHOOK: Sla.WEBHOOK_SILENCE,
    Component.DASHBOARDS: Sla.DASHBOARD_AGE,
    Component.REGISTRY: Sla.REGISTRY_AGE,
    Component.DAGSTER_DAEMONS: Sla.HEARTBEAT_AGE,
    Component.CODE_LOCATIONS: Sla.HEARTBEAT_AGE,
    Component.OBJECT_STORE: Sla.DISK_FREE,
    Component.BACKEND_DBT: Sla.DBT_RUN_AGE,
    Component.BACKEND_AIRBYTE: Sla.SYNC_AGE,
    Component.SCHEDULER: Sla.HEARTBEAT_AGE,
}
# Those whose answer holds a figure: without one, what is missed is the answer.
_ASKED = (Component.BACKEND_AIRBYTE, Component.BACKEND_DBT, Component.SCHEDULER, Component.OBJECT_STORE)
_SYNCED = tuple("/".join(provider.asset_path) for provider in Provider)
# What goes with a component, beside what lies downstream of its asset.
EXPLAINS: dict[Component, tuple[str, ...]] = {
    Component.AIRBYTE: (*_SYNCED, "health/backend_airbyte", "health/webhook"),
    Component.WAREHOUSE: (*_SYNCED, "health/dbt", "health/dashboards"),
    Component.BACKEND: tuple(
        f"health/{name}" for name in ("backend_airbyte", "backend_dbt", "api", "dashboards", "webhook")
    ),
    Component.DBT: ("health/backend_dbt", "health/dashboards"),
    Component.DAGSTER_DAEMONS: _SYNCED,
}
_SYMPTOMS = frozenset(
    (
        Component.BACKEND_AIRBYTE,
        Component.BACKEND_DBT,
        Component.API,
        Component.DASHBOARDS,
        Component.WEBHOOK,
        Component.DBT,
    )
)
_SILENT_AFTER = timedelta(minutes=5)
# What a new deployment has not had yet. It comes with the first hourly sync and the build after it: until then it is no
# news, and neither begins an alert nor ends one. Of a component that was well before, the same state is news at once;
# only a snapshot is missing anew with each new tenant.
_NOT_YET = frozenset(("never_read", "missing_run_results", "no_recent_sync"))
_OF_A_NEW_TENANT = "no_snapshot"
_FIRST_CYCLE = timedelta(hours=1)
# The backend knows of the newest failed sync, whosever it is. Whose it is and how often it failed says the connection's
# own alert, or nobody where its tenant is silenced.
_SYNC_FAILED = (Component.BACKEND_AIRBYTE, "sync_failed")
_WORDS = {
    Component.API: "The API",
    Component.BACKEND_AIRBYTE: "Airbyte in the backend's eyes",
    Component.BACKEND_DBT: "dbt in the backend's eyes",
    Component.DBT: "dbt",
}
_PLURAL = frozenset((Component.CODE_LOCATIONS, Component.DAGSTER_DAEMONS, Component.DASHBOARDS))


def components(facts: Facts) -> Verdict:
    """Components that are degraded (told) or down (paged), as long as probes look at all."""
    newest = max((state.reading.at for state in facts.components.values()), default=None)
    if newest is None or facts.now - newest > _SILENT_AFTER:
        return Verdict(blind="no probe has looked lately")
    bad = [state for state in facts.components.values() if state.reading.health in (Health.DEGRADED, Health.DOWN)]
    found = [_finding(state, facts) for state in bad if not _is_no_news(state, facts)]
    unknown = {
        component.value: state.reading.detail
        for component, state in facts.components.items()
        if _says_nothing(state.reading) or _is_no_news(state, facts)
    }
    return Verdict(found, unknown=unknown)


def watchers(facts: Facts) -> Verdict:
    """The evaluations that all others rest on: a silent one would turn everything else to `no data` unnoticed."""
    found = []
    newest = max((state.reading.at for state in facts.components.values()), default=None)
    for rule, sensor, at in (
        (HEALTH_SILENT, "health_probe", newest),
        (FRESHNESS_SILENT, "freshness_evaluate", facts.freshness_at),
    ):
        if at is not None and facts.now - at > _SILENT_AFTER:
            found.append(
                Finding(
                    rule=rule,
                    resource=sensor,
                    severity=Severity.PAGE,
                    title=f"The sensor {sensor} does not look any more",
                    detail=f"It looked last at {at:%Y-%m-%d %H:%M} UTC.",
                    since=at,
                    last_success=at,
                    owner=PLATFORM_ENG,
                    next_step="Switch it on in Dagster, or read its last tick's error there.",
                    links=(facts.places.runbook("a-dagster-daemon-is-silent"),),
                )
            )
    return Verdict(found)


RULES = (
    Rule(
        "components",
        (DOWN, *_NAMES.values(), *_DBT.values(), _DBT_OTHER),
        components,
    ),
    Rule("watchers", (HEALTH_SILENT, FRESHNESS_SILENT), watchers),
)


def _says_nothing(reading: Reading) -> bool:
    """Whether nothing is known. An idle component is: had it been bad, it would be so still, or that is over."""
    return reading.health is Health.UNKNOWN and not reading.is_idle


def _is_no_news(state: ComponentState, facts: Facts) -> bool:
    component, word = state.reading.component, state.reading.matter
    if (component, word) == _SYNC_FAILED:
        return True
    awaited = word == _OF_A_NEW_TENANT or (word in _NOT_YET and state.last_ok_at is None)
    return awaited and facts.now - state.since < _FIRST_CYCLE


def _finding(state: ComponentState, facts: Facts) -> Finding:
    component, reading = state.reading.component, state.reading
    entry, word = CATALOG[component], reading.matter
    down = reading.health is Health.DOWN
    level = facts.sla[_level(reading)]
    return Finding(
        rule=_rule(component, word),
        resource=component.value,
        severity=Severity.PAGE if down else Severity.WARN,
        title=f"{_named(component)} {'down' if down else 'not well'}: {word.replace('_', ' ')}",
        detail=reading.detail,
        since=state.since,
        labels={"component": component.value},
        sla=level.describe(),
        last_success=state.last_ok_at,
        owner=entry.owner,
        next_step=f"Follow the runbook. Until then: {entry.breaks}",
        links=_links(reading, facts),
        asset=f"health/{component.value}",
        explains=EXPLAINS.get(component, ()) if down or component is Component.DBT else (),
        is_since_found=True,  # what is down was not well before: it has been so since then
        is_measured=True,
        is_symptom=component in _SYMPTOMS and not (component is Component.DBT and word == DbtState.FAILING),
    )


def _links(reading: Reading, facts: Facts) -> tuple[Link, ...]:
    """The component and what to do, and between them what it is that fails, as far as that is known."""
    health, runbook = facts.places.component(reading.component)
    between: tuple[Link, ...] = ()
    if reading.component is Component.DASHBOARDS:
        between = facts.places.dashboards()
    elif reading.component is Component.DBT:
        run = reading.facts.get("failed_run") or _failed_build(facts)
        between = (*((facts.places.run(str(run)),) if run else ()), *facts.places.models(_failing(reading)))
    return health, *between, runbook


def _failing(reading: Reading) -> Sequence[str]:
    return [str(name) for name in reading.facts.get("failing_models") or ()]


def _failed_build(facts: Facts) -> str | None:
    """The newest build that Dagster knows to have failed: it may have left no results."""
    found = [one for job, one in facts.events.jobs.items() if job.startswith("dbt_") and one.run_id]
    return max(found, key=lambda one: one.at).run_id if found else None


def _named(component: Component) -> str:
    words = _WORDS.get(component, component.value.replace("_", " ").capitalize())
    return f"{words} {'are' if component in _PLURAL else 'is'}"


def _rule(component: Component, state: str) -> str:
    if component is Component.DBT:
        return _DBT[DbtState(state)] if state in set(DbtState) - {DbtState.OK} else _DBT_OTHER
    return _NAMES.get(component, DOWN)


def _level(reading: Reading) -> Sla:
    component = reading.component
    if component is Component.DBT:
        return Sla.DBT_FAILING if reading.matter == DbtState.FAILING else Sla.DBT_RUN_AGE
    if component in _ASKED and reading.value is None:
        return Sla.PROBE_DOWN
    return _LEVELS.get(component, Sla.PROBE_DOWN)
