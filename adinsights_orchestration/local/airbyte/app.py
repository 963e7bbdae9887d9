"""The Airbyte server as one ASGI application.

Belongs here: where the parts meet: routes, gate, faults, and the background work of the server's life (the executor's
pulse and the webhook's posts). Does not belong here: any of the parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.local.airbyte.auth import Gate, GuardedServer
from adinsights_orchestration.local.airbyte.config_connections import ConfigConnections
from adinsights_orchestration.local.airbyte.config_jobs import ConfigJobs
from adinsights_orchestration.local.airbyte.config_schema import ConfigSchema, Discover
from adinsights_orchestration.local.airbyte.faults import FaultyServer, declare
from adinsights_orchestration.local.airbyte.http import ShortLines, configuration, json_object, public
from adinsights_orchestration.local.airbyte.page import timeline_route
from adinsights_orchestration.local.airbyte.problems import known_exception
from adinsights_orchestration.local.airbyte.public_jobs import PublicJobs
from adinsights_orchestration.local.airbyte.public_resources import PublicActors, PublicConnections, PublicWorkspaces
from adinsights_orchestration.local.airbyte.world import AirbyteWorld, Executor
from adinsights_orchestration.local.knobs import Knobs

PULSE_SECONDS = 0.2
Background = Callable[[], Awaitable[None]]
log = structlog.get_logger(component="local.airbyte")


def create_airbyte_app(
    world: AirbyteWorld,
    knobs: Knobs | None = None,
    *,
    executor: Executor | None = None,
    clock: Clock = utc_now,
    gate: Gate | None = None,
    background: tuple[Background, ...] = (),
    discover: Discover | None = None,
) -> Starlette:
    """Builds the server over a world.

    Args:
        world: The state; its own knobs rule the faults.
        knobs: Only checked to be the world's own store, so that a mix-up is an error and not a dead knob.
        executor: What carries jobs out; attached here unless it attached itself.
        clock: Decides when tokens expire.
        gate: Who may ask; everyone when None.
        background: Coroutine functions that run while the server does (an executor's tasks, the webhook's sender).
        discover: Asks a source for its streams; without it a source offers what was discovered last.
    """
    if knobs is not None and knobs is not world.knobs.knobs:
        raise ValueError("the world was built on another store of knobs")
    if executor is not None:
        world.attach(executor)
    entrance = gate or Gate(clock=clock)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_beat(world))]
        tasks += [asyncio.create_task(_named(work)) for work in background]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return Starlette(
        routes=_routes(world, entrance, discover),
        lifespan=life,
        middleware=[
            Middleware(ShortLines),
            Middleware(FaultyServer, knobs=declare(world.knobs.knobs)),
            Middleware(GuardedServer, gate=entrance),
        ],
    )


def _routes(world: AirbyteWorld, gate: Gate, discover: Discover | None) -> list[BaseRoute]:
    public_routes: list[BaseRoute] = [
        Route("/health", _public_health, methods=["GET"]),
        Route("/applications/token", public(_public_token(gate)), methods=["POST"]),
        *PublicJobs(world).routes(),
        *PublicConnections(world).routes(),
        *PublicWorkspaces(world).routes(),
        *PublicActors(world, "source").routes(),
        *PublicActors(world, "destination").routes(),
    ]
    config_routes: list[BaseRoute] = [
        Route("/health", _config_health, methods=["GET"]),
        Route("/applications/token", configuration(_config_token(gate)), methods=["POST"]),
        *ConfigJobs(world).routes(),
        *ConfigConnections(world).routes(),
        *ConfigSchema(world, discover).routes(),
    ]
    return [
        Mount("/api/public/v1", app=Router(public_routes)),
        Mount("/api/v1", app=Router(config_routes)),
        timeline_route(world),
        # Airbyte's UI too answers whatever it does not have with a start page, and never with 404.
        Route("/{rest:path}", _front_page, methods=["GET"]),
    ]


async def _beat(world: AirbyteWorld) -> None:
    """Lets due things happen while nobody asks, so that finished jobs are announced in time."""
    while True:
        world.settle()
        await asyncio.sleep(PULSE_SECONDS)


async def _named(work: Background) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("airbyte.background_failed")
        raise


async def _public_health(_: Request) -> Response:
    return PlainTextResponse("Successful operation")


async def _config_health(_: Request) -> Response:
    return JSONResponse({"available": True})


async def _front_page(_: Request) -> Response:
    pages = "a page for each connection at workspaces/ID/connections/ID/timeline, its APIs below api/"
    return PlainTextResponse(f"Airbyte (local stand-in): {pages}.\n")


def _public_token(gate: Gate) -> Callable[[Request], Awaitable[Response]]:
    async def token(request: Request) -> Response:
        granted = await _grant(gate, request)
        if granted is None:
            return known_exception(400, "Invalid Credentials", "commons.server.errors.BadRequestException")
        lifetime = int(gate.lifetime.total_seconds())
        return JSONResponse({"access_token": granted, "token_type": "Bearer", "expires_in": lifetime})

    return token


def _config_token(gate: Gate) -> Callable[[Request], Awaitable[Response]]:
    async def token(request: Request) -> Response:
        granted = await _grant(gate, request)
        if granted is None:
            return known_exception(400, "Invalid Credentials", "commons.server.errors.BadRequestException")
        return JSONResponse({"access_token": granted})

    return token


async def _grant(gate: Gate, request: Request) -> str | None:
    """Tokens are asked for in JSON or as a form; the public API's own field names are snake case in both."""
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        given = dict(parse_qsl((await request.body()).decode()))
    else:
        given = await json_object(request)
    return gate.issue(str(given.get("client_id", "")), str(given.get("client_secret", "")))
