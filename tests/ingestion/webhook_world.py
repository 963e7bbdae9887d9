"""A backend that answers the webhook over real HTTP with faults on demand, and a process that dies at any step."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion.webhook import reconcile
from adinsights_orchestration.ingestion.webhook_outcomes import WebhookReport
from adinsights_orchestration.local.backend.webhook import UnknownConnectionError, read_job, record
from adinsights_orchestration.ops_store.findings import Finding, open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job, webhook_post
from adinsights_orchestration.settings import IngestionSettings, Settings, WebhookSender, WebhookSettings
from adinsights_orchestration.tenants.refresh import refresh
from tests.backend.backend_tables import Backend, backend_settings
from tests.conftest import HANG_SECONDS

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "canary-webhook-secret"
# What a client waits for an answer that it shall not get; for all others it has the product's own deadline.
IMPATIENCE_SECONDS = 0.05


class WebhookServer:
    """The backend's webhook endpoint on loopback.

    `faults` holds what happens to the next posts: `error` (500, nothing done), `error_after` (500, done), `drop`
    (connection closed, nothing done), `drop_after` (closed, done), `late` (done after the client gave up), `busy`
    (429), `hold` (waits for `release`, then does it), or an HTTP status as text; empty, it does what it should. Jobs in
    `poison` are answered 500 whenever they come.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.faults: deque[str] = deque()
        self.poison: set[int] = set()
        self.posts: list[dict[str, Any]] = []
        self.taken: list[tuple[UUID, int]] = []
        self.held, self.release = threading.Event(), threading.Event()
        self._came, self._given_up = threading.Semaphore(0), threading.Semaphore(0)
        self._at_work = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def counts(self) -> Counter[int]:
        """How often each job was taken."""
        return Counter(job_id for _, job_id in self.taken)

    def take(self, body: dict[str, Any]) -> int:
        """Does what the backend does with a job, and returns the status of its answer."""
        job = read_job(body["job"])
        try:
            record(self.backend.dsn, UUID(body["connectionId"]), job, datetime.now(UTC))
        except UnknownConnectionError:
            return 404
        self.taken.append((UUID(body["connectionId"]), int(job.id)))
        return 200 if job.status == "succeeded" else 202

    def wait_until_idle(self) -> None:
        """Waits until no request is at work, those that their client gave up included."""
        deadline = time.monotonic() + HANG_SECONDS
        while self._at_work and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self._at_work

    def close(self) -> None:
        """Stops it."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, body: dict[str, Any], secret: str | None) -> int | None:
        """The status of the answer; None for a connection that is closed without one."""
        self.posts.append(body)
        fault = self.faults.popleft() if self.faults else ""
        if fault.isdecimal():
            return int(fault)
        if secret != SECRET:
            return 403
        if body["job"]["id"] in self.poison:
            return 500
        if fault in ("error", "drop", "busy"):
            return {"error": 500, "drop": None, "busy": 429}[fault]
        if fault == "late":
            self._came.release()
            assert self._given_up.acquire(timeout=HANG_SECONDS)
        if fault == "hold":
            self.held.set()
            self.release.wait(HANG_SECONDS)
        status = self.take(body)
        return {"error_after": 500, "drop_after": None}.get(fault, status)

    @property
    def is_late_next(self) -> bool:
        """Whether the next post is done after its client gave up."""
        return bool(self.faults) and self.faults[0] == "late"

    def given_up(self) -> None:
        """Tells it that the client of a late post is gone, once that post has come."""
        assert self._came.acquire(timeout=HANG_SECONDS)
        self._given_up.release()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Counts a request while it is answered."""
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1

    def _handler(server: WebhookServer) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with server.at_work():
                    assert self.path == "/api/airbyte/webhook/"
                    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                    status = server.answer(body, self.headers.get("X-Airbyte-Webhook-Secret"))
                self.close_connection = True
                if status is not None:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Says nothing."""

        return Handler


class KilledError(BaseException):
    """The process died here."""


@dataclass
class Killer:
    """Counts the steps of a process, and kills it at one of them."""

    at: int = -1
    steps: int = 0

    def step(self) -> None:
        """One step; the last one of a process that is to die at it."""
        self.steps += 1
        if self.steps - 1 == self.at:
            raise KilledError


class MortalStore(OpsStore):
    """An ops store whose process may die before a transaction, before its commit and after it."""

    killer = Killer()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction with three places to die."""
        self.killer.step()
        with super().begin() as connection:
            yield connection
            self.killer.step()
        self.killer.step()


class MortalTransport(httpx.HTTPTransport):
    """An HTTP transport whose process may die before a request is sent and after its answer came.

    Where the server will be late it gives up soon, and says so: who is first is not left to how fast a machine is.
    """

    killer = Killer()

    def __init__(self, server: WebhookServer) -> None:
        super().__init__(verify=False)
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """A request with two places to die."""
        self.killer.step()
        response = self._impatiently(request) if self._server.is_late_next else super().handle_request(request)
        self.killer.step()
        return response

    def _impatiently(self, request: httpx.Request) -> httpx.Response:
        request.extensions["timeout"]["read"] = IMPATIENCE_SECONDS
        try:
            return super().handle_request(request)
        except httpx.ReadTimeout:
            self._server.given_up()
            raise


