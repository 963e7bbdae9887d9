"""The orchestrator's own tables that grow for ever, declared for the machinery that deletes the backend's audit rows.

Belongs here: which rows of which table are history, for how long it is of use, why the other tables need no such
declaration (a test wants every table of the ops store named once), and which table is archived under a name. Does not
belong here: deleting (`retention`), Dagster's own tables (`upkeep`). All go by age: the backend has the audit rows,
Dagster the runs, and nothing of the rest is evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

from adinsights_orchestration.audit_log.source import AUDIT_LOG, Archive, Place, Source
from adinsights_orchestration.errors import ConfigurationError

_A_YEAR = 400  # an incident or a month's figures are looked back at for a year, and somewhat longer
_EVIDENCE = 2_555  # what was done to the audit log: seven years, as the longest contract for its rows


def _own(
    table: str, time: str, keys: tuple[str, ...], window_days: int, only: str | None = None, name: str = ""
) -> Source:
    return Source(
        name=f"own_{name or table}",
        table=f"adinsights_ops.{table}",
        time=time,
        keys=keys,
        place=Place.OPS_STORE,
        archive=Archive.OFF,
        window_days=window_days,
        only=only,
    )


# In this order: a row goes after those that refer to it.
OWN_HISTORY: tuple[Source, ...] = (
    # What the backend was told is read again only while a job may still be told; of what it refused, a finding tells.
    _own("webhook_post", "decided_at", ("job_id",), 90, "t.state in ('posted', 'not_needed')"),
    _own("webhook_post", "decided_at", ("job_id",), _A_YEAR, "t.state = 'failed'", "webhook_post_failed"),
    # A connection's newest success says how old its data is, and what came after it how it fails: both stay, however
    # old. What lies before one is of use for the month's figures only.
    _own(
        "sync_job",
        "ended_at",
        ("job_id",),
        _A_YEAR,
        "t.report_state in ('reported', 'skipped')"
        " and exists (select from adinsights_ops.sync_job n where n.partition_key = t.partition_key"
        " and n.ended_at > t.ended_at and n.status = 'succeeded' and n.job_type in ('sync', 'refresh'))"
        " and not exists (select from adinsights_ops.webhook_post w where w.job_id = t.job_id)",
    ),
    _own(
        "sync_intent",
        "updated_at",
        ("id",),
        _A_YEAR,
        "t.state in ('succeeded', 'failed', 'cancelled', 'abandoned')"
        " and not exists (select from adinsights_ops.sync_job j where j.intent_id = t.id)",
    ),
    _own("report_batch", "finished_at", ("id",), 90, "t.finished_at is not null"),
    # What was delivered is in the backend. Rows of no tenant are the journal; refused ones are of tenants that left.
    _own("audit_entry", "delivered_at", ("id",), 90, "t.delivered_at is not null"),
    _own("audit_entry", "created_at", ("id",), _EVIDENCE, "t.tenant_id is null", "journal"),
    _own("audit_entry", "refused_at", ("id",), _EVIDENCE, "t.refused_at is not null", "audit_entry_refused"),
    _own("audit_run", "finished_at", ("id",), _EVIDENCE, "t.finished_at is not null"),
    _own("audit_hold", "ends_at", ("id",), _EVIDENCE),
    _own("finding", "cleared_at", ("id",), _A_YEAR, "t.cleared_at is not null"),
    _own(
        "dbt_invocation",
        "generated_at",
        ("invocation_id",),
        _A_YEAR,
        "not exists (select from adinsights_ops.dbt_model_result r where r.invocation_id = t.invocation_id)",
    ),
    # `since` is when it became well. Its count of episodes begins again with the next one, a year later.
    _own("alert_incident", "since", ("fingerprint",), _A_YEAR, "t.state = 'ok' and not t.told"),
    _own("alert_silence", "ends_at", ("id",), _A_YEAR),
)
# Those that go only once they are archived: nothing of our own, but a declaration is all that it takes.
ARCHIVED: tuple[Source, ...] = tuple(source for source in OWN_HISTORY if source.archive is Archive.REQUIRED)
# Pruned where they are written: rolled up first, or bounded by number and not by age.
PRUNED_BY_THEIR_OWN: Mapping[str, str] = {
    "registry_snapshot": "tenants.store",
    "topology": "topology.store",
    "health_sample": "health.samples",
    "alert_event": "alerting.bookkeeping.rows",
    "alert_outbox": "alerting.bookkeeping.upkeep",
}
# Bounded by what there is to know about, and not by time.
STANDING: Mapping[str, str] = {
    "registry_status": "one row",
    "partition_key": "one a connection that ever was: a key is never given again",
    "partition_connection": "one an Airbyte connection that ever was",
    "cursor": "one a reader",
    "webhook_told": "one a connection",
    "dbt_model_result": "one a model of the project",
    "connection_freshness": "one a connection that is served",
    "component_health": "one a component",
    "alert_group": "one a group: its number of the last message is never given again",
    "alert_channel": "one a channel",
    "audit_manifest": "as many as the archive has: it is their copy, and lives as long",
    "audit_day": "the same",
    "audit_chunk": "the same",
    "audit_vanished": "what is missing in a table, until it is back or somebody has answered for it",
    "audit_removal": "what left the archive, which is proven by it for as long as there is one",
    "audit_gone_object": "the same",
}


def archived_table(name: str) -> Source:
    """The table that is archived under a name; without one the audit log.

    Raises:
        ConfigurationError: None is.
    """
    tables = {source.name: source for source in (AUDIT_LOG, *ARCHIVED)}
    if (found := tables.get(name or AUDIT_LOG.name)) is None:
        raise ConfigurationError(
            f"no table is archived under the name {name!r}",
            place="--table",
            next_step=f"Archived: {', '.join(tables)}. Without --table it is the audit log.",
        )
    return found
