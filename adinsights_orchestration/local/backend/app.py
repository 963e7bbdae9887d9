"""The backend's HTTP endpoints.

Belongs here: routes, keys and the backend's fault knobs. Does not belong here: SQL (`queries`, `webhook`) and
judgement (`health`). Handlers that touch a database are plain functions, which run beside the event loop.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.local.backend import health, queries, webhook
from adinsights_orchestration.local.backend.metrics import CountedServer, RequestMetrics
from adinsights_orchestration.local.knobs import Knob, KnobArea, Knobs
from adinsights_orchestration.local.serving import drop_connection
from adinsights_orchestration.local.web_faults import WEB_KNOBS, FaultyWeb

AREA = "backend"
BACKEND_KNOBS = (
    *WEB_KNOBS,
    Knob("webhook_drop_next", 0, "That many webhook posts are lost: the connection closes and nothing is written."),
    Knob("webhook_error_next", 0, "That many webhook posts are answered 500 and nothing is written."),
    Knob("health_override", {}, "Component (airbyte, dbt) -> status: its health endpoint reports that status."),
    Knob("snapshot_age_minutes", {}, "Tenant id -> minutes: the dashboards' data of that tenant is so old."),
    Knob("metrics_error", False, "The metrics are answered 500."),
)
_MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What the backend is configured with.

    Args:
        dsn: Its database, as the tables' owner.
        warehouse_dsn: The warehouse.
        run_results_path: Where its dbt health endpoint reads.
        webhook_secret: What posts to the webhook must carry.
        service_api_key: What `/api/metrics/combined/` and `/api/audit-logs/` ask for.
        alerts_api_key: What `/alerts/run` asks for.
        dbt_schema: Schema of the marts.
    """

    dsn: str
    warehouse_dsn: str
    run_results_path: Path
    webhook_secret: str
    service_api_key: str
    alerts_api_key: str
    dbt_schema: str = "analytics"


def create_backend_app(config: BackendConfig, knobs: Knobs, *, clock: Clock = utc_now) -> Starlette:
    """Builds the backend; its requests are counted from now on."""
    area = knobs.declare(AREA, BACKEND_KNOBS)
    metrics = RequestMetrics()
    return Starlette(
        routes=_Endpoints(config, area, metrics, clock).routes(),
        middleware=[Middleware(CountedServer, metrics=metrics), Middleware(FaultyWeb, knobs=area)],
    )


class _Endpoints:
    def __init__(self, config: BackendConfig, knobs: KnobArea, metrics: RequestMetrics, clock: Clock) -> None:
        self._config = config
        self._knobs = knobs
        self._metrics = metrics
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("/api/health/", self._health),
            Route("/api/health/airbyte/", self._airbyte_health),
            Route("/api/health/dbt/", self._dbt_health),
            Route("/api/airbyte/webhook/", self._webhook, methods=["POST"]),
            Route("/api/metrics/combined/", self._combined),
            Route("/api/audit-logs/", self._audit_logs),
            Route("/metrics/app/", self._prometheus),
            Route("/alerts/run", self._run_alerts, methods=["POST"]),
        ]

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def _airbyte_health(self, _: Request) -> Response:
        try:
            state = queries.sync_state(self._config.dsn)
            status = health.airbyte_status(state.last, configured=state.configured, now=self._clock())
        except psycopg.Error:
            state, status = queries.SyncState(True, None, []), "status_store_unavailable"
        status = self._overridden("airbyte", status)
        body = health.airbyte_body(status, state.last, state.jobs, configured=state.configured)
        return JSONResponse(body, status_code=health.HTTP_CODES[status])

    def _dbt_health(self, _: Request) -> Response:
        path = self._config.run_results_path
        try:
            text = path.read_text() if path.exists() else None
        except (OSError, UnicodeDecodeError):
            text = ""
        body = health.dbt_body(text, str(path), self._clock())
        body["status"] = self._overridden("dbt", body["status"])
        return JSONResponse(body, status_code=health.HTTP_CODES[body["status"]])

    def _overridden(self, component: str, status: str) -> str:
        told = self._knobs.get("health_override").get(component, status)
        return told if told in health.HTTP_CODES else status

    async def _webhook(self, request: Request) -> Response:
        if self._knobs.take("webhook_drop_next"):
            drop_connection(request.scope)
            return Response(status_code=500)
        if self._knobs.take("webhook_error_next"):
            return JSONResponse({"detail": "A server error occurred."}, status_code=500)
        if not _same(request.headers.get("X-Airbyte-Webhook-Secret", ""), self._config.webhook_secret):
            return JSONResponse({"detail": "invalid webhook secret"}, status_code=403)
        try:
            body = json.loads(await request.body())
            connection_id, job = UUID(str(body["connectionId"])), webhook.read_job(body["job"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"detail": "the body is not a finished job"}, status_code=400)
        try:
            await run_in_threadpool(webhook.record, self._config.dsn, connection_id, job, self._clock())
        except webhook.UnknownConnectionError:
            return JSONResponse({"detail": "unknown connection"}, status_code=404)
        return JSONResponse({"status": "accepted"})

    def _combined(self, request: Request) -> Response:
        if not self._has_key(request, self._config.service_api_key):
            return _forbidden()
        if request.query_params.get("source", "warehouse") != "warehouse":
            return JSONResponse({"detail": "unknown source"}, status_code=400)
        tenant = _uuid(request.query_params.get("tenant_id") or request.headers.get("X-Tenant-ID"))
        if tenant is None or not queries.tenant_exists(self._config.dsn, tenant):
            return JSONResponse({"detail": "tenant_id must name a tenant"}, status_code=400)
        built_at, totals = queries.dashboard_snapshot(self._config.warehouse_dsn, self._config.dbt_schema, tenant)
        aged = self._knobs.get("snapshot_age_minutes").get(str(tenant))
        if aged is not None:
            built_at = self._clock() - timedelta(minutes=aged)
        shown: dict[str, Any] = {
            "tenant_id": str(tenant),
            "source": "warehouse",
            "snapshot_generated_at": built_at.isoformat() if built_at else None,
            "campaign": {"summary": totals},
        }
        return JSONResponse(shown)

    def _audit_logs(self, request: Request) -> Response:
        if not self._has_key(request, self._config.service_api_key):
            return _forbidden()
        given = request.query_params
        try:
            limit, offset = min(int(given.get("limit", 50)), _MAX_PAGE), int(given.get("offset", 0))
        except ValueError:
            return JSONResponse({"detail": "limit and offset must be numbers"}, status_code=400)
        wanted = queries.AuditFilter(
            given.get("action"), given.get("resource_type"), _uuid(given.get("tenant_id")), limit, offset
        )
        return JSONResponse({"results": queries.audit_rows(self._config.dsn, wanted)})

    async def _prometheus(self, _: Request) -> Response:
        if self._knobs.get("metrics_error"):
            return JSONResponse({"detail": "A server error occurred."}, status_code=500)
        return PlainTextResponse(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _run_alerts(self, request: Request) -> Response:
        if not self._has_key(request, self._config.alerts_api_key):
            return _forbidden()
        return JSONResponse({"status": "evaluated", "evaluated_at": self._clock().isoformat(), "fired": []})

    def _has_key(self, request: Request, key: str) -> bool:
        return _same(request.headers.get("X-API-Key", ""), key)


def _forbidden() -> Response:
    return JSONResponse({"detail": "Authentication credentials were not provided."}, status_code=403)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
