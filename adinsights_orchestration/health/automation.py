"""Health in Dagster: the sensor that asks every component, and the checks that a person may run.

Belongs here: ticks, runs, and a line about each. Does not belong here: their work (`tick`, `showing`).
"""

# No postponed annotations: Dagster reads the type of an op's context.
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.freshness.sla import SlaTable, load_sla
from adinsights_orchestration.health import rendering, states
from adinsights_orchestration.health.catalog import watched
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.health.showing import show
from adinsights_orchestration.logs import correlated, get_logger, timed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import OnNews, declared, sensor_status

if TYPE_CHECKING:
    from adinsights_orchestration.health.tick import Round

_log = get_logger(__name__)


def build_health(
    settings: Settings, store: OpsStore, *, clock: Clock = utc_now, on_news: OnNews | None = None
) -> dg.Definitions:
    """Builds an asset and a check for every component that the settings name, and the sensor that asks them.

    Args:
        settings: The settings of this process.
        store: The ops store.
        clock: The clock.
        on_news: Called at the end of a round in which a component's health changed; must not raise.

    Raises:
        ConfigurationError: The SLA table is wrong.
    """
    sla = load_sla(settings.environment, settings.freshness.sla_path)
    sensor = _sensor(settings, store, sla, clock, on_news)
    return dg.Definitions(
        assets=[rendering.asset_spec(component, entry, settings) for component, entry in watched(settings).items()],
        asset_checks=[_checks(settings, store, sla, clock)],
        sensors=[sensor] if sensor else [],
    )


def ask_and_show(
    settings: Settings, store: OpsStore, sla: SlaTable, instance: dg.DagsterInstance, clock: Clock
) -> "tuple[Round, list[Component]]":
    """One round, shown in Dagster where something changed."""
    from adinsights_orchestration.health import tick  # with every client that probes need; a location loads without

    done = tick.run(settings, store, sla, instance, clock)
    return done, show(instance, store, done.states, clock()) if done.states else []


def summary(done: "Round") -> str:
    """One line for the sensor's tick."""
    if done.skipped:
        return done.skipped
    counts = Counter(state.reading.health.value for state in (done.states or {}).values())
    became = [f"{one.after.reading.component} became {one.after.reading.health}" for one in done.transitions]
    parts = [", ".join(f"{count} {health}" for health, count in sorted(counts.items())), *became]
    return "; ".join(parts)


def _sensor(
    settings: Settings, store: OpsStore, sla: SlaTable, clock: Clock, on_news: OnNews | None
) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.HEALTH)
    if unattended is None:
        return None

    @dg.sensor(
        name=Automation.HEALTH.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Asks every component of the platform how it is, keeps the answers as samples, and writes a "
        "component's check when it changes. When it does not tick, nobody notices that something is down: what is "
        "shown stands still, and `adinsights status` calls it unknown after two minutes.",
        tags={"adinsights/kind": "health"},
    )
    @correlated
    def health_probe(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with timed(_log, "health round") as line:
            done, shown = ask_and_show(settings, store, sla, context.instance, clock)
            line |= {"transitions": len(done.transitions), "shown": len(shown), "pruned": done.pruned}
        _tell(done)
        if on_news is not None and done.transitions:
            on_news(context.instance)
        return dg.SkipReason(summary(done))

    return health_probe


def _tell(done: "Round") -> None:
    for transition in done.transitions:
        reading = transition.after.reading
        _log.info(
            "health changed",
            subject=reading.component.value,
            before=transition.before.value if transition.before else None,
            after=reading.health.value,
            state=reading.state,
            reason=reading.detail,
        )


def _checks(settings: Settings, store: OpsStore, sla: SlaTable, clock: Clock) -> dg.AssetChecksDefinition:
    components = {rendering.asset_key(component): component for component in watched(settings)}

    @dg.multi_asset_check(
        name="health_of_components",
        specs=[rendering.check_spec(component) for component in components.values()],
        can_subset=True,
        description="Asks every component now, as the sensor does, and says how the chosen ones are.",
    )
    def healthy(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        done, _ = ask_and_show(settings, store, sla, context.instance, clock)
        known = done.states
        if known is None:  # the sensor asks them at this moment
            with store.begin() as connection:
                known = states.load(connection)
        for key in context.selected_asset_check_keys:
            state = known.get(components[key.asset_key])
            if state is not None:
                result = rendering.check_result(state)
                yield dg.AssetCheckResult(
                    passed=result.passed,
                    asset_key=key.asset_key,
                    check_name=key.name,
                    description=result.description,
                    metadata=result.metadata,
                    severity=result.severity,
                )

    return healthy
