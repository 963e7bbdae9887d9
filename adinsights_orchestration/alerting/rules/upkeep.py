"""Rules about what keeps the platform lawful and running: the audit log's archive and retention, and disks.

Belongs here: from Dagster's log and the disks to findings, pure. Does not belong here: archiving and deleting
(`audit_log`), which monitoring does not import: it knows them by their keys alone.
"""

from __future__ import annotations

from adinsights_orchestration.alerting.facts import Facts, Failure
from adinsights_orchestration.alerting.message import Severity, moment
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.rules.rule import Rule, Verdict
from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.owners import DATA_ENG, PLATFORM_ENG

AUDIT_FAILED, AUDIT_LATE, DISK_FULL = "audit_log_failed", "audit_log_late", "disk_full"
AUDIT_PREFIX = "audit_log/"
_DAILY = ("audit_log/archive", "audit_log/retention", "audit_log/expiry")
_SECTION = "the-audit-log-is-not-archived-or-not-deleted"


def is_daily(asset: str) -> bool:
    """Whether an asset is made once a day: these, and the archives of other tables."""
    return asset in _DAILY or (asset.startswith(AUDIT_PREFIX) and asset.endswith("/archive"))


def is_audit_job(job: str) -> bool:
    """Whether a job's failure is told here."""
    return AUDIT_PREFIX in job or job.startswith(("audit_log", "archive", "retention"))


def audit_failed(facts: Facts) -> Verdict:
    """Runs and checks of the audit log's assets that failed: nothing is lost, nothing may be deleted meanwhile."""
    found = [_failed(job, "run", failure, facts) for job, failure in facts.events.jobs.items() if is_audit_job(job)]
    found += [
        _failed(f"{key.asset}:{key.check}{f':{key.partition}' if key.partition else ''}", "check", failure, facts)
        for key, failure in facts.events.checks.items()
        if key.asset.startswith(AUDIT_PREFIX)
    ]
    return Verdict(found, blind=facts.events.problem)


def audit_late(facts: Facts) -> Verdict:
    """The archive, the retention or the expiry was not made for over a day."""
    level = facts.sla[Sla.AUDIT_LOG_AGE]
    found = []
    for key, (at, was_made) in sorted(facts.events.materialized.items()):
        if facts.now - at < level.warn_after:
            continue
        said = f"It was made last at {moment(at)}." if was_made else f"It was never made; known since {moment(at)}."
        found.append(
            Finding(
                rule=AUDIT_LATE,
                resource=key,
                severity=Severity.PAGE if facts.now - at >= level.page_after else Severity.WARN,
                title=f"{key} is late",
                detail=said,
                since=at + level.warn_after,
                group=("audit_log",),
                sla=level.describe(),
                last_success=at if was_made else None,
                owner=DATA_ENG,
                next_step="Does its schedule run, and does its last run say why it did nothing? Then run it by hand.",
                links=(facts.places.asset(key), facts.places.runbook(_SECTION)),
                asset=key,
            )
        )
    return Verdict(found, blind=facts.events.problem)


def disks(facts: Facts) -> Verdict:
    """Disks that this deployment writes to and that have little room."""
    level = facts.sla[Sla.DISK_FREE]
    found = [
        _disk(one.folder, one.free_percent, facts)
        for one in facts.disks
        if one.free_percent is not None and one.free_percent < level.warn
    ]
    return Verdict(found, unknown={one.folder: one.problem for one in facts.disks if one.problem})


RULES = (
    Rule("audit log failures", (AUDIT_FAILED,), audit_failed),
    Rule("audit log age", (AUDIT_LATE,), audit_late),
    Rule("disks", (DISK_FULL,), disks),
)


def _failed(resource: str, what: str, failure: Failure, facts: Facts) -> Finding:
    level = facts.sla[Sla.AUDIT_LOG_AGE]
    pages = facts.now - failure.since >= level.page_after
    run = (facts.places.run(failure.run_id),) if failure.run_id else ()
    return Finding(
        rule=AUDIT_FAILED,
        resource=resource,
        severity=Severity.PAGE if pages else Severity.WARN,
        title=f"The audit log's {what} failed: {resource.removeprefix('materialize ')}",
        detail=failure.detail,
        since=failure.since,
        labels={"kind": what},
        group=("audit_log",),
        sla=level.describe(),
        owner=DATA_ENG,
        next_step="Read the error. What is not archived is not deleted; the next run takes up what this one left.",
        links=(*run, facts.places.runbook(_SECTION)),
    )


def _disk(folder: str, free_percent: float, facts: Facts) -> Finding:
    level = facts.sla[Sla.DISK_FREE]
    return Finding(
        rule=DISK_FULL,
        resource=folder,
        severity=Severity.PAGE if free_percent < level.page else Severity.WARN,
        title=f"The disk below {folder} is nearly full",
        detail=f"{free_percent:.0f} % is free.",
        since=facts.now,
        is_since_found=True,
        is_measured=True,
        sla=level.describe(),
        owner=PLATFORM_ENG,
        next_step="Make room: old folders below dbt_project/target/runs, compute logs, then a larger disk.",
        links=(facts.places.runbook("a-disk-is-nearly-full"),),
    )
