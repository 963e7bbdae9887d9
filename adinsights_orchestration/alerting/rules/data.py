"""Rules about data that does not come although nothing says that it fails.

Belongs here: syncs without rows, connections that Airbyte switched off, a provider that is late for so long that Data
Engineering has to look, a night that was not done; pure. Does not belong here: connections that are late or fail
(`connections`), reading what was (`history`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from adinsights_orchestration.alerting.facts import EMPTY_COUNTED, ConnectionFact, EmptySyncs, Facts, OpenFinding
from adinsights_orchestration.alerting.message import Link, Severity, moment
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.night import night_at
from adinsights_orchestration.alerting.rules.rule import Dated, Rule, Verdict, while_it_holds
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.sla import LocalTime, Sla
from adinsights_orchestration.owners import DATA_ENG
from adinsights_orchestration.tenants.model import Provider, Standing

EMPTY, DISABLED, LATENCY = "sync_empty", "connection_disabled", "source_latency"
NIGHTLY_LATE, NO_FRESH_ROWS = "nightly_late", "no_fresh_rows"
NOT_ACTIVE = "connection_not_active"  # what ingestion notes when Airbyte starts no sync of a connection for this reason
_NIGHTLY_JOB = "dbt_nightly"  # the build of everything
_LATE = (Freshness.STALE, Freshness.NO_RECENT_SYNC)


def empty(facts: Facts) -> Verdict:
    """Connections that sync in time and bring nothing, although they used to."""
    return Verdict([_empty(one, facts) for one in facts.empty_syncs if _is_active(one.partition, facts)])


def disabled(facts: Facts) -> Verdict:
    """Connections that are to be synced and that Airbyte holds inactive; paged once their data is too old."""
    return Verdict([_disabled(one, facts) for one in facts.findings if one.kind == NOT_ACTIVE])


def latency(facts: Facts) -> Verdict:
    """Providers of which something has been overdue for so long that Data Engineering takes over."""
    return Verdict(while_it_holds(facts, LATENCY, lambda: _latencies(facts)))


def night(facts: Facts) -> Verdict:
    """The nightly pipeline is not through in time, or brought no rows."""
    if facts.night is None or not facts.night.expected:
        return Verdict()  # before the first night there is nothing to be late
    return Verdict(list(_night(facts)))


RULES = (
    Rule("empty syncs", (EMPTY,), empty),
    Rule("disabled connections", (DISABLED,), disabled),
    Rule("source latency", (LATENCY,), latency),
    Rule("the night", (NIGHTLY_LATE, NO_FRESH_ROWS), night),
)


def _is_active(partition: str, facts: Facts) -> bool:
    served = facts.served.get(partition)
    return served is not None and served.standing is Standing.ACTIVE


def _empty(one: EmptySyncs, facts: Facts) -> Finding:
    level = facts.sla[Sla.EMPTY_SYNCS]
    served = facts.served.get(one.partition)
    return Finding(
        rule=EMPTY,
        resource=one.partition,
        severity=Severity.PAGE if one.in_a_row >= level.page else Severity.WARN,
        title=f"{one.provider.label} of {facts.tenant_name(one.tenant_id)} syncs without a row",
        detail=_said(one),
        since=one.since,
        tenant=facts.tenant_slug(one.tenant_id),
        labels={"provider": one.provider.value},
        group=("connections", one.provider.value),
        sla=level.describe(),
        last_success=one.last_rows_at,
        owner=DATA_ENG,
        next_step="Compare with the platform: paused campaigns, or an account or permission that was taken away.",
        links=facts.places.connection(
            one.provider,
            one.partition,
            served.connection_id if served else None,
            one.last_job,
            "syncs-bring-no-rows",
        ),
        asset="/".join(one.provider.asset_path),
        is_symptom=True,
    )


def _said(one: EmptySyncs) -> str:
    counted = f"More than {EMPTY_COUNTED}" if one.in_a_row > EMPTY_COUNTED else str(one.in_a_row)
    said = f"{counted} syncs in a row brought no row; nearly all of the {one.before} before did."
    return said if one.usual_from is None else f"{said} It counts as usual from {one.usual_from:%Y-%m-%d} on."


def _disabled(one: OpenFinding, facts: Facts) -> Finding:
    served = facts.served.get(one.subject)
    level = facts.sla[Sla.SYNC_AGE]
    tenant, provider = (served.tenant_id, served.provider) if served else (None, None)
    whose = f"{provider.label} of {facts.tenant_name(tenant)}" if provider and tenant else one.subject
    section = "a-schema-change-disabled-a-connection"
    links: tuple[Link, ...] = (facts.places.runbook(section),)
    if served is not None:
        links = facts.places.connection(served.provider, one.subject, served.connection_id, None, section)
    return Finding(
        rule=DISABLED,
        resource=one.subject,
        severity=Severity.PAGE if facts.now - one.since >= level.page_after else Severity.WARN,
        title=f"{whose} is switched off in Airbyte",
        detail="Airbyte starts no sync: it switched the connection off after too many failures, a schema change did, or"
        " somebody.",
        since=one.since,
        tenant=facts.tenant_slug(tenant) if tenant else None,
        labels={"provider": provider.value} if provider else {},
        group=("connections", provider.value) if provider else (),
        sla=level.describe(),
        owner=DATA_ENG,
        next_step=f"`adinsights schema show {one.subject}`; approve what changed, or switch it on in Airbyte.",
        links=links,
        asset="/".join(provider.asset_path) if provider else None,
    )


def _latencies(facts: Facts) -> Dated[Finding]:
    level, moments = facts.sla[Sla.SOURCE_LATENCY], []
    overdue: dict[Provider, list[tuple[datetime, ConnectionFact]]] = {}
    for one in facts.connections:
        if one.state in _LATE:
            due = one.deadline or one.since
            moments += [at for at in (due + level.warn_after, due + level.page_after) if at > facts.now]
            if facts.now - due >= level.warn_after:
                overdue.setdefault(one.provider, []).append((due, one))
    found = [_latency(provider, ones, facts) for provider, ones in sorted(overdue.items())]
    return found, min(moments, default=None)


def _latency(provider: Provider, overdue: list[tuple[datetime, ConnectionFact]], facts: Facts) -> Finding:
    level = facts.sla[Sla.SOURCE_LATENCY]
    due, worst = min(overdue, key=lambda each: (each[0], each[1].partition))
    pages = facts.now - due >= level.page_after
    key = "/".join(provider.asset_path)
    return Finding(
        rule=LATENCY,
        resource=provider.value,
        severity=Severity.PAGE if pages else Severity.WARN,
        title=f"{provider.label}: Data Engineering has to look",
        detail=f"{facts.tenant_name(worst.tenant_id)} has waited for data since {moment(due)}"
        f"{f', {len(overdue) - 1:,} more connections for over {level.warn:g} min' if len(overdue) > 1 else ''}.",
        since=due,
        labels={"provider": provider.value, "escalation": "data-eng"},
        group=("escalations",),
        sla=level.describe(),
        last_success=worst.last_success,
        owner=DATA_ENG,
        next_step="Say in the channel who has it. Then: Airbyte's jobs, the provider's status page, our credentials.",
        links=(
            facts.places.asset(key),
            *facts.places.connection(
                provider, worst.partition, worst.connection_id, worst.last_job, "source-latency-is-over-an-hour"
            ),
        ),
        asset=key,
        is_symptom=True,
    )


def _night(facts: Facts) -> Iterator[Finding]:
    done, night = facts.night, night_at(facts.now, facts.sla)
    assert done is not None
    if done.built_at is None:
        yield _nightly(
            facts,
            NIGHTLY_LATE,
            Severity.WARN,
            night.done_by,
            LocalTime.NIGHTLY_DONE_BY,
            "The nightly pipeline is not through",
            f"No build of all models has completed since {moment(night.begins)}.",
        )
    if done.fresh_at is None and facts.now >= night.rows_by:
        yield _nightly(
            facts,
            NO_FRESH_ROWS,
            Severity.PAGE,
            night.rows_by,
            LocalTime.FRESH_ROWS_BY,
            "The dashboards have no rows of this night",
            f"No build has completed with rows that were synced since {moment(night.begins)}.",
        )


def _nightly(
    facts: Facts, rule: str, severity: Severity, since: datetime, at: LocalTime, title: str, detail: str
) -> Finding:
    by = facts.sla.local_times[at]
    return Finding(
        rule=rule,
        resource="nightly",
        severity=severity,
        title=title,
        detail=detail,
        since=since,
        group=("nightly",),
        sla=f"{by:%H:%M} {facts.sla.timezone} (thresholds as deployed, {at.value.replace('_', ' ')})",
        owner=DATA_ENG,
        next_step="Open the runs of dbt_nightly and sync_nightly in Dagster; run again what failed.",
        links=(
            *facts.places.job(_NIGHTLY_JOB),
            *(facts.places.dashboards() if rule == NO_FRESH_ROWS else ()),
            facts.places.runbook("the-night-was-not-done"),
        ),
        asset="health/dashboards",
        is_symptom=True,
    )
