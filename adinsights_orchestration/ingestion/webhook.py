"""Telling the backend about finished jobs: each at most once, and never one that it knows.

Belongs here: one round of reading what the backend knows, posting and recording. Does not belong here: deciding
(`webhook_rules`), the ledger's statements (`webhook_queue`), what a person should know (`webhook_outcomes`). Who sends
is a setting: Airbyte itself (then nothing happens here), the orchestrator (every job, in order), or Airbyte with the
orchestrator behind it (`reconcile`: the newest job that the backend lacks after some minutes, and a finding that it
did). A post is committed to before it is made; a process that dies anywhere leaves a row that says what may have
happened, and the backend's own row says what did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import httpx

from adinsights_orchestration.backend.database import (
    BackendDatabase,
    BackendDatabaseError,
    BackendSession,
    rows_of_tenants,
)
from adinsights_orchestration.ingestion import webhook_queue as queue
from adinsights_orchestration.ingestion.airbyte_models import TERMINAL_STATUSES
from adinsights_orchestration.ingestion.retry import RetryPolicy
from adinsights_orchestration.ingestion.webhook_outcomes import (
    SECRET_ERROR,
    Outcomes,
    WebhookReport,
    secret_was_just_refused,
)
from adinsights_orchestration.ingestion.webhook_rules import (
    SETTLE,
    FinishedJob,
    Known,
    Step,
    Verdict,
    by_connection,
    next_step,
    payload,
    superseded,
    verdict_on,
)
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings, WebhookSender
from adinsights_orchestration.tenants.store import load_registry

LOCK = "webhook"
PATH = "/api/airbyte/webhook/"
SECRET_HEADER = "X-Airbyte-Webhook-Secret"  # noqa: S105  (its name)
_TABLE = "integrations_airbyteconnection"
_LAST_JOBS = """
select connection_id, coalesce(last_job_id::text, ''), coalesce(last_job_status::text, '')
  from integrations_airbyteconnection
 where tenant_id = any(%(tenants)s)
