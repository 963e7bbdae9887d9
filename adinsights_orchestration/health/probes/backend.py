"""The backend: its API, and what its Airbyte and dbt endpoints say, beside what we know.

Belongs here: the product's three health endpoints. Does not belong here: our own dbt health (`records`), dashboards.
A refusal carries its diagnosis in its body, so the body is read whatever the status. The Airbyte endpoint speaks of the
most recently synced tenant only, and the dbt endpoint of one file: where they disagree with the ledger or the recorded
builds, that is shown and neither is silenced.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health.asking import Asking, in_words, minutes, refusal
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.probes.records import our_dbt
from adinsights_orchestration.health.recorded import LATE_STATES
from adinsights_orchestration.health.web import Trouble, json_of, one_line

_AIRBYTE = {
    "ok": Health.OK,
    "pending": Health.OK,
    "stale": Health.DEGRADED,
    "no_recent_sync": Health.DEGRADED,
    "running_stale": Health.DEGRADED,
    "sync_failed": Health.DEGRADED,
    "misconfigured": Health.DOWN,
    "status_store_unavailable": Health.DOWN,
}
_DBT = {
    "ok": Health.OK,
    "stale": Health.DEGRADED,
    "missing_run_results": Health.DEGRADED,
    "failing": Health.DEGRADED,
    "invalid_run_results": Health.DOWN,
}


async def backend(ask: Asking) -> Reading:
    """`GET /api/health/` answers 200 with `{"status": "ok"}`."""
    component = Component.BACKEND
    reply = await ask.web.ask(f"{ask.settings.backend.url}/api/health/")
    if isinstance(reply, Trouble):
        return ask.down(component, reply)
    body = json_of(reply)
    if isinstance(body, Trouble):
        return ask.down(component, body)
    status = body.get("status")
    if reply.status != 200 or status != "ok":
        trouble = refusal(reply) or Trouble(
            "not_ok", f"the backend says {one_line(status, 60)!r}", reply.latency_ms, 200
        )
        return ask.down(component, trouble)
    return ask.reading(component, Health.OK, "ok", "answers", latency_ms=reply.latency_ms)


async def backend_airbyte(ask: Asking) -> Reading:
    """What the backend says of Airbyte, beside how many connections are late by the ledger."""
    component = Component.BACKEND_AIRBYTE
    said = await _diagnosis(ask, "airbyte", _AIRBYTE)
    if isinstance(said, Trouble):
        return ask.down(component, said)
    status, body, latency = said
    last = body.get("last_sync") if isinstance(body.get("last_sync"), Mapping) else {}
    age = _age(ask, (last or {}).get("last_synced_at"))
    counts = ask.recorded.freshness
    late = sum(counts.get(state, 0) for state in LATE_STATES)
    ours = None if not counts else "ok" if not late else "stale"
    facts: dict[str, Any] = {
        "backend": status,
        "ours": ours,
        "late_connections": late if counts else None,
        "connections": sum(counts.values()) if counts else None,
        "last_tenant": _text((last or {}).get("tenant_id")),
        "last_job_status": _text((last or {}).get("last_job_status")),
    }
    health = _AIRBYTE.get(status, Health.UNKNOWN)
    if health is Health.DEGRADED and age is not None and ask.by_age(Sla.SYNC_AGE, age) is Health.DOWN:
        # The backend knows no schedules: every night, between the last sync of the day and the first of the next, what
        # it has is old by its measure. While the ledger, which knows them, misses nothing, nobody is woken for that.
        facts["as_scheduled"] = _nothing_is_late(ask, late)
        health = Health.DEGRADED if facts["as_scheduled"] else Health.DOWN
    agrees = ours is None or (ours == "ok") == (_AIRBYTE.get(status) is Health.OK)
    facts["agrees"] = agrees
    detail = f"the backend says {status}" + (f", newest sync {in_words(age)} ago" if age is not None else "")
    if not agrees:
        detail += f"; the ledger says {late} of {sum(counts.values())} connections are late"
    value = minutes(age) if age is not None else None
    return ask.reading(component, health, status, detail, latency_ms=latency, value=value, facts=facts)


def _nothing_is_late(ask: Asking, late: int) -> bool:
    """Whether the ledger says so, and of now: an evaluation that stands still vouches for nothing."""
    at = ask.recorded.freshness_at
    return at is not None and not late and ask.by_age(Sla.HEARTBEAT_AGE, abs(ask.clock() - at)) is not Health.DOWN


async def backend_dbt(ask: Asking) -> Reading:
    """What the backend says of dbt, beside what the recorded builds say."""
    component = Component.BACKEND_DBT
    said = await _diagnosis(ask, "dbt", _DBT)
    if isinstance(said, Trouble):
        return ask.down(component, said)
    status, body, latency = said
    age = _age(ask, body.get("generated_at"))
    ours = our_dbt(ask)
    health = _DBT.get(status, Health.UNKNOWN)
    if health is Health.DEGRADED and age is not None and ask.by_age(Sla.DBT_RUN_AGE, age) is Health.DOWN:
        health = Health.DOWN
    failing = body.get("failing_models")
    facts: dict[str, Any] = {
        "backend": status,
        "ours": ours.state.value,
        "agrees": status == ours.state.value,
        "failing_models": [one_line(name, 120) for name in failing[:20]] if isinstance(failing, list) else [],
    }
    detail = f"the backend says {status}" + (f", of a build {in_words(age)} ago" if age is not None else "")
    if not facts["agrees"]:
        detail += f"; the recorded builds say {ours.state.value} ({ours.detail})"
    value = minutes(age) if age is not None else None
    return ask.reading(component, health, status, detail, latency_ms=latency, value=value, facts=facts)


async def _diagnosis(
    ask: Asking, component: str, known: Mapping[str, Health]
) -> tuple[str, Mapping[str, Any], float] | Trouble:
    reply = await ask.web.ask(f"{ask.settings.backend.url}/api/health/{component}/")
    if isinstance(reply, Trouble):
        return reply
    body = json_of(reply)
    if isinstance(body, Trouble):
        return body
    status = _text(body.get("status"))
    if status in known:
        return status, body, reply.latency_ms
    trouble = refusal(reply)
    if trouble is not None:
        return trouble
    # A word of a newer backend: no data, rather than a guess.
    return status or "unknown_status", body, reply.latency_ms


def _age(ask: Asking, moment: object) -> timedelta | None:
    try:
        told = datetime.fromisoformat(moment) if isinstance(moment, str) else None
    except ValueError:
        return None
    if told is None or told.tzinfo is None:
        return None
    return max(ask.clock() - told, timedelta())


def _text(value: object) -> str:
    return one_line(value, 60) if isinstance(value, str) else ""
