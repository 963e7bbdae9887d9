"""Taking jobs into the ledger, and what follows for the intents: adopted, over, to be tried again.

Belongs here: one transaction's worth of work on jobs that were read from Airbyte, whoever read them. Does not belong
here: reading them (`observe`, `wait`). Everything may be absorbed twice.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.ingestion import intents, ledger
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob
from adinsights_orchestration.ingestion.deps import RegistryView
from adinsights_orchestration.ingestion.intents import Change, FindingKind, IntentState, Rules
from adinsights_orchestration.ingestion.ledger import Ended, Place, Placed

MOST_UNKNOWN = 200  # connections of a shared Airbyte that are not ours, for which a finding is kept


@dataclass(slots=True)
class Absorbed:
    """What taking jobs in changed.

    Attributes:
        finished: Jobs that are over and were not known to be.
        running: Jobs that still run.
        adopted: Lost starts whose job was found.
        retried: Intents whose job failed and that will start another one.
        unknown: Jobs of connections that the registry does not know.
        unknown_connections: Those connections.
        forgotten: Those of them that no finding is kept for: their jobs until now are not taken in once they are known.
    """

    finished: int = 0
    running: int = 0
    adopted: int = 0
    retried: int = 0
    unknown: int = 0
    unknown_connections: set[UUID] = field(default_factory=set)
    forgotten: set[UUID] = field(default_factory=set)


def absorb(
    connection: sa.Connection,
    jobs: Collection[AirbyteJob],
    view: RegistryView,
    rules: Rules,
    rng: random.Random,
    now: datetime,
) -> Absorbed:
    """Writes jobs to the ledger and moves the intents that follow from them, in the caller's transaction."""
    ledger.take_turn(connection)
    result = Absorbed()
    places = _places(connection, jobs, view)
    placed = [Placed(job, places[job.connection_id]) for job in jobs if job.connection_id in places]
    result.finished = len(ledger.record_jobs(connection, placed, now))
    result.running = sum(1 for one in placed if not one.job.status.terminal)
    strangers = [job for job in jobs if job.connection_id not in places]
    result.unknown, result.unknown_connections = len(strangers), {job.connection_id for job in strangers}
    result.forgotten = _note_strangers(connection, strangers, now)
    recovered = [one.place.partition_key for one in placed if one.job.status.terminal and one.job.type.brings_data]
    ledger.clear_notes(connection, (FindingKind.VANISHED, FindingKind.UNREADABLE), recovered, now)
    result.adopted = ledger.adopt_started(connection, now - rules.search_after, now)
    result.retried = finish_intents(connection, rules, rng, now)
    return result


def finish_intents(connection: sa.Connection, rules: Rules, rng: random.Random, now: datetime) -> int:
    """Moves every intent whose job is over; returns how many will start another job."""
    changes = [_after(ended, rules, rng, now) for ended in ledger.ended_intents(connection)]
    ledger.apply_changes(connection, changes, now)
    gone = {c.after.partition_key: _vanished_detail(c) for c in changes if c.finding is FindingKind.VANISHED}
    ledger.open_notes(connection, FindingKind.VANISHED, gone, now)
    return sum(1 for change in changes if change.after.state is IntentState.PLANNED)


def _after(ended: Ended, rules: Rules, rng: random.Random, now: datetime) -> Change:
    if ended.status is None:
        return intents.vanished(ended.intent, rules, now, rng)
    return intents.finished(ended.intent, ended.status, ended.failure, rules, now, rng)


def _vanished_detail(change: Change) -> Mapping[str, Any]:
    return {
        "job_id": change.before.job_id,
        "connection_id": str(change.before.connection_id),
        "next_step": "See whether jobs were deleted in Airbyte, or its database was restored from a backup.",
    }


def _places(connection: sa.Connection, jobs: Iterable[AirbyteJob], view: RegistryView) -> Mapping[UUID, Place]:
    """Where the jobs' connections belong: what the registry says, else what it said when they were in it."""
    wanted = {job.connection_id for job in jobs}
    here = {key: view.places[key] for key in wanted if key in view.places}
    return here | dict(ledger.places_of(connection, wanted - here.keys()))


def _note_strangers(connection: sa.Connection, jobs: Collection[AirbyteJob], now: datetime) -> set[UUID]:
    """Keeps a finding per unknown connection, with the moment from which its jobs are to be read once it is known.

    Returns those for which there was no room: with thousands of other people's connections in view a person would find
    nothing among the findings, and each job of theirs would be a write.
    """
    if not jobs:
        return set()
    open_notes = ledger.noted(connection, FindingKind.UNKNOWN_CONNECTION)
    details: dict[str, dict[str, Any]] = {}
    for job in sorted(jobs, key=lambda one: one.job_id):
        subject = str(job.connection_id)
        known = details.get(subject) or dict(open_notes.get(subject, {}))
        if job.job_id > known.get("newest_job_id", 0):
            since = known.get("since") or job.created_at.isoformat()
            details[subject] = {"newest_job_id": job.job_id, "since": since, "next_step": _TO_MEND}
    room = MOST_UNKNOWN - len(open_notes)
    fresh = [subject for subject in details if subject not in open_notes][: max(room, 0)]
    kept = {subject: details[subject] for subject in details if subject in open_notes or subject in fresh}
    ledger.open_notes(connection, FindingKind.UNKNOWN_CONNECTION, kept, now)
    return {UUID(subject) for subject in details.keys() - kept.keys()}


_TO_MEND = "Add the connection to the registry; its jobs since then are taken in as soon as it is there."
