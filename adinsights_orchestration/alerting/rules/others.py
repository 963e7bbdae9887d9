"""Rules about what domains noted, about Dagster's own event log, and about alerting itself.

Belongs here: findings of other domains, failed runs and checks, stopped automations, storms; pure. Does not belong
here: reading them (`reading`, `dagster_events`).
"""

from __future__ import annotations

from datetime import timedelta

from adinsights_orchestration.alerting.contacts import IS_MAIN, MAIN_CHANNEL
from adinsights_orchestration.alerting.facts import CheckKey, Facts, Failure, Halt, OpenFinding
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.rules.data import NOT_ACTIVE
from adinsights_orchestration.alerting.rules.rule import STORM_RULE, Rule, Verdict
from adinsights_orchestration.alerting.rules.upkeep import AUDIT_PREFIX, is_audit_job
from adinsights_orchestration.owners import DATA_ENG, PLATFORM_ENG

NOTED, RUN_FAILED, CHECK_FAILED, STOPPED, FAILING, LOG_UNREADABLE = (
    "noted",
    "run_failed",
    "check_failed",
    "automation_stopped",
    "automation_failing",
    "event_log_unreadable",
)
# Told by rules of their own, with more to say.
_TOLD_ELSEWHERE = frozenset(("registry_unreadable", NOT_ACTIVE))
# Jobs about Dagster and the watching itself, not about data.
_OF_THE_PLATFORM = frozenset(("history_prune", "evaluate_freshness", "run_alert_evaluation"))
_RAW = "raw/"  # the assets that hold source freshness
_PROBED_WITHIN = timedelta(seconds=90)  # three probes
_PAGED = frozenset(("alert_undeliverable", "registry_shrunk"))
# Sections of the runbook about what is noted under a name; any other has the one about all of them.
_SECTIONS = {
    "registry_shrunk": "the-registry-suddenly-lacks-most-tenants-or-connections",
    "webhook_missed": "the-backend-missed-webhooks",
    "webhook_untold": "the-backend-missed-webhooks",
    "webhook_secret_refused": "the-backend-missed-webhooks",
    "audit_undeliverable": "the-backend-is-owed-audit-rows",
    "start_refused": "a-connection-does-not-sync",
    "connection_missing": "a-connection-does-not-sync",
}
_NOT_MADE = frozenset(("channel_not_found", "not_in_channel"))  # Slack's words


def noted(facts: Facts) -> Verdict:
    """What domains noted for a person, until they clear it."""
    return Verdict([_noted(one, facts) for one in facts.findings if one.kind not in _TOLD_ELSEWHERE])


def failed_runs(facts: Facts) -> Verdict:
    """Jobs whose newest run failed for good."""
    found = [
        _run(job, failure, facts)
        for job, failure in sorted(facts.events.jobs.items())
        if not is_audit_job(job) and not _is_dbt_at_work(job, failure, facts)
    ]
    return Verdict(found, blind=facts.events.problem)


def failed_checks(facts: Facts) -> Verdict:
    """Asset checks whose newest evaluation failed with severity error; those of connections have rules of their own."""
    found = [
        _check(key, one, facts) for key, one in facts.events.checks.items() if not key.asset.startswith(AUDIT_PREFIX)
    ]
    return Verdict(found, blind=facts.events.problem)


def stopped(facts: Facts) -> Verdict:
    """Schedules and sensors that should do their work here and do not: they do not tick, or every tick fails."""
    found = [_halted(name, halt, facts) for name, halt in sorted(facts.events.stopped.items())]
    return Verdict(found, blind=facts.events.problem)


def event_log(facts: Facts) -> Verdict:
    """Dagster's event log cannot be read: failed runs and checks are not seen."""
    if not facts.events.problem:
        return Verdict()
    return Verdict(
        [
            Finding(
                rule=LOG_UNREADABLE,
                resource="dagster",
                severity=Severity.PAGE,
                title="Dagster's event log cannot be read",
                detail=facts.events.problem,
                since=facts.now,
                is_since_found=True,
                owner=PLATFORM_ENG,
                next_step="Check Dagster's storage. Failed runs are told once it answers.",
                links=(facts.places.runbook("dagsters-storage-does-not-answer"),),
            )
        ]
    )


def storm(facts: Facts) -> Verdict:
    """So many things are wrong at once that most of them wait: one message says so."""
    if not facts.held:
        return Verdict()
    rest = len(facts.held) - 5
    names = "; ".join(facts.held[:5]) + (f"; and {rest:,} more" if rest > 0 else "")
    return Verdict(
        [
            Finding(
                rule=STORM_RULE,
                resource="alerts",
                severity=Severity.PAGE,
                title="Many different things are wrong at once",
                detail=f"{len(facts.held):,} further messages wait: {names}.",
                since=facts.now,
                is_since_found=True,
                owner=PLATFORM_ENG,
                next_step="Look for one cause. `adinsights alerts list` shows everything.",
                links=(facts.places.runbook("many-alerts-at-once"),),
            )
        ]
    )


