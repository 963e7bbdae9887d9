"""Freshness in Dagster: the sensor that evaluates, and the check that a person may run.

Belongs here: ticks, runs, and a line about each. Does not belong here: their work (`tick`, `showing`).
"""

# No postponed annotations: Dagster reads the type of an op's context.
from collections import Counter
from collections.abc import Iterator, Sequence

import dagster as dg

from adinsights_orchestration.clock import Clock, TickClock, utc_now
from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.dagster_internals.types import AssetJob
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.freshness import rendering, tick
from adinsights_orchestration.freshness.showing import Showing, Shown
from adinsights_orchestration.freshness.sla import Sla, SlaTable, load_sla
from adinsights_orchestration.freshness.tick import Evaluation
from adinsights_orchestration.logs import correlated, get_logger, timed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.tenants.nights import Nightly, nightly
from adinsights_orchestration.unattended import OnNews, declared, sensor_status

BUDGET_SECONDS = 40.0  # a sensor has a minute
JOB = "evaluate_freshness"
_log = get_logger(__name__)


def build_freshness(
    settings: Settings, store: OpsStore, *, clock: Clock = utc_now, on_news: OnNews | None = None
) -> dg.Definitions:
    """Builds the watermarks, the `freshness` checks and, where this environment declares it, the evaluation.

    Args:
        settings: The settings of this process.
        store: The ops store.
        clock: The clock.
        on_news: Called by a tick or run that found something to tell; must not raise.

    Raises:
        ConfigurationError: The SLA table is wrong.
    """
    sla = load_sla(settings.environment, settings.freshness.sla_path)
    nights = nightly(settings)
    sensor = _sensor(settings, store, sla, clock, on_news)
    checks = [_check(provider, store, sla, nights, clock, on_news) for provider in Provider]
    return dg.Definitions(
        assets=rendering.specs(settings, sla),
        asset_checks=checks,
        jobs=[_job(checks)],
        sensors=[sensor] if sensor else [],
    )


def evaluate_and_show(
    instance: dg.DagsterInstance,
    store: OpsStore,
    sla: SlaTable,
    clock: TickClock,
    on_news: OnNews | None = None,
    nights: Nightly | None = None,
) -> tuple[Evaluation, Shown]:
    """One evaluation, shown in Dagster.

    Args:
        instance: Where it is shown.
        store: The ops store.
        sla: The levels.
        clock: Starts at the moment of the evaluation; its budget ends what is shown, and the next one goes on with it.
        on_news: Called between the two, where there is something to tell: who is alerted does not wait for what is
            shown, which takes seconds where a thousand connections changed. Must not raise.
        nights: When connections are due where that is once a night.
    """
    evaluation = tick.run(store, sla, clock.start, nights)
    if evaluation.skipped:
        return evaluation, Shown()
    if on_news is not None and evaluation.is_news:
        on_news(instance)
    return evaluation, Showing(instance, store, sla[Sla.SYNC_AGE].warn_after).show(clock)


def summary(evaluation: Evaluation, shown: Shown) -> str:
    """One line for the sensor's tick."""
    if evaluation.skipped:
        return evaluation.skipped
    became = Counter(transition.after.verdict.state.value for transition in evaluation.transitions)
    parts = [f"{count} became {state}" for state, count in sorted(became.items())]
    counts = {"evaluated": evaluation.evaluated, "checks written": shown.checks, "watermarks": shown.watermarks}
    parts += [f"{count} {name}" for name, count in counts.items() if count]
    if evaluation.behind:
        parts.append(evaluation.behind)
    if shown.left:
        parts.append("more checks are written by the next tick")
    if shown.skipped:
        parts.append(f"nothing shown: {shown.skipped}")
    return ", ".join(parts) or "nothing changed"


def _sensor(
    settings: Settings, store: OpsStore, sla: SlaTable, clock: Clock, on_news: OnNews | None
) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.FRESHNESS)
    if unattended is None:
        return None

    @dg.sensor(
        name=Automation.FRESHNESS.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Judges which connections are late and shows it on their partitions. When it does not tick, what "
        "is shown stands still, and the watermarks grow old by themselves.",
        tags={"adinsights/kind": "freshness"},
    )
    @correlated
    def freshness_evaluate(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with timed(_log, "freshness tick") as line:
            evaluation, shown = evaluate_and_show(
                context.instance, store, sla, TickClock(clock(), BUDGET_SECONDS), on_news, nightly(settings)
            )
            line |= {"evaluated": evaluation.evaluated, "transitions": len(evaluation.transitions)}
        if evaluation.excused:
            _log.warning("nobody called late", reason=evaluation.behind, due=evaluation.excused)
        _tell(evaluation)
        return dg.SkipReason(summary(evaluation, shown))

    return freshness_evaluate


def _tell(evaluation: Evaluation) -> None:
    for transition in evaluation.transitions:
        state = transition.after
        if transition.before is None and not state.verdict.state.rank:
            continue  # a new connection that is well is no news
        _log.info(
            "freshness changed",
            tenant=str(state.facts.tenant_id),
            connection=state.facts.partition_key,
            before=transition.before.value if transition.before else None,
            after=state.verdict.state.value,
            reason=state.verdict.detail,
        )


def _job(checks: Sequence[dg.AssetChecksDefinition]) -> AssetJob:
    """The UI does not execute checks of partitioned assets by themselves, so a job does."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.checks(*checks),
        description="Judges every connection's freshness now, and writes the check of every partition again.",
        tags={"adinsights/kind": "freshness"},
        executor_def=dg.in_process_executor,
    )


def _check(
    provider: Provider,
    store: OpsStore,
    sla: SlaTable,
    nights: Nightly | None,
    clock: Clock,
    on_news: OnNews | None,
) -> dg.AssetChecksDefinition:
    spec = rendering.check_spec(provider)

    @dg.multi_asset_check(
        name=f"freshness_of_{provider.value}",
        specs=[spec],
        can_subset=True,
        description="Judges the provider's connections now, and writes the check of each of its partitions.",
    )
    def freshness(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckEvaluation]:
        tick_clock = TickClock(clock(), BUDGET_SECONDS)
        evaluation = tick.run(store, sla, tick_clock.start, nights)
        if on_news is not None and evaluation.is_news:
            on_news(context.instance)
        showing = Showing(context.instance, store, sla[Sla.SYNC_AGE].warn_after)
        judged = showing.show_provider(provider, tick_clock.start, by_run=context.run.run_id)
        shown = showing.show(tick_clock, checks=False)
        context.log.info(summary(evaluation, shown))
        # One event through Dagster's own writer, for the run and the check as a whole; a thousand would take a minute.
        yield events.check_evaluation(spec.asset_key, spec.name, rendering.check_of_all(judged), None)

    return freshness
