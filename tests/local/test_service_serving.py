"""Serving an application from a thread."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.serving import ServingError, bind, drop_connection, running


async def _hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def _drop(request: Request) -> Response:
    drop_connection(request.scope)
    return PlainTextResponse("nobody reads this")


ROUTES = [Route("/", _hello), Route("/drop", _drop)]


def test_an_application_is_served_on_a_free_port_and_gone_afterwards() -> None:
    with running(Starlette(routes=ROUTES)) as url:
        assert httpx.get(url).text == "hello"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_the_port_can_be_used_again_at_once() -> None:
    with running(Starlette(routes=ROUTES)) as url:
        httpx.get(url)
        port = urlsplit(url).port
    assert port is not None
    with running(Starlette(routes=ROUTES), port=port) as again:
        assert httpx.get(again).text == "hello"


def test_the_applications_own_life_begins_and_ends_with_the_block() -> None:
    seen = []

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        seen.append("begun")
        yield
        seen.append("ended")

    with running(Starlette(routes=ROUTES, lifespan=life)):
        assert seen == ["begun"]
    assert seen == ["begun", "ended"]


def test_an_application_that_cannot_begin_is_an_error() -> None:
    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        if ROUTES:
            raise RuntimeError("no database")
        yield

    with pytest.raises(ServingError, match="did not start"), running(Starlette(lifespan=life)):
        pass


def test_a_dropped_connection_ends_without_a_reply_and_the_server_goes_on() -> None:
    with running(Starlette(routes=ROUTES)) as url, httpx.Client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(f"{url}/drop")
        assert client.get(url).text == "hello"


def test_a_client_in_the_same_process_meets_a_dropped_connection_as_an_error() -> None:
    with pytest.raises(ConnectionResetError):
        drop_connection({"type": "http"})


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} on 127.0.0.1"):
            bind("127.0.0.1", port)