RULES = (
    Rule("what domains noted", (NOTED,), noted),
    Rule("failed runs", (RUN_FAILED,), failed_runs),
    Rule("failed checks", (CHECK_FAILED,), failed_checks),
    Rule("stopped automations", (STOPPED, FAILING), stopped),
    Rule("event log", (LOG_UNREADABLE,), event_log),
    Rule("storm", (STORM_RULE,), storm),
)


def _noted(one: OpenFinding, facts: Facts) -> Finding:
    said = "; ".join(
        f"{name}: {value}" for name, value in sorted(one.detail.items()) if name not in ("next", "next_step", IS_MAIN)
    )
    next_step = one.detail.get("next") or one.detail.get("next_step") or "See `adinsights findings`."
    return Finding(
        rule=NOTED,
        resource=one.subject,
        severity=Severity.PAGE if one.kind in _PAGED and not _is_second_channel(one) else Severity.WARN,
        title=f"{one.kind.replace('_', ' ').capitalize()}: {one.subject}",
        detail=said or one.kind,
        since=one.since,
        labels={"kind": one.kind},
        group=(NOTED, one.kind),
        owner=PLATFORM_ENG if one.kind.startswith("alert_") else DATA_ENG,
        next_step=str(next_step),
        links=(facts.places.runbook(_SECTIONS.get(one.kind, "findings")),),
    )


def _halted(name: str, halt: Halt, facts: Facts) -> Finding:
    what, mend = "does not run", "Switch it on in Dagster, under Automation, or read its last tick's error there."
    if halt.fails:
        what, mend = "fails whenever it ticks", "Mend what its error names; its whole error is with its last tick."
    page = facts.places.automation(halt.location, name, is_schedule=halt.is_schedule)
    section = "a-schedule-or-sensor-fails" if halt.fails else "a-schedule-or-sensor-does-not-run"
    return Finding(
        rule=FAILING if halt.fails else STOPPED,
        resource=name,
        severity=Severity.PAGE,
        title=f"{name} {what}",
        detail=halt.detail,
        since=halt.at,
        beside={"location": halt.location} if halt.location else {},
        owner=PLATFORM_ENG,
        next_step=mend,
        links=(page, facts.places.runbook(section)),
        is_measured=halt.fails,  # an error may have a number in it that is another with each tick
    )


def _is_second_channel(one: OpenFinding) -> bool:
    """Whether a channel beside the main one was never made, or we are not in it: others say what it would."""
    is_main = one.detail.get(IS_MAIN, one.subject == MAIN_CHANNEL)
    return one.subject.startswith("slack:") and not is_main and one.detail.get("reason") in _NOT_MADE


def _is_dbt_at_work(job: str, failure: Failure, facts: Facts) -> bool:
    """Whether the probe has not looked at this build yet: failed models are told by name, and explain the run.

    Only of the first one that fails: the job of a further one is told already, and would be over for as long.
    """
    return job.startswith("dbt_") and facts.now - failure.since < _PROBED_WITHIN


def _run(job: str, failure: Failure, facts: Facts) -> Finding:
    return Finding(
        rule=RUN_FAILED,
        resource=job,
        severity=Severity.WARN,
        title=f"The job {job} failed",
        detail=failure.detail,
        since=failure.since,
        labels={"job": job},
        owner=PLATFORM_ENG if job in _OF_THE_PLATFORM else DATA_ENG,
        next_step="Read the run's error, mend its cause, run it again.",
        links=(*((facts.places.run(failure.run_id),) if failure.run_id else ()), facts.places.runbook("a-run-failed")),
    )


def _check(key: CheckKey, failure: Failure, facts: Facts) -> Finding:
    of = f" ({key.partition})" if key.partition else ""
    section = "a-connection-does-not-sync" if key.asset.startswith(_RAW) else "a-dbt-model-fails"
    return Finding(
        rule=CHECK_FAILED,
        resource=f"{key.asset}:{key.check}{f':{key.partition}' if key.partition else ''}",
        severity=Severity.WARN,
        title=f"The check {key.check} of {key.asset} fails{of}",
        detail=failure.detail,
        since=failure.since,
        labels={"asset": key.asset, "check": key.check},
        group=("checks", key.asset),
        owner=DATA_ENG,
        next_step="Open the asset's checks; a failing dbt test names its rows there.",
        links=(facts.places.asset(key.asset), facts.places.runbook(section)),
        asset=key.asset,
    )
