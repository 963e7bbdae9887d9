"""Where data lies: the warehouse and the object store.

Belongs here: whether each answers and has room. Does not belong here: what lies there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from math import ceil
from pathlib import Path
from time import monotonic
from urllib.parse import unquote, urlsplit

import psycopg

from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health import background
from adinsights_orchestration.health.asking import Asking
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.web import Trouble
from adinsights_orchestration.objects import SCHEMES, Access, ObjectError, ask_store

_SHORTEST_CONNECT_SECONDS = 2  # libpq takes less for this


async def warehouse(ask: Asking) -> Reading:
    """The warehouse takes our connection and answers a statement."""
    where, began = ask.settings.warehouse, monotonic()
    try:
        async with asyncio.timeout(ask.timeout_seconds):
            connection = await psycopg.AsyncConnection.connect(
                host=where.host,
                port=where.port,
                user=where.user,
                password=where.password.get_secret_value(),
                dbname=where.dbname,
                connect_timeout=max(_SHORTEST_CONNECT_SECONDS, ceil(ask.timeout_seconds)),
                application_name="adinsights-health",
                options=f"-c statement_timeout={ceil(ask.timeout_seconds * 1000)}",
            )
            async with connection:
                await connection.execute("select 1")
    except TimeoutError:
        return ask.down(Component.WAREHOUSE, _late(ask, began))
    except psycopg.Error as error:
        return ask.down(Component.WAREHOUSE, _refused(ask, error, began))
    return ask.reading(Component.WAREHOUSE, Health.OK, "ok", "answers", latency_ms=(monotonic() - began) * 1000)


async def object_store(ask: Asking) -> Reading:
    """The object store's folder can be written and has room, its bucket can be listed, or its address answers."""
    url = ask.settings.health.object_store_url
    assert url is not None
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return await _folder(ask, Path(unquote(urlsplit(url).path)))
    if scheme in SCHEMES:
        return await _bucket(ask, url)
    reply = await ask.web.ask(url, method="HEAD")
    if isinstance(reply, Trouble):
        return ask.down(Component.OBJECT_STORE, reply)
    # A store that asks who we are, or has no page at its root, is there.
    if reply.status >= 500 or reply.status in (404, 407):
        trouble = Trouble(f"http_{reply.status}", f"HTTP {reply.status}", reply.latency_ms, reply.status)
        return ask.down(Component.OBJECT_STORE, trouble)
    detail = f"answers (HTTP {reply.status})"
    return ask.reading(Component.OBJECT_STORE, Health.OK, "ok", detail, latency_ms=reply.latency_ms)


async def _bucket(ask: Asking, url: str) -> Reading:
    component, began = Component.OBJECT_STORE, monotonic()

    def question() -> None:
        access = Access.of(ask.settings.audit_log)
        ask_store(url, access, timeout_seconds=ask.timeout_seconds, place="ADINSIGHTS_HEALTH__OBJECT_STORE_URL")

    try:
        await background.ask("object store", question, ask.timeout_seconds)
    except (TimeoutError, background.StillHangingError):
        return ask.down(component, _late(ask, began))
    except ObjectError as error:
        return ask.down(component, Trouble(error.state, error.problem, (monotonic() - began) * 1000))
    latency = (monotonic() - began) * 1000
    return ask.reading(component, Health.OK, "ok", "its bucket can be listed", latency_ms=latency)


async def _folder(ask: Asking, folder: Path) -> Reading:
    try:
        writable, free = await background.ask("object store", lambda: _room(folder), ask.timeout_seconds)
    except (TimeoutError, background.StillHangingError):
        return ask.reading(Component.OBJECT_STORE, Health.DOWN, "timeout", "the folder does not answer")
    except OSError as error:
        said = f"the folder cannot be used: {error.strerror}"
        return ask.reading(Component.OBJECT_STORE, Health.DOWN, "no_folder", said)
    if not writable:
        said = "the folder is not writable for this user"
        return ask.reading(Component.OBJECT_STORE, Health.DOWN, "read_only", said, value=free)
    entry = ask.sla[Sla.DISK_FREE]
    health = Health.DOWN if free < entry.page else Health.DEGRADED if free < entry.warn else Health.OK
    return ask.reading(
        Component.OBJECT_STORE, health, "ok" if health is Health.OK else "full", f"{free:.0f} % free", value=free
    )


def _room(folder: Path) -> tuple[bool, float]:
    usage = shutil.disk_usage(folder)
    return os.access(folder, os.W_OK | os.X_OK), round(100 * usage.free / usage.total, 1)


def _late(ask: Asking, began: float) -> Trouble:
    return Trouble("timeout", f"no answer within {ask.timeout_seconds:g} s", (monotonic() - began) * 1000)


def _refused(ask: Asking, error: psycopg.Error, began: float) -> Trouble:
    """Postgres' refusal by its kind; its text may hold the address."""
    latency = (monotonic() - began) * 1000
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return _late(ask, began)
    if error.sqlstate:
        return Trouble("refuses", f"it refuses us (SQLSTATE {error.sqlstate})", latency)
    text = str(error)
    for said, state, detail in (
        ("refused", "refused", "the connection was refused"),
        ("could not translate", "dns", "the host name is not known"),
        ("resolve", "dns", "the host name is not known"),
        ("password authentication failed", "refuses", "it refuses our password"),
        ("does not exist", "refuses", "there is no such database or role"),
        ("starting up", "starting", "it is starting up"),
        ("certificate", "wrong_certificate", "the certificate is not valid"),
    ):
        if said in text:
            return Trouble(state, detail, latency)
    return Trouble("unreachable", "no connection could be made, or it broke off", latency)
