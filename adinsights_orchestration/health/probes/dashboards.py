"""The age of the data on the dashboards, tenant by tenant; the worst one decides.

Belongs here: asking the backend for each tenant's snapshot, and the rule. Does not belong here: whether syncs or builds
are late, which have components of their own. A tenant is asked every five minutes, one that looks bad every minute: the
answer is a sum over its facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health.asking import Asking, in_words, minutes, refusal
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.recorded import TenantSyncs
from adinsights_orchestration.health.web import Trouble, json_of
from adinsights_orchestration.tenants.model import Tenant

MEMORY = "dashboards"
_ASK_EVERY = timedelta(minutes=5)
_ASK_AGAIN = timedelta(seconds=55)
_AT_ONCE = 4
_PER_TICK = 60
_SHOWN = 20
_TICK = timedelta(seconds=30)
_FORGET_AFTER = 3  # rounds after which an old answer says nothing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the backend said of one tenant."""

    asked_at: datetime
    generated_at: datetime | None
    trouble: str = ""

    def to_json(self) -> list[str | None]:
        """What is kept of it."""
        generated = self.generated_at.isoformat() if self.generated_at else None
        return [self.asked_at.isoformat(), generated, self.trouble]

    @classmethod
    def from_json(cls, kept: Any) -> Snapshot | None:
        """What was kept, read back."""
        try:
            asked, generated, trouble = kept
            return cls(datetime.fromisoformat(asked), datetime.fromisoformat(generated) if generated else None, trouble)
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Limits:
    """From what on a tenant's dashboards are not well.

    Attributes:
        warn: Age of the snapshot that is stale.
        page: Age that is down.
        grace: How long a snapshot may lack a build that has completed.
        asked_every: How long a round over all tenants takes.
    """

    warn: timedelta
    page: timedelta
    grace: timedelta
    asked_every: timedelta = _ASK_EVERY


@dataclass(frozen=True, slots=True)
class Verdict:
    """One tenant's dashboards."""

    slug: str
    health: Health
    state: str
    age: timedelta | None


def judge(
    tenant: Tenant,
    snapshot: Snapshot | None,
    syncs: TenantSyncs | None,
    builds: Sequence[datetime],
    limits: Limits,
    now: datetime,
) -> Verdict:
    """Returns how a tenant's dashboards are.

    An old snapshot is excused while a build that it lacks completed within the grace, and while nothing newer was
    synced and no connection is late: a tenant whose connections sleep till morning has the newest data there is.

    Args:
        tenant: The tenant.
        snapshot: What the backend said last; None when it was never asked.
        syncs: Its connections; None where nothing is known of them.
        builds: When dbt builds completed, in any order.
        limits: From what on it is not well.
        now: The moment.
    """
    if snapshot is None or now - snapshot.asked_at > _FORGET_AFTER * limits.asked_every:
        return Verdict(tenant.slug, Health.UNKNOWN, "not_asked", None)
    if snapshot.trouble:
        return Verdict(tenant.slug, Health.UNKNOWN, snapshot.trouble, None)
    asleep = syncs is not None and not syncs.late
    newest = syncs.last_success_at if syncs is not None else None
    taken = snapshot.generated_at
    if taken is None:
        nothing_yet = asleep and newest is None
        return Verdict(tenant.slug, Health.OK if nothing_yet else Health.DEGRADED, "no_snapshot", None)
    age = max(now - taken, timedelta())
    excuse = _excuse(taken, builds, limits, now) or ("nothing_newer" if asleep and newest and newest <= taken else "")
    if age <= limits.warn or excuse:
        return Verdict(tenant.slug, Health.OK, "ok" if age <= limits.warn else excuse, age)
    return Verdict(tenant.slug, Health.DOWN if age > limits.page else Health.DEGRADED, "stale", age)


def _excuse(taken: datetime, builds: Sequence[datetime], limits: Limits, now: datetime) -> str:
    missed = min((built for built in builds if taken < built <= now), default=None)
    return "refreshing" if missed is not None and now - missed <= limits.grace else ""


