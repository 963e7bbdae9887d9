"""What a waiting run is told: how far things are, and how each connection's sync ended.

Belongs here: these values and their words. Does not belong here: finding them out (`wait`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adinsights_orchestration.ingestion.intents import Intent, IntentState
from adinsights_orchestration.ingestion.ledger import JobRow
from adinsights_orchestration.tenants.model import Connection


class OutcomeStatus(StrEnum):
    """How it ended for one connection."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_STARTED = "not_started"
    LEFT_RUNNING = "left_running"


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """How one connection's sync ended, as far as this run is concerned.

    Attributes:
        connection: Which connection.
        status: How it ended; `left_running` when the run stopped waiting and Airbyte goes on.
        job: The ledger's row, where there is a job.
        reason: Why it did not succeed, in Airbyte's own words where it has any; empty for success.
        owned: Whether this run has to report the job: nobody else will unless the run dies.
    """

    connection: Connection
    status: OutcomeStatus
    job: JobRow | None
    reason: str
    owned: bool

    @property
    def partition_key(self) -> str:
        """The connection's partition."""
        return self.connection.partition_key

    @property
    def succeeded(self) -> bool:
        """Whether the sync did what was wanted."""
        return self.status is OutcomeStatus.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a waiting run is: counts of connections, and what it is waiting for when it cannot go on.

    `problem` is what is wrong; `held` is why connections that wait are not started yet although nothing is.
    """

    waiting: int
    starting: int
    running: int
    succeeded: int
    failed: int
    seconds: float
    problem: str = ""
    held: str = ""

    @property
    def total(self) -> int:
        """All connections of the run."""
        return self.waiting + self.starting + self.running + self.succeeded + self.failed

    def describe(self) -> str:
        """One line for a log."""
        parts = [f"{self.succeeded + self.failed} of {self.total} done", f"{self.running} running"]
        parts += [f"{self.starting} starting"] if self.starting else []
        parts += [f"{self.waiting} waiting"] if self.waiting else []
        parts += [f"{self.failed} failed"] if self.failed else []
        why = "; ".join(part for part in (self.problem, self.held) if part)
        return ", ".join(parts) + f" after {self.seconds:.0f} s" + (f" ({why})" if why else "")


_BY_STATE = {
    IntentState.SUCCEEDED: OutcomeStatus.SUCCEEDED,
    IntentState.FAILED: OutcomeStatus.FAILED,
    IntentState.CANCELLED: OutcomeStatus.CANCELLED,
    IntentState.ABANDONED: OutcomeStatus.NOT_STARTED,
    IntentState.PLANNED: OutcomeStatus.NOT_STARTED,
    IntentState.STARTING: OutcomeStatus.LEFT_RUNNING,
    IntentState.RUNNING: OutcomeStatus.LEFT_RUNNING,
}


def outcome(connection: Connection, intent: Intent, job: JobRow | None, run_id: str, why: str = "") -> SyncOutcome:
    """The outcome of an intent as it stands.

    Args:
        connection: The intent's connection.
        intent: Over, or left by a run that stops.
        job: The job that it followed.
        run_id: The waiting run.
        why: Why the run stopped, where the intent is not over.
    """
    status = _BY_STATE[intent.state]
    owned = job is not None and job.run_id == run_id and job.report_state == "pending"
    return SyncOutcome(connection, status, job, _reason(status, intent, job, why), owned)


def _reason(status: OutcomeStatus, intent: Intent, job: JobRow | None, why: str) -> str:
    if status is OutcomeStatus.SUCCEEDED:
        return ""
    if status is OutcomeStatus.LEFT_RUNNING:
        followed = f"job {intent.job_id} goes on in Airbyte" if intent.job_id else "its start was not answered yet"
        return f"{why}; {followed}" if why else followed
    if status is OutcomeStatus.NOT_STARTED:
        return "; ".join(part for part in (why, intent.last_error) if part) or "it was not started"
    return job.reason if job is not None and job.reason else intent.last_error or "Airbyte gave no reason"
