"""Components that are known by their rows: dbt's builds, the registry, the backend's webhook.

Belongs here: readings made of the ops store, and for the webhook of the backend's table. Does not belong here: asking a
server over HTTP.
"""

from __future__ import annotations

from datetime import timedelta

from adinsights_orchestration.backend.database import BackendDatabase, BackendDatabaseError, rows_of_tenants
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health import background
from adinsights_orchestration.health.asking import Asking, in_words, minutes
from adinsights_orchestration.health.dbt import DbtHealth, DbtRules, dbt_health
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.recorded import Untold, untold_jobs

_TABLE = "integrations_airbyteconnection"
_LAST_TOLD = """
select last_job_id::text
  from integrations_airbyteconnection
 where tenant_id = any(%(tenants)s) and last_job_completed_at is not null
 order by last_job_completed_at desc
 limit 50
"""
_LOOK_BACK = timedelta(hours=24)  # silence that is older was paged long ago
_LONGEST_JOB_ID = 18  # digits of a bigint


def our_dbt(ask: Asking) -> DbtHealth:
    """What dbt's health is by the recorded builds."""
    age, failing = ask.sla[Sla.DBT_RUN_AGE], ask.sla[Sla.DBT_FAILING]
    rules = DbtRules(age.warn_after, age.page_after, int(failing.page), int(failing.warn))
    return dbt_health(ask.recorded.invocations, ask.recorded.models, rules, ask.clock())


async def dbt(ask: Asking) -> Reading:
    """A build succeeded lately, every model was built lately, and none fails."""
    found = our_dbt(ask)
    facts = {
        "runbook_state": found.runbook_state.value,  # by the runbook's bare 24 hours
        "stale_after_hours": round(found.stale_after.total_seconds() / 3600, 2) if found.stale_after else None,
        "generated_at": found.generated_at.isoformat() if found.generated_at else None,
        "failing_models": list(found.failing[:20]),
        "failing_count": len(found.failing),
        "failed_builds_in_a_row": found.failures,
        "failed_run": found.failed_run,
        "held_up_models": list(found.held_up[:20]),
        "untouched_models": list(found.untouched[:20]),
        "unfinished_since": found.unfinished_since.isoformat() if found.unfinished_since else None,
    }
    value = minutes(found.age) if found.age is not None else None
    return ask.reading(Component.DBT, found.health, found.state.value, found.detail, value=value, facts=facts)


async def registry(ask: Asking) -> Reading:
    """The registry was read lately; a failed read leaves the last good one in force."""
    found = ask.recorded.registry
    facts = {"problems": len(found.problems)}
    if found.age is None:
        said = found.error or "nobody has read it yet"
        return ask.reading(Component.REGISTRY, Health.DOWN, "never_read", f"never read: {said}", facts=facts)
    health = ask.by_age(Sla.REGISTRY_AGE, found.age)
    state = "unreadable" if found.error else "ok" if health is Health.OK else "stale"
    health = Health.DEGRADED if found.error and health is Health.OK else health
    detail = f"read {in_words(found.age)} ago" + (f"; the last try failed: {found.error}" if found.error else "")
    if found.problems:
        detail += f"; {len(found.problems)} entries must be mended"
    return ask.reading(Component.REGISTRY, health, state, detail, value=minutes(found.age), facts=facts)


async def webhook(ask: Asking) -> Reading:
    """The backend is told of finished jobs; silence counts only from the first job that it should have heard of."""
    try:
        untold = await background.ask("webhook", lambda: _untold(ask), ask.timeout_seconds)
    except (TimeoutError, background.StillHangingError):
        return ask.reading(
            Component.WEBHOOK, Health.UNKNOWN, "timeout", "the backend's database did not answer in time"
        )
    except BackendDatabaseError as error:
        return ask.reading(Component.WEBHOOK, Health.UNKNOWN, "no_database", error.problem)
    facts = {
        "untold_jobs": untold.jobs,
        "running_jobs": untold.running,
        "heard_until": untold.heard_until.isoformat() if untold.heard_until else None,
    }
    if untold.since is None:
        state = "ok" if untold.heard_until else "idle"
        said = "the backend knows the newest finished job" if untold.heard_until else "no job has finished lately"
        return ask.reading(Component.WEBHOOK, Health.OK, state, said, value=0.0, facts=facts)
    silence = ask.clock() - untold.since
    health = ask.by_age(Sla.WEBHOOK_SILENCE, silence)
    detail = f"the backend was not told of {untold.jobs} finished jobs, the first {in_words(silence)} ago"
    state = "ok" if health is Health.OK else "silent"
    return ask.reading(Component.WEBHOOK, health, state, detail, value=minutes(silence), facts=facts)


def _untold(ask: Asking) -> Untold:
    tenants = [tenant.id for tenant in ask.recorded.tenants]
    clock = TickClock(ask.clock(), ask.timeout_seconds)
    with BackendDatabase(ask.settings.backend).session(clock.left) as session, session.snapshot() as cursor:
        rows = rows_of_tenants(cursor, _TABLE, _LAST_TOLD, tenants, {})
    told = [int(row[0]) for row in rows if row[0].isdecimal() and len(row[0]) <= _LONGEST_JOB_ID]
    return untold_jobs(ask.store, told, ask.clock(), _LOOK_BACK)
