"""Telling the backend about finished jobs: each at most once, and never one that it knows.

Belongs here: one round of reading what the backend knows, posting and recording. Does not belong here: deciding
(`webhook_rules`), the ledger's statements (`webhook_queue`), what a person should know (`webhook_outcomes`). Who sends
is a setting: Airbyte itself (then nothing happens here), the orchestrator (every job, in order, however many an outage
leaves behind), or Airbyte with the orchestrator behind it (`reconcile`: the newest job that the backend lacks after
some minutes, and a finding that it did). A post is committed to before it is made; a process that dies anywhere leaves
a row that says what may have happened, and the backend's own row says what did. A round ends within its clock's budget.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion import webhook_queue as queue
from adinsights_orchestration.ingestion.airbyte_models import TERMINAL_STATUSES
from adinsights_orchestration.ingestion.retry import RetryPolicy
from adinsights_orchestration.ingestion.webhook_outcomes import (
    SECRET_ERROR,
    Outcomes,
    WebhookReport,
    forget_departed,
    secret_was_just_refused,
)
from adinsights_orchestration.ingestion.webhook_rules import (
    SETTLE,
    VAIN_POSTS,
    WELL_WITHIN,
    FinishedJob,
    Known,
    Step,
    Verdict,
    by_connection,
    next_step,
    next_step_of_sole_sender,
    payload,
    settled_by,
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
select connection_id, coalesce(last_job_id::text, ''), coalesce(last_job_status::text, ''),
       greatest(last_job_created_at, last_job_updated_at)
  from integrations_airbyteconnection
 where tenant_id = any(%(tenants)s)
"""
# Airbyte notifies of successes and failures. A cancelled job is nothing that it missed, so only a sole sender tells it.
_MISSABLE = ("succeeded", "failed")
_PAGE = 500  # jobs that are considered at a time
_OF_ONE_CONNECTION = 20  # a backlog is told in turns, so that one connection's does not hold up all others
_CONNECT_SECONDS = 3.0
_POST_SHARE = 0.25  # of a tick's budget that one post may take


def reconcile(
    settings: Settings, store: OpsStore, client: httpx.Client, clock: TickClock, *, limit: int = 2000
) -> WebhookReport:
    """Runs one round: tells the backend what it is to be told by now, as far as the time allows.

    Args:
        settings: Sender, secret, deadlines; the backend's URL and database.
        store: The ledger.
        client: Makes the posts.
        clock: The moment of the round, and how long it may take.
        limit: Posts that one round makes.
    """
    if settings.webhook.sender is WebhookSender.AIRBYTE:
        with store.begin() as connection:  # what Airbyte tells from now on is never told by a later sender
            queue.sender_since(connection, settings.webhook.sender.value, clock.now())
        return WebhookReport()
    if settings.backend.webhook_secret is None:
        sender = settings.webhook.sender
        return WebhookReport(
            error=f"webhook.sender is {sender} without a secret; set ADINSIGHTS_BACKEND__WEBHOOK_SECRET"
        )
    with store.exclusive(LOCK) as mine:
        if not mine:
            return WebhookReport(busy=True)
        return _Round(settings, store, client, clock, limit).run()


