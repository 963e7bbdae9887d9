"""The API's error rate: asked of a Prometheus server, else read from the backend's counters, else from our own probes.

Belongs here: where the numbers come from. Does not belong here: what they mean (`error_rate`). Every source says how
many requests the rate rests on, and which source it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from adinsights_orchestration.freshness.sla import Sla, Threshold
from adinsights_orchestration.health.asking import Asking, refusal
from adinsights_orchestration.health.error_rate import (
    Counters,
    Scrape,
    Traffic,
    judge,
    observe,
    several_processes,
    traffic,
)
from adinsights_orchestration.health.model import QUIET, Component, Health, Reading
from adinsights_orchestration.health.prometheus import MetricsError, Selection, parse, query_value
from adinsights_orchestration.health.web import Trouble, host_of, json_of
from adinsights_orchestration.settings import HealthSettings

MEMORY, OWN = "api", "own_requests"
_QUERY = "/api/v1/query"
_WINDOW = timedelta(minutes=5)
_WHOLE = 0.9  # of a window: scrapes come every half minute and do not begin and end with it


async def api(ask: Asking) -> Reading:
    """The share of requests that the backend answered with an error, over the window of the SLA."""
    entry = ask.sla[Sla.API_ERROR_RATE]
    window = entry.window or _WINDOW
    told: list[str] = []
    selection = Selection.of(ask.settings.health)
    # Counters are read always, so that their window is full when it is needed.
    for source in await asyncio.gather(_prometheus(ask, selection, window), _counters(ask, selection, window)):
        if isinstance(source, tuple):
            name, all_of_it, since = source
            return _reading(ask, entry, name, all_of_it, told, own=_own(ask, since))
        if source is not None:
            told.append(source)
    requests, bad = ask.recorded.probed
    blind = "several_processes" if several_processes(_remembered(ask), window) else "no_metrics"
    return _reading(ask, entry, "probes", Traffic(requests, bad, window), told, blind=blind)


def note_own_requests(
    memory: dict[str, Any], answered: Sequence[tuple[str, int]], backend_url: str, at: datetime
) -> None:
    """Remembers what this tick asked the backend itself, which says nothing about customers' requests."""
    host = host_of(backend_url)
    statuses = [status for where, status in answered if where == host]
    kept = [one for one in memory.get(OWN, []) if at - datetime.fromisoformat(one[0]) < timedelta(minutes=30)]
    memory[OWN] = [*kept, [at.isoformat(), len(statuses), sum(status >= 500 for status in statuses)]]


def _reading(
    ask: Asking,
    entry: Threshold,
    source: str,
    all_of_it: Traffic,
    told: Sequence[str],
    own: tuple[int, int] = (0, 0),
    blind: str = "",
) -> Reading:
    window, known = entry.window or _WINDOW, all_of_it.less(*own)
    health, state, detail = judge(known, entry.warn, entry.page, entry.at_least or 1)
    facts: dict[str, Any] = {
        "source": source,
        "requests": round(known.requests),
        "errors": round(known.errors),
        "own_requests_taken_out": own[0],
        "own_errors_taken_out": own[1],
        "covered_seconds": round(known.covered.total_seconds()),
        "sources_without_data": list(told),
    }
    if source == "probes":
        state = blind if health is Health.UNKNOWN else state
        detail = f"{'; '.join(told)}; of our own probes {detail}"
    elif health is Health.UNKNOWN and known.covered >= _WHOLE * window and (known.percent or 0.0) <= entry.warn:
        facts[QUIET] = True
    value = round(known.percent, 3) if known.percent is not None else None
    return ask.reading(Component.API, health, state, detail, value=value, facts=facts)


async def _counters(ask: Asking, selection: Selection, window: timedelta) -> tuple[str, Traffic, datetime] | str:
    urls = ask.settings.health.metrics_urls or (f"{ask.settings.backend.url}/metrics/app/",)
    scrapes = await asyncio.gather(*(_scrape(ask, url, selection) for url in urls))
    whole = [one for one in scrapes if isinstance(one, Scrape)]
    counters = observe(_remembered(ask), whole, window)
    ask.memory[MEMORY] = counters.to_json()
    now = ask.clock()
    known = traffic(counters, window, now)
    mixed = several_processes(counters, window)
    if mixed is not None:
        return (
            f"counters: those of {mixed} begin anew so often that several processes answer for it (or one keeps "
            "restarting); name each in ADINSIGHTS_HEALTH__METRICS_URLS or export process_start_time_seconds"
        )
    if not known.covered:
        failed = [str(one) for one in scrapes if not isinstance(one, Scrape)]
        return f"counters: {failed[0]}" if failed else "counters: read once so far, a rate takes two readings"
    return "counters", known, now - known.covered


def _remembered(ask: Asking) -> Counters:
    return Counters.from_json(ask.memory.get(MEMORY))


async def _scrape(ask: Asking, url: str, selection: Selection) -> Scrape | str:
    reply = await ask.web.ask(url)
    if isinstance(reply, Trouble):
        return reply.detail
    trouble = refusal(reply)
    if trouble is not None:
        return trouble.detail
    if reply.is_page:
        return "a page instead of metrics"
    try:
        return parse(reply.text, f"{host_of(url)}{urlsplit(url).path}", selection, ask.clock())
    except MetricsError as error:
        return error.problem


async def _prometheus(
    ask: Asking, selection: Selection, window: timedelta
) -> tuple[str, Traffic, datetime] | str | None:
    server = ask.settings.health.prometheus_url
    if server is None:
        return None
    values: list[float] = []
    for reply in await asyncio.gather(
        *(ask.web.ask(f"{server}{_QUERY}", params={"query": query}) for query in selection.queries(window))
    ):
        body = json_of(reply) if not isinstance(reply, Trouble) else reply
        if isinstance(body, Trouble):
            return f"Prometheus: {body.detail}"
        try:
            value = query_value(body)
        except MetricsError as error:
            return f"Prometheus: {error.problem}"
        if value is None and not values:
            return "Prometheus: no series of that name"
        values.append(value or 0.0)  # a status that never occurred has no series
    return "prometheus", Traffic(values[0], min(values[1], values[0]), window), ask.clock() - window


def _own(ask: Asking, since: datetime) -> tuple[int, int]:
    """Our own requests and errors since then, where the counter holds them: else customers' would be taken out."""
    if not _holds_ours(ask.settings.health):
        return 0, 0
    until = ask.clock()
    inside = [one for one in ask.memory.get(OWN, []) if since <= datetime.fromisoformat(one[0]) <= until]
    return sum(one[1] for one in inside), sum(one[2] for one in inside)


def _holds_ours(settings: HealthSettings) -> bool:
    """As somebody said; else the backend's own counter of all that it answers does, and of others nobody knows."""
    if settings.own_requests_counted is not None:
        return settings.own_requests_counted
    is_default = settings.requests_metric == HealthSettings.model_fields["requests_metric"].default
    return is_default and not settings.metrics_filter
