"""What became of telling the backend: rows settled or put off, findings opened and cleared, jobs counted.

Belongs here: recording an outcome in the caller's transaction, and the words for people. Does not belong here: deciding
(`webhook_rules`), posting (`webhook`). Three findings: a job that Airbyte's webhook missed (until a later job of the
connection gets through by itself), a connection of which the backend cannot be told (until it can), a refused secret.
What cannot be told is settled where Airbyte is the sender, since its next job says more; a sole sender keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.ingestion import webhook_queue as queue
from adinsights_orchestration.ingestion.retry import RetryPolicy
from adinsights_orchestration.ingestion.webhook_rules import (
    AFTER_REFUSED_SECRET,
    LOOK_AGAIN,
    FinishedJob,
    State,
    Step,
    Verdict,
    try_again_at,
)
from adinsights_orchestration.ops_store.findings import clear_finding, open_finding, open_findings

MISSED = "webhook_missed"
UNTOLD = "webhook_untold"
SECRET_REFUSED = "webhook_secret_refused"  # noqa: S105
_BACKEND = "backend"
_SECRET_ADVICE = (
    "Make ADINSIGHTS_BACKEND__WEBHOOK_SECRET the backend's AIRBYTE_WEBHOOK_SECRET; until then one post is tried every"
    f" {AFTER_REFUSED_SECRET.seconds // 60} minutes."
)
SECRET_ERROR = f"the backend's webhook refuses the secret. {_SECRET_ADVICE}"
# Only behind the check of the secret does the backend look for the connection.
_SECRET_WAS_ACCEPTED = (Verdict.TAKEN, Verdict.UNKNOWN_CONNECTION)
_REFUSALS = (Verdict.UNKNOWN_CONNECTION, Verdict.REFUSED)
_WHY_UNTOLD: Mapping[Step | Verdict, tuple[str, str]] = {
    Step.UNREADABLE: (
        "the backend's last job id of this connection is not a number",
        "Look at the connection's last_job_id in the backend.",
    ),
    Step.MISSING: (
        "the backend has no such connection",
        "Compare the registry with the backend's Airbyte connections.",
    ),
    Step.GIVE_UP: (
        "every attempt to tell the backend failed",
        "See the backend's log for the webhook's errors; the connection's next job tries again.",
    ),
    Verdict.UNCERTAIN: (
        "the backend takes no post of this connection",
        "See the backend's log for the webhook's errors; the connection's jobs wait, and follow in order.",
    ),
    Verdict.UNKNOWN_CONNECTION: (
        "the backend's webhook does not know this connection (404)",
        "Check ADINSIGHTS_BACKEND__URL, and that the connection exists in that backend.",
    ),
    Verdict.REFUSED: (
        "the backend's webhook refused the job",
        "Check ADINSIGHTS_BACKEND__URL (a redirect is not followed) and the backend's version.",
    ),
}


@dataclass(slots=True)
class WebhookReport:
    """What a round did, in jobs.

    Attributes:
        posted: The backend has them by our post, those included whose reply was lost the last time.
        not_needed: The backend has them, or a newer one, without us.
        put_off: They wait for a later round, those included that this one had no time to look at.
        failed: They will not be told; each is a finding.
        error: Why the round could not go on, with the next step.
        busy: Another round was under way, and this one did nothing.
    """

    posted: int = 0
    not_needed: int = 0
    put_off: int = 0
    failed: int = 0
    error: str | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Records outcomes of one round.

    Args:
        report: Counts them.
        policy: When a post is tried again.
        reconciles: Whether Airbyte is the sender, so that a post of ours means that it missed a job.
    """

    report: WebhookReport
    policy: RetryPolicy
    reconciles: bool

    def settled(self, connection: sa.Connection, settled: Sequence[tuple[FinishedJob, Step]], now: datetime) -> None:
        """Records jobs that need no post, or no further one."""
        posted = [job for job, step in settled if step is Step.POSTED]
        without_us = [job for job, step in settled if step is Step.NOT_NEEDED]
        queue.settle(connection, posted, State.POSTED, now)
        queue.settle(connection, without_us, State.NOT_NEEDED, now)
        self.report.posted += len(posted)
        self.report.not_needed += len(without_us)
        _clear_about(connection, UNTOLD, (*posted, *without_us), now)
        _clear_about(connection, MISSED, (job for job in without_us if not job.attempts), now)
        for job in posted if self.reconciles else ():
            open_finding(connection, MISSED, f"{job.partition_key} job {job.job_id}", _missed_detail(job), now)
        for job, step in settled:
            if step in _WHY_UNTOLD:
                self._untold(connection, job, step, "", now)

    def answered(self, connection: sa.Connection, job: FinishedJob, verdict: Verdict, said: str, now: datetime) -> None:
        """Records what came of a post; `job` counts it among its attempts."""
        if verdict in _SECRET_WAS_ACCEPTED:
            clear_finding(connection, SECRET_REFUSED, _BACKEND, now)
        if verdict is Verdict.TAKEN:
            self.settled(connection, [(job, Step.POSTED)], now)
        elif verdict in _REFUSALS and self.reconciles:
            self._untold(connection, job, verdict, said, now)
        else:
            self._put_off(connection, job, verdict, said, now)

    def _put_off(self, connection: sa.Connection, job: FinishedJob, verdict: Verdict, said: str, now: datetime) -> None:
        counted = job.attempts if verdict is Verdict.UNCERTAIN or verdict in _REFUSALS else job.attempts - 1
        queue.put_off(connection, job, counted, try_again_at(job, verdict, now, self.policy), said, now)
        self.report.put_off += 1
        in_vain = not self.reconciles and verdict is Verdict.UNCERTAIN and counted >= self.policy.max_attempts
        if verdict in _REFUSALS or in_vain:
            self._open_untold(connection, job, verdict, said, now)
        if verdict is Verdict.SECRET_REFUSED:
            detail = {"reason": f"the backend's webhook refuses the secret ({said})", "next_step": _SECRET_ADVICE}
            open_finding(connection, SECRET_REFUSED, _BACKEND, detail, now)
            self.report.error = SECRET_ERROR

    def _untold(
        self, connection: sa.Connection, job: FinishedJob, why: Step | Verdict, said: str, now: datetime
    ) -> None:
        reason = self._open_untold(connection, job, why, said, now)
        if self.reconciles or why is Step.GIVE_UP:
            queue.settle(connection, [job], State.FAILED, now, reason)
            self.report.failed += 1
        else:
            queue.put_off(connection, job, job.attempts, now + LOOK_AGAIN, reason, now)
            self.report.put_off += 1

    def _open_untold(
        self, connection: sa.Connection, job: FinishedJob, why: Step | Verdict, said: str, now: datetime
    ) -> str:
        problem, advice = _WHY_UNTOLD[why]
        reason = f"{problem} ({said})" if said else problem
        detail = {"partition_key": job.partition_key, "job_id": job.job_id, "reason": reason, "next_step": advice}
        open_finding(connection, UNTOLD, job.partition_key, detail, now)
        return reason


