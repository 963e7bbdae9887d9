"""The loopback service: everything of the local stack that speaks HTTP, as one application on one port.

Belongs here: mounting the ad platforms, Airbyte, the backend and the knobs, the index page, and running it all as a
process. Does not belong here: any of those parts. `python -m adinsights_orchestration.local.service` is how the stack
starts it.
"""

from __future__ import annotations

import html
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.local import environment, mail, seed
from adinsights_orchestration.local.ad_platforms.accounts import WorldSize
from adinsights_orchestration.local.ad_platforms.app import create_app as create_ads_app
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.airbyte.app import Background, create_airbyte_app
from adinsights_orchestration.local.airbyte.auth import Gate
from adinsights_orchestration.local.airbyte.connector_executor import ConnectorExecutor, declared_catalog
from adinsights_orchestration.local.airbyte.scheduler import Scheduler
from adinsights_orchestration.local.airbyte.store import PostgresWorldStore
from adinsights_orchestration.local.airbyte.webhook import WebhookSender
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.backend import prepare_backend
from adinsights_orchestration.local.backend.app import BackendConfig, create_backend_app
from adinsights_orchestration.local.connectors.sync import ConnectorRuntime
from adinsights_orchestration.local.front import create_frontend_app, create_superset_app
from adinsights_orchestration.local.knobs import Knobs, create_knobs_app
from adinsights_orchestration.local.ping import create_ping_app
from adinsights_orchestration.local.serving import bind, server_config
from adinsights_orchestration.local.settings import LocalSettings, load_local_settings
from adinsights_orchestration.local.slack.app import create_slack_app
from adinsights_orchestration.local.slack.world import AREA as SLACK_AREA
from adinsights_orchestration.local.slack.world import SLACK_KNOBS, SlackWorld
from adinsights_orchestration.logs import configure_logging, get_logger
from adinsights_orchestration.settings import load_settings

HOST = "127.0.0.1"
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Where the service finds its databases; the stack's own when made of its settings."""

    backend_dsn: str
    warehouse_dsn: str

    @classmethod
    def of_stack(cls, local: LocalSettings) -> ServiceAddresses:
        """The embedded Postgres' databases."""
        return cls(environment.database_url(local, "backend"), environment.database_url(local, "warehouse"))


def create_service(
    local: LocalSettings,
    addresses: ServiceAddresses | None = None,
    *,
    clock: Clock = utc_now,
    mail_port: int | None = None,
) -> Starlette:
    """Builds the whole service; its databases must be up, and the backend's tables made.

    Args:
        local: The local stack's settings.
        addresses: Databases; the stack's own when None.
        clock: What time it is, for every part.
        mail_port: Where mail is taken; nowhere when None.
    """
    where = addresses or ServiceAddresses.of_stack(local)
    knobs = Knobs()
    ads = World(local.seed, size=_size(local), clock=clock)
    airbyte = _airbyte(local, where, knobs, ads, clock)
    backend = create_backend_app(_backend_config(local, where), knobs, clock=clock)
    fronts = {"/frontend": create_frontend_app(knobs), "/superset": create_superset_app(knobs)}
    fronts |= {"/slack": create_slack_app(SlackWorld(knobs.declare(SLACK_AREA, SLACK_KNOBS), clock))}
    fronts |= {"/ping": create_ping_app(knobs, clock=clock)}
    parts = {"/ads": create_ads_app(ads, knobs), "/airbyte": airbyte, "/backend": backend, **fronts}
    mailbox = mail.Mailbox(mail.declare(knobs))
    parts["/mail"] = mail.create_mail_app(mailbox)
    control = create_knobs_app(knobs)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        # Starlette runs no lifespan of mounted applications.
        async with airbyte.router.lifespan_context(airbyte):
            with nullcontext() if mail_port is None else _taking_mail(mailbox, mail_port):
                yield

    return Starlette(
        routes=[
            Route("/", _index, methods=["GET"]),
            Route("/knobs", _Rooted(control), methods=["GET", "DELETE"]),
            Mount("/knobs", app=control),
            *(Mount(path, app=app) for path, app in parts.items()),
        ],
        lifespan=life,
    )