@dataclass
class World:
    """A backend with its webhook, an ops store with a registry and a ledger, and a clock."""

    backend: Backend
    server: WebhookServer
    store: MortalStore
    sender: WebhookSender = WebhookSender.RECONCILE
    dsn: str = ""
    secret: str | None = SECRET
    url: str = ""
    max_attempts: int = 5
    now: datetime = START
    tenant: UUID = field(default_factory=lambda: UUID(int=1))
    jobs: int = 1000

    def __post_init__(self) -> None:
        self.backend.execute(
            "insert into accounts_tenant values (%s, 'Acme', now()) on conflict do nothing", self.tenant
        )

    def settings(self) -> Settings:
        """The settings of a round."""
        return Settings(
            backend=backend_settings(
                self.dsn or self.backend.dsn,
                url=self.url or self.server.url,
                webhook_secret=SecretStr(self.secret) if self.secret else None,
            ),
            webhook=WebhookSettings(sender=self.sender),
            ingestion=IngestionSettings(retry_max_attempts=self.max_attempts),
        )

    def connect(self, name: str = "Meta", **columns: Any) -> UUID:
        """Adds a connection, reads the registry, and returns Airbyte's id of it."""
        row = self.backend.add_connection(self.tenant, name, **columns)
        with_backend_address = self.settings().model_copy(update={"backend": backend_settings(self.backend.dsn)})
        assert refresh(with_backend_address, self.store, self.now).error is None
        found = self.backend.execute("select connection_id from integrations_airbyteconnection where id = %s", row)
        return UUID(str(found[0][0]))

    def finish(self, connection_id: UUID, status: str = "succeeded", job_type: str = "sync", **columns: Any) -> int:
        """Adds a job that ended now to the ledger, as observed, and returns its id."""
        self.jobs += 1
        values = {
            "job_id": self.jobs,
            "connection_id": connection_id,
            "partition_key": f"acme/{connection_id}",
            "provider": "meta",
            "tenant_id": self.tenant,
            "job_type": job_type,
            "status": status,
            "started_by": "external",
            "started_at": self.now - timedelta(minutes=1),
            "ended_at": self.now,
            "first_observed_at": self.now,
            "observed_at": self.now,
            **columns,
        }
        with OpsStore.begin(self.store) as connection:
            connection.execute(sa.insert(sync_job).values(**values))
        return self.jobs

    def airbyte_tells(self, connection_id: UUID, job_id: int) -> None:
        """Airbyte's own webhook reaches the backend."""
        with OpsStore.begin(self.store) as connection:
            status = connection.execute(sa.select(sync_job.c.status).where(sync_job.c.job_id == job_id)).scalar_one()
        stamp = int(self.now.timestamp())
        job = read_job({"id": job_id, "status": status, "createdAt": stamp, "updatedAt": stamp})
        record(self.backend.dsn, connection_id, job, self.now)

    def round(
        self, *, minutes: float = 0, kill_at: int = -1, seconds_a_post: float = 0, limit: int = 2000
    ) -> WebhookReport:
        """Lets time pass, then runs one round.

        Args:
            minutes: What passes before it.
            kill_at: The step at which its process dies.
            seconds_a_post: How long each post takes by the round's own clock.
            limit: Posts that it may make.
        """
        self.now += timedelta(minutes=minutes)
        killer = Killer(kill_at)
        transport = MortalTransport(self.server)
        self.store.killer = transport.killer = killer
        try:
            with httpx.Client(transport=transport) as client:
                clock = TickClock(self.now, 40, seconds=lambda: seconds_a_post * len(self.server.posts))
                return reconcile(self.settings(), self.store, client, clock, limit=limit)
        finally:
            self.steps = killer.steps
            self.store.killer = Killer()
            self.server.wait_until_idle()

    def rounds_until_quiet(self) -> None:
        """Runs healthy rounds, time passing, until none has anything left to do."""
        self.server.faults.clear()
        reports = [self.round(minutes=20)]
        while reports[-1] != WebhookReport():
            assert len(reports) < 30, f"never quiet: {reports[-1]}"
            reports.append(self.round(minutes=20))

    def last_job(self, connection_id: UUID) -> str:
        """The last job of a connection that the backend knows."""
        row = self.backend.execute(
            "select last_job_id from integrations_airbyteconnection where connection_id = %s", connection_id
        )
        return str(row[0][0])

    def states(self) -> dict[int, str]:
        """The state of every job's telling."""
        with OpsStore.begin(self.store) as connection:
            rows = connection.execute(sa.select(webhook_post.c.job_id, webhook_post.c.state))
            return {row.job_id: row.state for row in rows}

    def findings(self, kind: str) -> list[Finding]:
        """The open findings of a kind."""
        with OpsStore.begin(self.store) as connection:
            return list(open_findings(connection, kind))

    steps: int = 0


@contextmanager
def standing(backend: Backend, ops_store: OpsStore, **about: Any) -> Iterator[World]:
    """A world inside the block; nothing has happened in it yet."""
    server = WebhookServer(backend)
    store = MortalStore(ops_store._settings)
    yield World(backend, server, store, **about)
    server.close()
    store.dispose()
