"""What answers over HTTP and says little of itself: the frontend, Superset, Airbyte, the old scheduler.

Belongs here: whether each answers as itself. Does not belong here: the backend, which says more (`backend`).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health import background
from adinsights_orchestration.health.asking import Asking, in_words, minutes, refusal
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.web import Reply, Trouble, json_of, one_line

_BEATS = ("last_heartbeat", "heartbeat", "timestamp", "at")  # where a scheduler's answer may say when it beat


async def frontend(ask: Asking) -> Reading:
    """The frontend's page is served, and is the frontend's."""
    url, expected = ask.settings.health.frontend_url, ask.settings.health.frontend_expects
    assert url is not None
    reply = await ask.web.ask(url)
    if isinstance(reply, Trouble):
        return ask.down(Component.FRONTEND, reply)
    if reply.status != 200:
        return ask.down(Component.FRONTEND, _status(reply))
    if expected not in reply.text:
        return ask.down(
            Component.FRONTEND,
            Trouble("unexpected_content", "the page does not hold the expected text", reply.latency_ms, reply.status),
        )
    return ask.reading(Component.FRONTEND, Health.OK, "ok", "serves its page", latency_ms=reply.latency_ms)


async def superset(ask: Asking) -> Reading:
    """`GET /health` answers 200 `OK`."""
    url = ask.settings.health.superset_url
    assert url is not None
    reply = await ask.web.ask(f"{url}/health")
    if isinstance(reply, Trouble):
        return ask.down(Component.SUPERSET, reply)
    if reply.status != 200 or reply.is_page:
        return ask.down(Component.SUPERSET, _status(reply))
    if reply.text.strip().upper() != "OK":
        said = f"something else than Superset answers: {one_line(reply.text, 60)}"
        return ask.down(Component.SUPERSET, Trouble("unexpected_content", said, reply.latency_ms, reply.status))
    return ask.reading(Component.SUPERSET, Health.OK, "ok", "answers", latency_ms=reply.latency_ms)


async def airbyte(ask: Asking) -> Reading:
    """Both of Airbyte's APIs answer: without the public one nothing is driven, without the other no reason is known."""
    component, addresses = Component.AIRBYTE, ask.settings.airbyte
    public, config = await asyncio.gather(
        ask.web.ask(f"{addresses.public_api_url}/health"), ask.web.ask(f"{addresses.config_api_url}/health")
    )
    trouble = _airbyte_trouble(public)
    if trouble is not None:
        return ask.down(component, trouble)
    assert isinstance(public, Reply)
    behind = _airbyte_trouble(config) or _unavailable(config)
    if behind is None:
        return ask.reading(component, Health.OK, "ok", "both APIs answer", latency_ms=public.latency_ms)
    detail = f"the public API answers, the configuration API does not: {behind.detail}"
    facts = {"configuration_api": behind.state}
    return ask.reading(
        component, Health.DEGRADED, "configuration_api_down", detail, latency_ms=public.latency_ms, facts=facts
    )


async def scheduler(ask: Asking) -> Reading:
    """The old scheduler beat lately: a file that it touches, or an address that it answers."""
    where = ask.settings.health.scheduler_heartbeat
    assert where is not None
    if where.startswith(("http://", "https://")):
        return await _scheduler_by_address(ask, where)
    path = Path(unquote(urlsplit(where).path) if where.startswith("file:") else where)
    try:
        seconds = await background.ask("scheduler", lambda: path.stat().st_mtime, ask.timeout_seconds)
    except (TimeoutError, background.StillHangingError):
        return ask.reading(Component.SCHEDULER, Health.DOWN, "timeout", "the heartbeat's folder does not answer")
    except OSError as error:
        said = f"no heartbeat can be read: {error.strerror}"
        return ask.reading(Component.SCHEDULER, Health.DOWN, "no_heartbeat", said)
    return _by_beat(ask, datetime.fromtimestamp(seconds, UTC), None)


async def _scheduler_by_address(ask: Asking, url: str) -> Reading:
    reply = await ask.web.ask(url)
    if isinstance(reply, Trouble):
        return ask.down(Component.SCHEDULER, reply)
    if reply.status != 200 or reply.is_page:
        return ask.down(Component.SCHEDULER, _status(reply))
    beat = _beat(reply)
    if beat is None:
        return ask.reading(Component.SCHEDULER, Health.OK, "ok", "answers", latency_ms=reply.latency_ms)
    return _by_beat(ask, beat, reply.latency_ms)


def _by_beat(ask: Asking, beat: datetime, latency_ms: float | None) -> Reading:
    age = max(ask.clock() - beat, timedelta())
    health = ask.by_age(Sla.HEARTBEAT_AGE, age)
    state = "ok" if health is Health.OK else "silent"
    detail = f"last heartbeat {in_words(age)} ago"
    return ask.reading(Component.SCHEDULER, health, state, detail, latency_ms=latency_ms, value=minutes(age))


def _beat(reply: Reply) -> datetime | None:
    body: Any = json_of(reply)
    if isinstance(body, Trouble):
        return None
    for name in _BEATS:
        value = body.get(name)
        try:
            beat = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            continue
        if beat is not None:
            return beat if beat.tzinfo else beat.replace(tzinfo=UTC)
    return None


def _airbyte_trouble(reply: Reply | Trouble) -> Trouble | None:
    if isinstance(reply, Trouble):
        return reply
    return _status(reply) if reply.status != 200 or reply.is_page else None


def _unavailable(reply: Reply | Trouble) -> Trouble | None:
    body = json_of(reply) if isinstance(reply, Reply) else reply
    if isinstance(body, Trouble):
        return body
    if body.get("available") is False:
        return Trouble("not_available", "it says that it is not available", 0.0)
    return None


def _status(reply: Reply) -> Trouble:
    """An answer that is no good, told as far as it says something itself."""
    if reply.is_page:
        page = json_of(reply)
        assert isinstance(page, Trouble)
        return page
    return refusal(reply) or Trouble("not_ok", f"HTTP {reply.status}", reply.latency_ms, reply.status)
