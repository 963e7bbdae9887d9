"""The orchestrator's own tables that grow for ever, declared for the machinery that deletes the backend's audit rows.

Belongs here: which rows of which table are history, and for how long it is of use. Does not belong here: deleting
(`retention`), Dagster's own tables (`upkeep`), samples of health, which are rolled up and pruned by their own domain.
All go by age: the backend has the audit rows, Dagster the runs, and nothing of the rest is evidence.
"""

from __future__ import annotations

from adinsights_orchestration.audit_log.source import Archive, Place, Source


def _own(table: str, time: str, keys: tuple[str, ...], window_days: int, only: str | None = None) -> Source:
    return Source(
        name=f"own_{table}",
        table=f"adinsights_ops.{table}",
        time=time,
        keys=keys,
        place=Place.OPS_STORE,
        archive=Archive.OFF,
        window_days=window_days,
        only=only,
    )


OWN_HISTORY: tuple[Source, ...] = (
    # What the backend was told is read again only while a job may still be told.
    _own("webhook_post", "decided_at", ("job_id",), 90, "t.state in ('posted', 'not_needed')"),
    # Rows of no tenant are the journal, which stays as long as audit rows at least; refused ones are kept for a person.
    _own("audit_entry", "delivered_at", ("id",), 90, "t.delivered_at is not null"),
    _own("finding", "cleared_at", ("id",), 400, "t.cleared_at is not null"),
    _own(
        "dbt_invocation",
        "generated_at",
        ("invocation_id",),
        400,
        "not exists (select from adinsights_ops.dbt_model_result r where r.invocation_id = t.invocation_id)",
    ),
    _own("audit_run", "finished_at", ("id",), 2_555, "t.finished_at is not null"),
)
