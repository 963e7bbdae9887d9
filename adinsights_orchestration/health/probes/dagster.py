"""Dagster itself: its daemons' heartbeats, and its code locations.

Belongs here: whether the control room works. Does not belong here: any run or asset. Heartbeats are read from Dagster's
storage; whether a location is loaded only the webserver knows, so while it does not answer that is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from adinsights_orchestration.dagster_internals.daemons import Heartbeat, heartbeats
from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health import background
from adinsights_orchestration.health.asking import Asking, in_words, minutes, refusal
from adinsights_orchestration.health.code_locations import EXPECTED_LOCATIONS, LOCATIONS_QUERY, locations_of
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.web import Trouble, json_of


async def dagster_daemons(ask: Asking) -> Reading:
    """Every daemon that the instance needs beat lately: without them nothing is scheduled, observed or queued."""
    component = Component.DAGSTER_DAEMONS
    try:
        beats = await background.ask("daemons", lambda: heartbeats(ask.instance), ask.timeout_seconds)
    except (TimeoutError, background.StillHangingError):
        return ask.reading(component, Health.UNKNOWN, "timeout", "Dagster's storage did not answer in time")
    except Exception as error:  # noqa: BLE001  (whatever the storage raises, nothing is known)
        said = f"Dagster's storage does not answer ({type(error).__name__})"
        return ask.reading(component, Health.UNKNOWN, "no_storage", said)
    if not beats:
        return ask.reading(component, Health.UNKNOWN, "no_daemons", "this instance of Dagster asks for no daemon")
    now = ask.clock()
    ages = {name: max(now - beat.at, timedelta()) for name, beat in beats.items() if beat.at is not None}
    late = {name: age for name, age in ages.items() if ask.by_age(Sla.HEARTBEAT_AGE, age) is not Health.OK}
    never = sorted(set(beats) - set(ages))
    facts = {"age_seconds": {name: round(age.total_seconds()) for name, age in ages.items()}, "never": never}
    oldest = max(ages.values(), default=timedelta())
    if not late and not never:
        return _beating(ask, beats, oldest, facts)
    health = Health.DOWN if never else max((ask.by_age(Sla.HEARTBEAT_AGE, age) for age in late.values()), key=_rank)
    words = [*(f"{name} never beat" for name in never), *(f"{n} silent for {in_words(a)}" for n, a in late.items())]
    return ask.reading(component, health, "silent", ", ".join(words), value=minutes(oldest), facts=facts)


async def code_locations(ask: Asking) -> Reading:
    """Both code locations are loaded: sensors, schedules and freshness of one that is not stand still."""
    component = Component.CODE_LOCATIONS
    reply = await ask.web.ask(
        f"{ask.settings.dagster.asked_url}/graphql", method="POST", body={"query": LOCATIONS_QUERY}
    )
    entries = reply if isinstance(reply, Trouble) else refusal(reply) or _entries(json_of(reply))
    if isinstance(entries, Trouble):
        said = f"Dagster's webserver does not tell: {entries.detail}"
        return ask.reading(
            component, Health.UNKNOWN, f"webserver_{entries.state}", said, latency_ms=entries.latency_ms or None
        )
    assert not isinstance(reply, Trouble)
    return _judged(ask, entries, reply.latency_ms)


def _beating(ask: Asking, beats: Mapping[str, Heartbeat], oldest: timedelta, facts: Mapping[str, Any]) -> Reading:
    failing = sorted(name for name, beat in beats.items() if beat.errors)
    if failing:
        detail = f"{', '.join(failing)} beat and report errors; see their log"
        return ask.reading(Component.DAGSTER_DAEMONS, Health.DEGRADED, "errors", detail, facts=facts)
    detail = f"{len(beats)} daemons beat, the oldest {in_words(oldest)} ago"
    return ask.reading(Component.DAGSTER_DAEMONS, Health.OK, "ok", detail, value=minutes(oldest), facts=facts)


def _judged(ask: Asking, entries: Mapping[str, tuple[str, str]], latency_ms: float) -> Reading:
    component = Component.CODE_LOCATIONS
    facts = {"locations": {name: status for name, (status, _) in entries.items()}}
    failed = [f"{name} ({error})" if error else name for name, (status, error) in entries.items() if status == "error"]
    missing = [name for name in EXPECTED_LOCATIONS if name not in entries]
    loading = [name for name, (status, _) in entries.items() if status == "loading"]
    if failed:
        detail = f"not loaded: {', '.join(failed)}"
        return ask.reading(component, Health.DOWN, "load_error", detail, latency_ms=latency_ms, facts=facts)
    if missing:
        detail = f"the workspace lacks {', '.join(missing)}"
        return ask.reading(component, Health.DOWN, "missing", detail, latency_ms=latency_ms, facts=facts)
    if loading:
        detail = f"loading: {', '.join(loading)}"
        return ask.reading(component, Health.DEGRADED, "loading", detail, latency_ms=latency_ms, facts=facts)
    detail = f"{', '.join(entries)} are loaded"
    return ask.reading(component, Health.OK, "ok", detail, latency_ms=latency_ms, facts=facts)


def _entries(body: Mapping[str, Any] | Trouble) -> dict[str, tuple[str, str]] | Trouble:
    return body if isinstance(body, Trouble) else locations_of(body)


def _rank(health: Health) -> int:
    return health.rank