@dataclass(slots=True)
class _Round:
    settings: Settings
    store: OpsStore
    client: httpx.Client
    clock: TickClock
    posts_left: int
    report: WebhookReport = field(default_factory=WebhookReport)
    stopped: bool = False
    in_vain: int = 0
    since: datetime = field(init=False)
    audience: list[queue.Audience] = field(init=False)
    reconciles: bool = field(init=False)
    policy: RetryPolicy = field(init=False)
    outcomes: Outcomes = field(init=False)
    post_timeout: httpx.Timeout = field(init=False)
    longest_post_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.clock.now()
        self.audience = [
            queue.Audience(each.connection_id, each.tenant_id, each.partition_key)
            for each in load_registry(self.store).connections
            if not each.retired
        ]
        self.reconciles = self.settings.webhook.sender is WebhookSender.RECONCILE
        self.policy = RetryPolicy.of(self.settings.ingestion)
        self.outcomes = Outcomes(self.report, self.policy, reconciles=self.reconciles)
        share = self.settings.ingestion.tick_budget_seconds * _POST_SHARE
        patience = min(self.settings.backend.request_timeout_seconds, share)
        self.post_timeout = httpx.Timeout(patience, connect=min(patience, _CONNECT_SECONDS))
        self.longest_post_seconds = patience + min(patience, _CONNECT_SECONDS)

    def run(self) -> WebhookReport:
        jobs = self._begin()
        if jobs:
            try:
                with BackendDatabase(self.settings.backend).session(self.clock.left) as session:
                    while jobs:
                        self._tell(session, jobs)
                        jobs = [] if self._is_over() else self._due()
            except BackendDatabaseError as error:
                self.report.error = str(error)
        if self.report.put_off or self.report.error or self._is_over():
            with self.store.begin() as connection:
                self.report.put_off = queue.count_due(connection, self._wanted())
        return self.report

    def _begin(self) -> list[FinishedJob]:
        now = self.clock.now()
        with self.store.begin() as connection:
            self.since = queue.sender_since(connection, self.settings.webhook.sender.value, now)
            forget_departed(connection, {each.partition_key for each in self.audience}, now)
            if secret_was_just_refused(connection, now):
                self.report.error = SECRET_ERROR
                return []
        return self._due()

    def _due(self) -> list[FinishedJob]:
        with self.store.begin() as connection:
            return queue.due_jobs(
                connection, self._wanted(), now=self.clock.now(), per_connection=_OF_ONE_CONNECTION, limit=_PAGE
            )

    def _wanted(self) -> queue.Wanted:
        grace = timedelta(minutes=self.settings.webhook.reconcile_after_minutes) if self.reconciles else timedelta()
        return queue.Wanted(
            audience=self.audience,
            statuses=self._statuses(),
            ended_by=self.clock.now() - grace,
            started_after=self.since - timedelta(hours=self.settings.ingestion.first_observation_hours),
            every=not self.reconciles,
        )

    def _statuses(self) -> Collection[str]:
        return _MISSABLE if self.reconciles else TERMINAL_STATUSES

    def _is_over(self) -> bool:
        # A post is begun only where even the slowest one ends in time: one that is cut short may have arrived or not.
        return self.stopped or not self.posts_left or self.clock.left() < self.longest_post_seconds

    def _tell(self, session: BackendSession, jobs: Sequence[FinishedJob]) -> None:
        known = _last_jobs(session, jobs)
        settled: list[tuple[FinishedJob, Step]] = []
        to_post: list[list[FinishedJob]] = []
        for connection_id, of_one in by_connection(jobs).items():
            rest = self._without_settled(of_one, known.get(connection_id), settled)
            if rest:
                to_post.append(rest)
            else:
                self._settle_history(connection_id, known.get(connection_id))
        self._settle(settled)
        for rest in to_post:
            if self._is_over():
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
        while rest and (step := self._step(rest[0], known)) is not Step.POST:
            settled.append((rest.pop(0), step))
            if self._holds(step):
                return []
        return rest

    def _step(self, job: FinishedJob, known: Known | None) -> Step:
        if self.reconciles:
            return next_step(job, known, self.policy)
        others_taken = False
        if job.attempts >= self.policy.max_attempts and job.tried_at is not None:
            with self.store.begin() as connection:
                others_taken = queue.taken_around(connection, job.tried_at, WELL_WITHIN)
        return next_step_of_sole_sender(job, known, self.policy, self.since, others_taken=others_taken)

    def _holds(self, step: Step) -> bool:
        """Whether the connection's later jobs wait with this one, since the backend cannot be told of any."""
        return not self.reconciles and step in (Step.UNREADABLE, Step.MISSING)

    def _settle_history(self, connection_id: UUID, known: Known | None) -> None:
        """Settles in one step what the backend is past: a ledger may hold months that Airbyte told it."""
        done = None if self.reconciles else settled_by(known, self.since)
        if done is not None:
            with self.store.begin() as connection:
                queue.settle_older(connection, connection_id, self._statuses(), done)

    def _post_in_order(self, session: BackendSession, jobs: Sequence[FinishedJob]) -> None:
        for position, job in enumerate(jobs):
            # What was read at the start of the round may be old by now, and Airbyte may have sent it meanwhile.
            step = self._step(job, _last_jobs(session, [job]).get(job.connection_id))
            waits = self._is_over()
            if step is not Step.POST:
                self._settle([(job, step)])
                waits = self._holds(step)
            elif not waits:
                waits = not self._post(job)
            if waits:
                self.report.put_off += len(jobs) - position
                return

    def _post(self, job: FinishedJob) -> bool:
        """Posts one job; returns whether its connection's next one may follow."""
        began = self.clock.now()
        settles = began + SETTLE + timedelta(seconds=self.longest_post_seconds)
        with self.store.begin() as connection:
            queue.mark_posting(connection, job, settles, began)
        attempted = replace(job, attempts=job.attempts + 1)
        verdict, said = self._send(attempted)
        with self.store.begin() as connection:
            self.outcomes.answered(connection, attempted, verdict, said, self.clock.now())
        self._heed(verdict)
        return verdict is Verdict.TAKEN

    def _heed(self, verdict: Verdict) -> None:
        """Ends the round where the next post would meet the same."""
        self.posts_left -= 1
        self.in_vain = 0 if verdict is Verdict.TAKEN else self.in_vain + 1
        everybody = (Verdict.UNREACHED, Verdict.SECRET_REFUSED, Verdict.BUSY)
        self.stopped = verdict in everybody or self.in_vain >= VAIN_POSTS

    def _send(self, job: FinishedJob) -> tuple[Verdict, str]:
        secret = self.settings.backend.webhook_secret
        assert secret is not None
        try:
            response = self.client.post(
                self.settings.backend.url.rstrip("/") + PATH,
                json=payload(job),
                headers={SECRET_HEADER: secret.get_secret_value()},
                timeout=self.post_timeout,
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
                self.outcomes.settled(connection, settled, self.clock.now())


_NEVER_SENT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)


def _last_jobs(session: BackendSession, jobs: Sequence[FinishedJob]) -> dict[UUID, Known]:
    """What the backend knows of the last job of each of these jobs' connections, through row level security."""
    tenants = sorted({job.tenant_id for job in jobs})
    with session.snapshot() as cursor:
        rows = rows_of_tenants(cursor, _TABLE, _LAST_JOBS, tenants, {})
    wanted = {job.connection_id for job in jobs}
    return {row[0]: Known(*row[1:]) for row in rows if row[0] in wanted}
