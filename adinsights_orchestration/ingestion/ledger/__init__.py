"""The ledger: what was wanted, what Airbyte did about it, and what of it Dagster knows.

Belongs here: every statement on `sync_intent`, `sync_job`, `cursor` and `report_batch`. Does not belong here: deciding
(`intents`, `due`), HTTP. Every change of state compares before it sets, so that doing it twice, or in two processes at
once, is the same as doing it once; work on many rows is one statement.
"""

from adinsights_orchestration.ingestion.ledger.agenda import (
    ObserveAgenda,
    TriggerAgenda,
    observe_agenda,
    trigger_agenda,
)
from adinsights_orchestration.ingestion.ledger.claims import claim, shares
from adinsights_orchestration.ingestion.ledger.intents import (
    Ask,
    Planned,
    activity,
    adopt_satisfied,
    apply_changes,
    ask,
    intents_by_id,
    intents_of_run,
    keep_waiting,
    plan,
    starting_since,
    unplanned,
)
from adinsights_orchestration.ingestion.ledger.job_rows import VANISHED, JobRow, Place, Placed
from adinsights_orchestration.ingestion.ledger.jobs import (
    jobs_by_id,
    jobs_without_details,
    note_missing,
    nothing_new,
    places_of,
    record_jobs,
    stale_running_jobs,
    touch_running,
)
from adinsights_orchestration.ingestion.ledger.links import (
    Ended,
    adopt_started,
    ended_intents,
    follow_running,
    hand_to_runs,
    known_jobs,
    own_jobs,
)
from adinsights_orchestration.ingestion.ledger.notes import (
    clear_notes,
    noted,
    open_notes,
)
from adinsights_orchestration.ingestion.ledger.positions import (
    Position,
    load_position,
    save_position,
)
from adinsights_orchestration.ingestion.ledger.reports import (
    Released,
    ReportAgenda,
    ReportBatch,
    begin_report_batch,
    finish_report_batch,
    jobs_of_run,
    mark_reported,
    newest_ended,
    open_report_batches,
    pending_reports,
    release_run,
    report_agenda,
    waiting_runs,
)
from adinsights_orchestration.ingestion.ledger.turns import take_turn

__all__ = [
    "VANISHED",
    "Ask",
    "Ended",
    "JobRow",
    "ObserveAgenda",
    "Place",
    "Placed",
    "Planned",
    "Position",
    "Released",
    "ReportAgenda",
    "ReportBatch",
    "TriggerAgenda",
    "activity",
    "adopt_satisfied",
    "adopt_started",
    "apply_changes",
    "ask",
    "begin_report_batch",
    "claim",
    "clear_notes",
    "ended_intents",
    "finish_report_batch",
    "follow_running",
    "hand_to_runs",
    "intents_by_id",
    "intents_of_run",
    "jobs_by_id",
    "jobs_of_run",
    "jobs_without_details",
    "keep_waiting",
    "known_jobs",
    "load_position",
    "mark_reported",
    "newest_ended",
    "note_missing",
    "noted",
    "nothing_new",
    "observe_agenda",
    "open_notes",
    "open_report_batches",
    "own_jobs",
    "pending_reports",
    "places_of",
    "plan",
    "record_jobs",
    "release_run",
    "report_agenda",
    "save_position",
    "shares",
    "stale_running_jobs",
    "starting_since",
    "take_turn",
    "touch_running",
    "trigger_agenda",
    "unplanned",
    "waiting_runs",
]