def main() -> int:
    """Runs the service until it is told to stop; returns the exit code."""
    local = load_local_settings()
    configure_logging(load_settings(), "local-service")
    try:
        listener = bind(HOST, local.service_port)
        prepare_backend(local, ServiceAddresses.of_stack(local).backend_dsn)
        app = create_service(local, mail_port=local.mail_port)
    except psycopg.OperationalError as error:
        _log.error("the service needs the stack's Postgres", reason=str(error).strip(), next_step="adinsights local up")
        return 2
    _log.info("the service listens", url=environment.service_url(local))
    with listener:
        uvicorn.Server(server_config(app)).run(sockets=[listener])
    return 0


@contextmanager
def _taking_mail(mailbox: mail.Mailbox, port: int) -> Iterator[None]:
    """Takes mail while the block runs; where the port is taken the other parts go on without it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(mail.serving(mailbox, port))
        except OSError as error:
            _log.error("no mail is taken", port=port, reason=error.strerror, next_step="ADINSIGHTS_LOCAL_SMTP_PORT")
        yield


class _Rooted:
    """A mounted application's root, without the slash that mounting asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "path": "/", "root_path": ""}, receive, send)


def _size(local: LocalSettings) -> WorldSize:
    return WorldSize(local.accounts, local.campaigns, local.groups, local.ads, local.days)


def _airbyte(local: LocalSettings, where: ServiceAddresses, knobs: Knobs, ads: World, clock: Clock) -> Starlette:
    """Airbyte with real connectors, its state in the warehouse, its webhook posts to the backend beside it."""
    world = AirbyteWorld(knobs, clock=clock, store=PostgresWorldStore(where.warehouse_dsn))
    seed.seed_airbyte(world, ads, local, declared_catalog)
    runtime = ConnectorRuntime(local.connectors_python, where.warehouse_dsn, local.state_dir / "connectors")
    retry_delay = timedelta(seconds=local.sync_retry_seconds)
    executor = ConnectorExecutor(world, runtime, slots=local.sync_slots, retry_delay=retry_delay)

    async def work() -> None:
        try:
            await executor.run()
        finally:
            runtime.close()

    background: list[Background] = [work]
    if local.airbyte_posts_webhook:
        url = f"{environment.service_url(local)}/backend/api/airbyte/webhook/"
        background.append(WebhookSender(world, url, seed.WEBHOOK_SECRET).run)
    if local.airbyte_schedules:
        background.append(Scheduler(world).run)
    gate = Gate(seed.AIRBYTE_CLIENT_ID, seed.AIRBYTE_CLIENT_SECRET, clock=clock)
    return create_airbyte_app(
        world, knobs, gate=gate, clock=clock, background=tuple(background), discover=executor.discover
    )


def _backend_config(local: LocalSettings, where: ServiceAddresses) -> BackendConfig:
    return BackendConfig(
        dsn=where.backend_dsn,
        warehouse_dsn=where.warehouse_dsn,
        run_results_path=local.state_dir / "run_results.json",
        webhook_secret=seed.WEBHOOK_SECRET,
        service_api_key=seed.SERVICE_API_KEY,
        alerts_api_key=seed.ALERTS_API_KEY,
        dbt_schema=local.dbt_schema,
    )


_LINKS = {
    "Airbyte": ("/airbyte/api/public/v1/health", "/airbyte/api/v1/health"),
    "Backend": (
        "/backend/api/health/",
        "/backend/api/health/airbyte/",
        "/backend/api/health/dbt/",
        "/backend/metrics/app/",
    ),
    "Frontend and Superset": ("/frontend/", "/superset/health"),
    "Ad platforms": tuple(f"/ads/{connection.provider.value}" for connection in seed.connections()),
    "Slack": ("/slack/",),
    "Received mail": ("/mail/", "/mail/messages"),
    "Fault knobs": ("/knobs",),
}


async def _index(_: Request) -> Response:
    sections = "".join(
        f"<h2>{html.escape(title)}</h2><ul>{''.join(_link(path) for path in dict.fromkeys(paths))}</ul>"
        for title, paths in _LINKS.items()
    )
    return HTMLResponse(_PAGE.format(sections=sections))


def _link(path: str) -> str:
    return f'<li><a href="{path}">{html.escape(path)}</a></li>'


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ADinsights local service</title></head>
<body style="font-family: sans-serif; max-width: 44rem; margin: 2rem auto">
<h1>ADinsights local service</h1>
<p>Stand-ins for what cannot run on a laptop. Knobs make them fail: <code>PUT /knobs/airbyte/down</code> with the
body <code>true</code>, <code>DELETE /knobs/airbyte/down</code> to end it, <code>DELETE /knobs</code> to end all.</p>
{sections}</body></html>"""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AdinsightsError as problem:
        sys.exit(str(problem))