async def dashboards(ask: Asking) -> Reading:
    """Every tenant's snapshot is young enough."""
    now = ask.clock()
    known = {tenant: one for tenant, kept in ask.memory.get(MEMORY, {}).items() if (one := Snapshot.from_json(kept))}
    tenants = ask.recorded.tenants
    age, grace = ask.sla[Sla.DASHBOARD_AGE], ask.sla[Sla.DASHBOARD_GRACE]
    known |= await _asked(ask, _due(tenants, known, age.warn_after, now))
    ask.memory[MEMORY] = {str(one.id): known[str(one.id)].to_json() for one in tenants if str(one.id) in known}
    limits = Limits(age.warn_after, age.page_after, grace.warn_after, max(_ASK_EVERY, len(tenants) / _PER_TICK * _TICK))
    builds = [one.generated_at for one in ask.recorded.invocations if one.completed]
    verdicts = [
        judge(one, known.get(str(one.id)), ask.recorded.syncs.get(one.id), builds, limits, ask.clock())
        for one in tenants
    ]
    return _reading(ask, verdicts)


def _reading(ask: Asking, verdicts: Sequence[Verdict]) -> Reading:
    component = Component.DASHBOARDS
    if not verdicts:
        return ask.reading(component, Health.UNKNOWN, "no_tenants", "no tenant with a connection is known")
    worst_first = sorted(
        verdicts, key=lambda one: (-one.health.rank, -(one.age or timedelta()).total_seconds(), one.slug)
    )
    worst = worst_first[0]
    ages = [one.age for one in verdicts if one.age is not None]
    bad = [one for one in worst_first if one.health is not Health.OK]
    facts: dict[str, Any] = {
        "tenants": len(verdicts),
        "not_ok": len(bad),
        "worst_first": [
            {"tenant": one.slug, "state": one.state, "age_minutes": minutes(one.age) if one.age is not None else None}
            for one in worst_first[:_SHOWN]
        ],
    }
    oldest = in_words(max(ages)) if ages else "no"
    if not bad:
        said = f"the oldest of {len(verdicts)} tenants' snapshots is {oldest} old" if ages else "nothing to show yet"
        return ask.reading(component, Health.OK, "ok", said, value=minutes(max(ages)) if ages else None, facts=facts)
    named = ", ".join(f"{one.slug} ({in_words(one.age) if one.age is not None else one.state})" for one in bad[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    detail = f"{len(bad)} of {len(verdicts)} tenants are not ok: {named}{more}"
    value = minutes(max(ages)) if ages else None
    return ask.reading(component, worst.health, worst.state, detail, value=value, facts=facts)


def _due(tenants: Sequence[Tenant], known: Mapping[str, Snapshot], warn: timedelta, now: datetime) -> list[Tenant]:
    """The tenants to ask now, those that were asked longest ago first; one that looks bad is asked again sooner."""

    def asked_at(tenant: Tenant) -> float:
        snapshot = known.get(str(tenant.id))
        return snapshot.asked_at.timestamp() if snapshot else 0.0

    def is_due(tenant: Tenant) -> bool:
        snapshot = known.get(str(tenant.id))
        if snapshot is None:
            return True
        well = not snapshot.trouble and snapshot.generated_at is not None and now - snapshot.generated_at <= warn
        return not timedelta() <= now - snapshot.asked_at < (_ASK_EVERY if well else _ASK_AGAIN)

    return sorted(filter(is_due, tenants), key=asked_at)[:_PER_TICK]


async def _asked(ask: Asking, tenants: Sequence[Tenant]) -> dict[str, Snapshot]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(tenant: Tenant) -> None:
        async with gate:
            found[str(tenant.id)] = await _ask(ask, tenant)

    found: dict[str, Snapshot] = {}
    tasks = [asyncio.create_task(one(tenant)) for tenant in tenants]
    if tasks:
        # What was answered counts even when the backend is too slow for all of them.
        _, late = await asyncio.wait(tasks, timeout=ask.timeout_seconds)
        for task in late:
            task.cancel()
    return dict(found)


async def _ask(ask: Asking, tenant: Tenant) -> Snapshot:
    key = ask.settings.health.backend_api_key
    assert key is not None
    reply = await ask.web.ask(
        f"{ask.settings.backend.url}/api/metrics/combined/",
        params={"source": "warehouse", "tenant_id": str(tenant.id)},
        headers={"X-API-Key": key.get_secret_value()},
        follow=False,
    )
    now = ask.clock()
    if isinstance(reply, Trouble):
        return Snapshot(now, None, reply.state)
    trouble = refusal(reply)
    if trouble is not None:
        return Snapshot(now, None, trouble.state)
    body = json_of(reply)
    if isinstance(body, Trouble):
        return Snapshot(now, None, body.state)
    generated = body.get("snapshot_generated_at")
    try:
        moment = datetime.fromisoformat(generated) if generated else None
    except (ValueError, TypeError):
        return Snapshot(now, None, "unreadable")
    if moment is not None and moment.tzinfo is None:
        return Snapshot(now, None, "unreadable")
    return Snapshot(now, moment)
