"""Rules about connections: late, failing, misconfigured, disabled; and a whole provider that is late.

Belongs here: from the freshness of connections and their failed syncs to findings, pure. Does not belong here: when a
connection is late (`freshness`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID
from zoneinfo import ZoneInfo

from adinsights_orchestration.alerting.facts import ConnectionFact, Facts, SyncErrors
from adinsights_orchestration.alerting.message import Link, Severity
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.rules.rule import Dated, Rule, Verdict, while_it_holds
from adinsights_orchestration.freshness.evaluate import overrun_from
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.sla import LocalTime, Sla, Threshold
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.owners import DATA_ENG
from adinsights_orchestration.tenants.model import Provider

STALE, NO_RECENT_SYNC, RUNNING_LONG = "connection_stale", "connection_no_recent_sync", "connection_running_long"
FAILING, MISCONFIGURED, SYNC_ERRORS = "connection_failing", "connection_misconfigured", "sync_errors"
PROVIDER_STALE = "provider_stale"
PLATFORM = ("platform",)
_LATE = {Freshness.STALE: STALE, Freshness.NO_RECENT_SYNC: NO_RECENT_SYNC}
_BLIND_AFTER = timedelta(minutes=15)  # an evaluation comes every half minute
_OBSERVER = "ingestion_observe"  # the sensor that reads Airbyte's jobs
_FEWEST_TENANTS = 3  # of two, one is half of all; it is one tenant's trouble all the same


def late(facts: Facts) -> Verdict:
    """Connections whose sync is overdue: told when they are, paged when they have been for as long again."""
    found = while_it_holds(facts, STALE, lambda: _all_late(facts))
    return Verdict(found, blind=_blind(facts))


def running_long(facts: Facts) -> Verdict:
    """Syncs that run far beyond their history, whether or not the connection is late by now."""
    found = while_it_holds(facts, RUNNING_LONG, lambda: _all_overrun(facts))
    return Verdict(found, blind=_blind(facts))


def failing(facts: Facts) -> Verdict:
    """Connections whose last syncs failed; so many in a row page while people are awake where the tenant is."""
    level = facts.sla[Sla.FAILURES_IN_A_ROW]
    found = []
    for one in while_it_holds(facts, FAILING, lambda: (list(_failed(facts, level)), None)):
        pages = one.failures >= level.page and _paged_now(one.tenant_id, facts)
        severity = Severity.PAGE if pages else Severity.WARN
        found.append(_finding(one, facts, FAILING, severity, "fails to sync", level))
    return Verdict(found, blind=_blind(facts))


def misconfigured(facts: Facts) -> Verdict:
    """Connections whose entry in the registry is wrong: they are never synced."""
    found = [
        _finding(one, facts, MISCONFIGURED, Severity.WARN, "is misconfigured", None)
        for one in _of_state(Freshness.MISCONFIGURED, facts)
    ]
    return Verdict(found, blind=_blind(facts))


def sync_errors(facts: Facts) -> Verdict:
    """Tenants whose syncs of one provider fail often in a short time.

    Where all of them are one connection's, as the attempts at one sync are, they are explained by its failing, are over
    once it succeeds, and page when that may: what is one matter has one alert.
    """
    level = facts.sla[Sla.SYNC_ERRORS]
    found = (one for one in facts.sync_errors if one.errors >= level.warn and not one.is_over)
    return Verdict([_errors(one, facts, level) for one in found], blind=_unobserved(facts))


def provider_stale(facts: Facts) -> Verdict:
    """Providers of which so many tenants are late that it is one incident of the platform."""
    found = while_it_holds(facts, PROVIDER_STALE, lambda: (list(_providers(facts)), None))
    return Verdict(found, blind=_blind(facts))


RULES = (
    Rule("late connections", (STALE, NO_RECENT_SYNC), late),
    Rule("long syncs", (RUNNING_LONG,), running_long),
    Rule("failing connections", (FAILING,), failing),
    Rule("misconfigured connections", (MISCONFIGURED,), misconfigured),
    Rule("sync errors", (SYNC_ERRORS,), sync_errors),
    Rule("late providers", (PROVIDER_STALE,), provider_stale),
)


def _of_state(state: Freshness, facts: Facts) -> Sequence[ConnectionFact]:
    return while_it_holds(facts, state, lambda: ([one for one in facts.connections if one.state is state], None))


def _failed(facts: Facts, level: Threshold) -> Iterator[ConnectionFact]:
    for one in facts.connections:
        if one.failures >= level.warn and one.state not in (Freshness.PAUSED, Freshness.MANUAL):
            yield one


def _blind(facts: Facts) -> str:
    if facts.freshness_at is None:
        return "freshness was never evaluated"
    late_by = facts.now - facts.freshness_at
    return f"freshness was last evaluated at {facts.freshness_at:%H:%M} UTC" if late_by > _BLIND_AFTER else ""


def _unobserved(facts: Facts) -> str:
    """Why failed syncs may go uncounted: they are counted within a time, which passes though nobody looks."""
    airbyte = facts.components.get(Component.AIRBYTE)
    if airbyte is not None and airbyte.reading.health is Health.DOWN:
        return "Airbyte does not answer"
    return f"{_OBSERVER} does not look" if _OBSERVER in facts.events.stopped else _blind(facts)


def _all_late(facts: Facts) -> Dated[Finding]:
    """Findings of all that are late, and when the next of them pages."""
    found, moments = [], []
    for one in facts.connections:
        if one.state in _LATE:
            pages_at = _pages_at(one, facts)
            found.append(_late(one, facts, pages=pages_at <= facts.now))
            if pages_at > facts.now:
                moments.append(pages_at)
    return found, min(moments, default=None)


def _all_overrun(facts: Facts) -> Dated[Finding]:
    """Findings of all that run too long, and when the next that is late does.

    A connection has one state, and late is worse: that its sync hangs would be told as over when it turns late.
    """
    level = facts.sla[Sla.RUNNING_LONG]
    assert level.window is not None
    found, moments = [], []
    for one in facts.connections:
        hangs = one.state is Freshness.RUNNING_STALE
        if not hangs and one.state not in _LATE:
            continue
        overrun = overrun_from(one.running_since, one.usual_seconds, level.warn, level.window)
        if hangs or (overrun is not None and overrun <= facts.now):
            found.append(_overrun(one, facts, level, overrun))
        elif overrun is not None:
            moments.append(overrun)
    return found, min(moments, default=None)


def _overrun(one: ConnectionFact, facts: Facts, level: Threshold, since: datetime | None) -> Finding:
    said = one.detail  # as freshness says it where that is the connection's state
    if one.state in _LATE:
        said = f"A sync runs since {one.running_since:%Y-%m-%d %H:%M} UTC, far beyond its history."
    words = "runs far too long"
    return _finding(one, facts, RUNNING_LONG, Severity.WARN, words, level, since=since, detail=said)


def _pages_at(one: ConnectionFact, facts: Facts) -> datetime:
    level = facts.sla[Sla.SYNC_AGE]
    own = facts.tenants[one.tenant_id].sla if one.tenant_id in facts.tenants else {}
    warn, page = own.get("sync_age_warn_minutes", level.warn), own.get("sync_age_page_minutes", level.page)
    return (one.deadline or one.since) + timedelta(minutes=max(page - warn, 0))


def _late(one: ConnectionFact, facts: Facts, *, pages: bool) -> Finding:
    words = "has not synced" if one.state is Freshness.STALE else "has never synced"
    severity, since = Severity.PAGE if pages else Severity.WARN, one.deadline or one.since
    return _finding(one, facts, _LATE[one.state], severity, words, facts.sla[Sla.SYNC_AGE], since=since)


def _finding(
    one: ConnectionFact,
    facts: Facts,
    rule: str,
    severity: Severity,
    words: str,
    level: Threshold | None,
    *,
    since: datetime | None = None,
    detail: str | None = None,
) -> Finding:
    known = facts.memo.get((one.partition, rule))
    if known is not None and known[0] is one and known[1].severity is severity:
        return cast("Finding", known[1])
    section = "a-connection-is-stale" if rule in (STALE, NO_RECENT_SYNC) else "a-connection-does-not-sync"
    slug = facts.tenant_slug(one.tenant_id)
    sync = f"adinsights sync --tenant {slug} --provider {one.provider.value}"
    found = Finding(
        rule=rule,
        resource=one.partition,
        severity=severity,
        title=f"{one.provider.label} of {facts.tenant_name(one.tenant_id)} {words}",
        detail=one.detail if detail is None else detail,
        since=since or one.since,
        tenant=slug,
        labels={"provider": one.provider.value},
        group=("connections", one.provider.value),
        sla=level.describe() if level else "",
        last_success=one.last_success,
        owner=DATA_ENG,
        next_step=_NEXT[rule].format(sync=sync),
        links=facts.places.connection(one.provider, one.partition, one.connection_id, one.last_job, section),
        asset="/".join(one.provider.asset_path),
        is_symptom=rule != MISCONFIGURED,
        is_since_found=rule == FAILING,  # a failing connection turns late some time: it has failed since before that
        beside={"connection": one.partition},
    )
    facts.memo[one.partition, rule] = (one, found)
    return found


_NEXT = {
    STALE: "Open the job in Airbyte; if none runs, sync the connection: `{sync}`.",
    NO_RECENT_SYNC: "See whether the connection was ever started in Airbyte, then sync it: `{sync}`.",
    RUNNING_LONG: "Open the job in Airbyte; cancel it there if it makes no progress.",
    FAILING: "Read Airbyte's reason; renew the tenant's credentials if they were refused.",
    MISCONFIGURED: "Mend the entry in the registry: `adinsights registry show`.",
}


def _paged_now(tenant_id: UUID, facts: Facts) -> bool:
    tenant = facts.tenants.get(tenant_id)
    local = facts.now.astimezone(ZoneInfo(tenant.timezone if tenant else facts.sla.timezone)).time()
    begin, end = facts.sla.local_times[LocalTime.PAGING_FROM], facts.sla.local_times[LocalTime.PAGING_TO]
    return begin <= local < end


def _errors(one: SyncErrors, facts: Facts, level: Threshold) -> Finding:
    slug, provider = facts.tenant_slug(one.tenant_id), one.provider
    pages = one.errors >= level.page and (one.partition is None or _paged_now(one.tenant_id, facts))
    return Finding(
        rule=SYNC_ERRORS,
        resource=f"{slug}/{provider.value}",
        severity=Severity.PAGE if pages else Severity.WARN,
        title=f"{provider.label} of {facts.tenant_name(one.tenant_id)}: many syncs fail",
        detail=f"{one.errors} syncs failed since {one.first_at:%Y-%m-%d %H:%M} UTC.",
        since=one.first_at,
        tenant=slug,
        labels={"provider": provider.value},
        group=("connections", provider.value),
        sla=level.describe(),
        owner=DATA_ENG,
        next_step=f"Read Airbyte's reasons: `adinsights connections --tenant {slug}`.",
        links=_of_errors(one, facts),
        asset="/".join(provider.asset_path),
        is_symptom=True,
        beside={"connection": one.partition} if one.partition is not None else {},
    )


def _of_errors(one: SyncErrors, facts: Facts) -> tuple[Link, ...]:
    section = "a-connection-does-not-sync"
    if one.partition is None:
        return (facts.places.runbook(section),)
    served = facts.served.get(one.partition)
    return facts.places.connection(one.provider, one.partition, served.connection_id if served else None, None, section)


def _providers(facts: Facts) -> Iterator[Finding]:
    level = facts.sla[Sla.STALE_TENANTS]
    for provider, count in sorted(facts.providers.items()):
        share = 100 * count.stale / count.tenants if count.tenants else 0
        if count.tenants >= _FEWEST_TENANTS and share > level.warn:
            severity = Severity.PAGE if share > level.page else Severity.WARN
            yield _provider(provider, facts, level, severity, f"{count.stale:,} of {count.tenants:,} tenants are late.")


def _provider(provider: Provider, facts: Facts, level: Threshold, severity: Severity, detail: str) -> Finding:
    key = "/".join(provider.asset_path)
    late_ones = [one for one in facts.connections if one.provider is provider and one.state in _LATE]
    return Finding(
        rule=PROVIDER_STALE,
        resource=provider.value,
        severity=severity,
        title=f"{provider.label} is late for many tenants",
        detail=detail,
        since=min((one.deadline or one.since for one in late_ones), default=facts.now),
        labels={"provider": provider.value},
        group=PLATFORM,
        sla=level.describe(),
        last_success=max((one.last_success for one in late_ones if one.last_success), default=None),
        owner=DATA_ENG,
        next_step="One cause is likely: look at Airbyte and at the provider's status page before any tenant.",
        links=(
            facts.places.asset(key),
            *facts.places.dashboards(provider),
            facts.places.runbook("a-connection-is-stale"),
        ),
        asset=key,
        explains=(key,),
        is_symptom=True,
    )