def forget_departed(connection: sa.Connection, partition_keys: Collection[str], now: datetime) -> None:
    """Clears what was found about connections that the registry does not have any more."""
    for finding in open_findings(connection, UNTOLD):
        if finding.subject not in partition_keys:
            clear_finding(connection, UNTOLD, finding.subject, now)


def secret_was_just_refused(connection: sa.Connection, now: datetime) -> bool:
    """Whether the backend refused the secret so lately that no post should be tried."""
    refused = open_findings(connection, SECRET_REFUSED)
    return any(finding.last_seen_at > now - AFTER_REFUSED_SECRET for finding in refused)


def _missed_detail(job: FinishedJob) -> dict[str, Any]:
    return {
        "partition_key": job.partition_key,
        "job_id": job.job_id,
        "ended_at": job.ended_at.isoformat(),
        "reason": "the backend had not heard of this finished job, and was told",
        "next_step": "Check Airbyte's webhook notifications of the workspace: that they are on, their URL and secret.",
    }


def _clear_about(connection: sa.Connection, kind: str, jobs: Iterable[FinishedJob], now: datetime) -> None:
    partitions = {job.partition_key for job in jobs}
    for finding in open_findings(connection, kind) if partitions else ():
        if finding.detail.get("partition_key") in partitions:
            clear_finding(connection, kind, finding.subject, now)