"""
# Airbyte notifies of successes and failures. A cancelled job is nothing that it missed, so only a sole sender tells it.
_MISSABLE = ("succeeded", "failed")
_MOST_OF_ONE_CONNECTION = 5  # a sole sender that was away tells so many of a connection's last jobs, in order


def reconcile(
    settings: Settings,
    store: OpsStore,
    client: httpx.Client,
    now: datetime,
    *,
    limit: int = 500,
    monotonic: Callable[[], float] = time.monotonic,
) -> WebhookReport:
    """Runs one round: tells the backend what it is to be told by now.

    Args:
        settings: Sender, secret, deadlines; the backend's URL and database.
        store: The ledger.
        client: Makes the posts.
        now: The moment at which the round starts.
        limit: Jobs that one round considers.
        monotonic: Measures the round against its budget.
    """
    if settings.webhook.sender is WebhookSender.AIRBYTE:
        return WebhookReport()
    if settings.backend.webhook_secret is None:
        sender = settings.webhook.sender
        return WebhookReport(
            error=f"webhook.sender is {sender} without a secret; set ADINSIGHTS_BACKEND__WEBHOOK_SECRET"
        )
    with store.exclusive(LOCK) as mine:
        if not mine:
            return WebhookReport(busy=True)
        return _Round(settings, store, client, now, monotonic).run(limit)


@dataclass(slots=True)
class _Round:
    settings: Settings
    store: OpsStore
    client: httpx.Client
    now: datetime
    monotonic: Callable[[], float]
    report: WebhookReport = field(default_factory=WebhookReport)
    stopped: bool = False
    started: float = field(init=False)
    reconciles: bool = field(init=False)
    policy: RetryPolicy = field(init=False)
    outcomes: Outcomes = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.monotonic()
        self.reconciles = self.settings.webhook.sender is WebhookSender.RECONCILE
        self.policy = RetryPolicy.of(self.settings.ingestion)
        self.outcomes = Outcomes(self.report, self.policy, reconciles=self.reconciles)

    def run(self, limit: int) -> WebhookReport:
        jobs = self._due(limit)
        if jobs:
            try:
                with BackendDatabase(self.settings.backend).session() as session:
                    self._tell(session, jobs)
            except BackendDatabaseError as error:
                self.report.error = str(error)
        return self.report

    def _due(self, limit: int) -> list[FinishedJob]:
        audience = [
            queue.Audience(each.connection_id, each.tenant_id, each.partition_key)
            for each in load_registry(self.store).connections
            if not each.retired
        ]
        grace = timedelta(minutes=self.settings.webhook.reconcile_after_minutes) if self.reconciles else timedelta()
        with self.store.begin() as connection:
            if secret_was_just_refused(connection, self.now):
                self.report.error = SECRET_ERROR
                return []
            return queue.due_jobs(
                connection,
                audience,
                statuses=_MISSABLE if self.reconciles else TERMINAL_STATUSES,
                ended_by=self.now - grace,
                now=self.now,
                per_connection=1 if self.reconciles else _MOST_OF_ONE_CONNECTION,
                limit=limit,
            )

    def _tell(self, session: BackendSession, jobs: Sequence[FinishedJob]) -> None:
        known = _last_jobs(session, jobs)
        settled: list[tuple[FinishedJob, Step]] = []
        to_post: list[list[FinishedJob]] = []
        for connection_id, of_one in by_connection(jobs).items():
            rest = self._without_settled(of_one, known.get(connection_id), settled)
            if rest:
                to_post.append(rest)
        self._settle(settled)
        for rest in to_post:
            if self.stopped or self._elapsed() > self.settings.ingestion.tick_budget_seconds:
                self.report.put_off += len(rest)
            else:
                self._post_in_order(session, rest)

    def _without_settled(
        self, jobs: list[FinishedJob], known: Known | None, settled: list[tuple[FinishedJob, Step]]
    ) -> list[FinishedJob]:
        """Moves what needs no post to `settled` and returns the rest, oldest first."""
        older = jobs[:-1] if self.reconciles else []
        settled += [(job, superseded(next_step(job, known, self.policy))) for job in older]
        rest = jobs[len(older) :]
        while rest and (step := next_step(rest[0], known, self.policy)) is not Step.POST:
            settled.append((rest.pop(0), step))
        return rest

    def _post_in_order(self, session: BackendSession, jobs: Sequence[FinishedJob]) -> None:
        for position, job in enumerate(jobs):
            # What was read at the start of the round may be old by now, and Airbyte may have sent it meanwhile.
            step = next_step(job, _last_jobs(session, [job]).get(job.connection_id), self.policy)
            if step is not Step.POST:
                self._settle([(job, step)])
            elif not self._post(job):
                self.report.put_off += len(jobs) - position - 1
                return

    def _post(self, job: FinishedJob) -> bool:
        """Posts one job; returns whether its connection's next one may follow."""
        began = self._moment()
        settles = began + SETTLE + timedelta(seconds=self.settings.backend.request_timeout_seconds)
        with self.store.begin() as connection:
            queue.mark_posting(connection, job, settles, began)
        attempted = replace(job, attempts=job.attempts + 1)
        verdict, said = self._send(attempted)
        with self.store.begin() as connection:
            self.outcomes.answered(connection, attempted, verdict, said, self._moment())
        # The next post would meet the same: nobody there, everybody turned away, or asked to come later.
        self.stopped = verdict in (Verdict.UNREACHED, Verdict.SECRET_REFUSED, Verdict.BUSY)
        return verdict is Verdict.TAKEN

    def _send(self, job: FinishedJob) -> tuple[Verdict, str]:
        secret = self.settings.backend.webhook_secret
        assert secret is not None
        try:
            response = self.client.post(
                self.settings.backend.url.rstrip("/") + PATH,
                json=payload(job),
                headers={SECRET_HEADER: secret.get_secret_value()},
                timeout=self.settings.backend.request_timeout_seconds,
                follow_redirects=False,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, *_NEVER_SENT) as error:
            return Verdict.UNREACHED, type(error).__name__  # its text may quote the header
        except httpx.HTTPError as error:
            return Verdict.UNCERTAIN, type(error).__name__
        return verdict_on(response.status_code), f"HTTP {response.status_code}"

    def _settle(self, settled: Sequence[tuple[FinishedJob, Step]]) -> None:
        if settled:
            with self.store.begin() as connection:
                self.outcomes.settled(connection, settled, self._moment())

    def _elapsed(self) -> float:
        return self.monotonic() - self.started

    def _moment(self) -> datetime:
        return self.now + timedelta(seconds=self._elapsed())


_NEVER_SENT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)


def _last_jobs(session: BackendSession, jobs: Sequence[FinishedJob]) -> dict[UUID, Known]:
    """What the backend knows of the last job of each of these jobs' connections, through row level security."""
    tenants = sorted({job.tenant_id for job in jobs})
    with session.snapshot() as cursor:
        rows = rows_of_tenants(cursor, _TABLE, _LAST_JOBS, tenants, {})
    wanted = {job.connection_id for job in jobs}
    return {row[0]: Known(row[1], row[2]) for row in rows if row[0] in wanted}
