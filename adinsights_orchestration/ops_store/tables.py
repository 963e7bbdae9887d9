"""Tables of the ops store (schema `adinsights_ops`), as SQLAlchemy Core.

Belongs here: shapes, keys and what each row means. Does not belong here: who writes when (each domain's own edge
module). Migrations in `migrations/` bring a database to this shape; a test holds the two together. All moments are
timestamptz.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

SCHEMA = "adinsights_ops"
metadata = sa.MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)


def moment(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    """A column of a moment."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


# One row per distinct registry content; the newest is the last good snapshot.
registry_snapshot = sa.Table(
    "registry_snapshot",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    moment("taken_at", nullable=False),
)

# One row in all (id = 1): how the last read went, so that a stale snapshot says so.
registry_status = sa.Table(
    "registry_status",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, sa.ForeignKey(registry_snapshot.c.id)),
    moment("attempted_at", nullable=False),
    moment("succeeded_at"),
    sa.Column("error", sa.Text),
)

# A partition key is frozen at first sight and names a connection for ever, whatever it is called later.
partition_key = sa.Table(
    "partition_key",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("row_id", UUID(as_uuid=True), nullable=False, unique=True),
    sa.Column("tenant_id", UUID(as_uuid=True), nullable=False),
    sa.Column("connection_name", sa.Text, nullable=False),
    moment("first_seen_at", nullable=False),
    moment("retired_at"),
)

# Every Airbyte connection id that a partition has had; a re-created connection adds one and keeps the history.
partition_connection = sa.Table(
    "partition_connection",
    metadata,
    sa.Column("connection_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("key", sa.Text, sa.ForeignKey(partition_key.c.key), nullable=False, index=True),
    moment("first_seen_at", nullable=False),
)

# What the orchestrator wants to run: committed before the POST, so that no POST is ever forgotten or repeated.
# States: planned -> starting -> running -> succeeded | failed | cancelled; starting -> planned (never reached Airbyte);
# failed attempt with attempts left -> planned (with not_before); abandoned: given up or superseded.
# `attempt` counts jobs asked for; `refusals` the times since then that Airbyte took none (down, busy, rate limited).
sync_intent = sa.Table(
    "sync_intent",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("connection_id", UUID(as_uuid=True), nullable=False),
    sa.Column("partition_key", sa.Text, nullable=False),
    moment("due_slot", nullable=False),
    sa.Column("reason", sa.Text, nullable=False),  # schedule | manual
    sa.Column("job_type", sa.Text, nullable=False, server_default="sync"),  # sync | clear | refresh
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("refusals", sa.Integer, nullable=False, server_default="0"),
    sa.Column("job_id", sa.BigInteger),
    sa.Column("run_id", sa.Text),  # the Dagster run that a person waits in
    sa.Column("requested_by", sa.Text),
    moment("not_before"),
    moment("posted_at"),
    moment("created_at", nullable=False),
    moment("updated_at", nullable=False),
    sa.Column("last_error", sa.Text),
    sa.UniqueConstraint("connection_id", "due_slot"),
    sa.CheckConstraint(
        "state in ('planned','starting','running','succeeded','failed','cancelled','abandoned')", name="state"
    ),
    sa.CheckConstraint("state <> 'running' or job_id is not null", name="running_has_job"),
)
sa.Index(
    "ix_sync_intent_open",
    sync_intent.c.state,
    sync_intent.c.not_before,
    postgresql_where=sync_intent.c.state.in_(("planned", "starting", "running")),
)
sa.Index(
    "ix_sync_intent_busy",
    sync_intent.c.connection_id,
    postgresql_where=sync_intent.c.state.in_(("starting", "running")),
)
sa.Index("ix_sync_intent_job", sync_intent.c.job_id)
sa.Index("ix_sync_intent_run", sync_intent.c.run_id, postgresql_where=sync_intent.c.run_id.is_not(None))

# The ledger: one row per Airbyte job, whoever started it.
# report_state: none (still running) -> pending -> reporting -> reported; `skipped` where there is nothing to report.
sync_job = sa.Table(
    "sync_job",
    metadata,
    sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("connection_id", UUID(as_uuid=True), nullable=False),
    sa.Column("partition_key", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("tenant_id", UUID(as_uuid=True), nullable=False),
    sa.Column("job_type", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("started_by", sa.Text, nullable=False),  # orchestrator | external
    sa.Column("intent_id", sa.BigInteger, sa.ForeignKey(sync_intent.c.id)),
    sa.Column("run_id", sa.Text),  # the run that waits for it and reports it
    moment("started_at", nullable=False),
    moment("ended_at"),
    sa.Column("duration_seconds", sa.Float),
    sa.Column("rows_synced", sa.BigInteger),
    sa.Column("bytes_synced", sa.BigInteger),
    sa.Column("streams", JSONB),  # [{"name", "namespace", "rows", "bytes"}]
    sa.Column("attempts", sa.Integer),  # null until the configuration API's details were read
    sa.Column("failure_origin", sa.Text),
    sa.Column("failure_type", sa.Text),
    sa.Column("failure_message", sa.Text),
    moment("airbyte_updated_at"),
    moment("first_observed_at", nullable=False),
    moment("end_observed_at"),  # when it was first seen to be over, by our own clock
    moment("observed_at", nullable=False),
    moment("missing_since"),  # when Airbyte first did not know it; null once it does again
    sa.Column("report_state", sa.Text, nullable=False, server_default="none"),
    sa.Column("report_batch", UUID(as_uuid=True)),
    moment("reported_at"),
    sa.CheckConstraint("report_state in ('none','pending','reporting','reported','skipped')", name="report_state"),
)
sa.Index("ix_sync_job_partition_ended", sync_job.c.partition_key, sync_job.c.ended_at.desc())
# The newest by our own clock: a job counts from when it ended, never from later than when that was seen.
sa.Index(
    "ix_sync_job_partition_over",
    sync_job.c.partition_key,
    sa.func.least(sync_job.c.ended_at, sync_job.c.end_observed_at).desc(),
    sync_job.c.job_id.desc(),
    postgresql_where=sync_job.c.ended_at.is_not(None),
)
sa.Index("ix_sync_job_connection_started", sync_job.c.connection_id, sync_job.c.started_at.desc())
sa.Index(
    "ix_sync_job_unreported",
    sync_job.c.provider,
    sync_job.c.ended_at,
    postgresql_where=sync_job.c.report_state.in_(("pending", "reporting")),
)
sa.Index("ix_sync_job_running", sync_job.c.observed_at, postgresql_where=sync_job.c.report_state == "none")
sa.Index(
    "ix_sync_job_without_details",
    sync_job.c.ended_at,
    postgresql_where=sa.and_(sync_job.c.attempts.is_(None), sync_job.c.report_state != "none"),
)
# What changed since a moment, for whoever follows the ledger.
sa.Index("ix_sync_job_observed", sync_job.c.observed_at)
sa.Index("ix_sync_job_reported", sync_job.c.reported_at, postgresql_where=sync_job.c.reported_at.is_not(None))
# Syncs that brought nothing are few; alerts look for connections that have such ones of late.
_synced = sa.and_(sync_job.c.status == "succeeded", sync_job.c.job_type == "sync")
sa.Index("ix_sync_job_empty", sync_job.c.observed_at, postgresql_where=sa.and_(sync_job.c.rows_synced == 0, _synced))
# A connection's newest syncs that brought rows (1), and those that brought none (0), however many lie between.
sa.Index(
    "ix_sync_job_partition_brought",
    sync_job.c.partition_key,
    sa.func.least(sync_job.c.rows_synced, sa.text("1")),
    sync_job.c.ended_at.desc(),
    postgresql_where=sa.and_(_synced, sync_job.c.rows_synced.is_not(None), sync_job.c.ended_at.is_not(None)),
)
# Whoever deletes an old intent must know that no job refers to it.
sa.Index("ix_sync_job_intent", sync_job.c.intent_id, postgresql_where=sync_job.c.intent_id.is_not(None))
sa.Index("ix_sync_job_run", sync_job.c.run_id, postgresql_where=sync_job.c.run_id.is_not(None))

# One row per batch of materializations handed to Dagster: after a crash between the two databases' commits, the event
# log is searched from `event_cursor` for what did arrive, so that nothing is reported twice and nothing is lost.
report_batch = sa.Table(
    "report_batch",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("event_cursor", sa.BigInteger, nullable=False),
    moment("started_at", nullable=False),
    moment("finished_at"),
)

# Where each reader of a foreign log stands, and since when the sender of webhooks is who it is.
cursor = sa.Table(
    "cursor",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", JSONB, nullable=False),
    moment("updated_at", nullable=False),
)

# What the backend was, or need not be, told about a finished job. `posting`: an attempt may be under way, or waits for
# `not_before`; whether one arrived is read from the backend, never assumed.
webhook_post = sa.Table(
    "webhook_post",
    metadata,
    sa.Column("job_id", sa.BigInteger, sa.ForeignKey(sync_job.c.job_id), primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),  # posting | posted | not_needed | failed
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    moment("not_before"),
    moment("decided_at"),
    sa.Column("last_error", sa.Text),
    sa.CheckConstraint("state in ('posting','posted','not_needed','failed')", name="state"),
)
sa.Index("ix_webhook_post_open", webhook_post.c.not_before, postgresql_where=webhook_post.c.state == "posting")

# How far the telling of a connection's jobs is settled: older jobs are never considered again.
webhook_told = sa.Table(
    "webhook_told",
    metadata,
    sa.Column("connection_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("job_id", sa.BigInteger, nullable=False),
    moment("started_at", nullable=False),
)

# Something a person should know; open until `cleared_at`. One row per kind and subject while it is open.
finding = sa.Table(
    "finding",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", JSONB, nullable=False),
    moment("first_seen_at", nullable=False),
    moment("last_seen_at", nullable=False),
    moment("cleared_at"),
)
sa.Index(
    "uq_finding_open", finding.c.kind, finding.c.subject, unique=True, postgresql_where=finding.c.cleared_at.is_(None)
)

# Audit rows that the orchestrator owes the backend: journalled here first, delivered with the same id, so none is lost
# or doubled.
# `refused_at`: the backend can never take it (its tenant was deleted); kept here, no longer owed.
audit_entry = sa.Table(
    "audit_entry",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("tenant_id", UUID(as_uuid=True)),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("resource_type", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("detail", JSONB, nullable=False),
    moment("created_at", nullable=False),
    moment("delivered_at"),
    moment("refused_at"),
    sa.Column("last_error", sa.Text),
)
sa.Index(
    "ix_audit_entry_owed",
    audit_entry.c.created_at,
    postgresql_where=sa.and_(audit_entry.c.delivered_at.is_(None), audit_entry.c.refused_at.is_(None)),
)

# One row per dbt command that Dagster ran.
dbt_invocation = sa.Table(
    "dbt_invocation",
    metadata,
    sa.Column("invocation_id", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("full_refresh", sa.Boolean, nullable=False),
    sa.Column("completed", sa.Boolean, nullable=False),  # false: killed before dbt wrote its results
    sa.Column("succeeded", sa.Boolean, nullable=False),  # of the build so far: a second pass never is, its first failed
    moment("generated_at", nullable=False),
    moment("started_at", nullable=False),
    sa.Column("elapsed_seconds", sa.Float, nullable=False),
    sa.Column("models", sa.Integer, nullable=False),
    sa.Column("artifact", JSONB),  # the metadata of dbt's run results, for publishing
)
sa.Index("ix_dbt_invocation_generated", dbt_invocation.c.generated_at.desc())

# The latest result of every model of the project: partial builds are merged here.
dbt_model_result = sa.Table(
    "dbt_model_result",
    metadata,
    sa.Column("unique_id", sa.Text, primary_key=True),
    sa.Column("invocation_id", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("message", sa.Text),
    sa.Column("execution_seconds", sa.Float, nullable=False),
    sa.Column("result", JSONB, nullable=False),  # dbt's own result object, for publishing
    moment("generated_at", nullable=False),
    moment("built_at"),  # the last result that did not fail or skip it
)

# How fresh each connection is, and until when that holds without news: an evaluation looks only at rows whose time
# has come and at connections with new jobs. `shown_*`: what Dagster's check was last told (materializing clears it).
connection_freshness = sa.Table(
    "connection_freshness",
    metadata,
    sa.Column("partition_key", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("tenant_id", UUID(as_uuid=True), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    moment("since", nullable=False),
    moment("expected_since", nullable=False),  # since when this schedule and standing hold
    sa.Column("expectation", sa.Text, nullable=False),  # the schedule and standing themselves
    moment("valid_until"),
    moment("deadline"),  # from when it is late without a success
    moment("last_success_at"),
    sa.Column("last_job_id", sa.BigInteger),
    sa.Column("last_job_status", sa.Text),
    sa.Column("last_job_reason", sa.Text),
    moment("last_job_ended_at"),
    moment("running_since"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # since the last success
    sa.Column("usual_seconds", sa.Float),  # 95th percentile of its own durations
    sa.Column("materialized_job", sa.BigInteger),  # the newest job that Dagster was told of as a materialization
    sa.Column("shown_job", sa.BigInteger),
    sa.Column("shown_state", sa.Text),
    moment("evaluated_at", nullable=False),
)
sa.Index("ix_connection_freshness_valid_until", connection_freshness.c.valid_until)
sa.Index(
    "ix_connection_freshness_unshown",
    connection_freshness.c.provider,
    postgresql_where=sa.or_(
        connection_freshness.c.shown_state.is_distinct_from(connection_freshness.c.state),
        connection_freshness.c.shown_job.is_distinct_from(connection_freshness.c.materialized_job),
    ),
)

# The state that each component is in now; one row a component.
component_health = sa.Table(
    "component_health",
    metadata,
    sa.Column("component", sa.Text, primary_key=True),
    sa.Column("health", sa.Text, nullable=False),  # ok | degraded | down | unknown
    sa.Column("state", sa.Text, nullable=False),  # the component's own word
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("facts", JSONB, nullable=False),
    sa.Column("latency_ms", sa.Float),
    sa.Column("value", sa.Float),
    moment("since", nullable=False),
    moment("last_ok_at"),
    moment("checked_at", nullable=False),
)

# Readings, counted: a row per component and minute, rolled up to hours and days, pruned.
health_sample = sa.Table(
    "health_sample",
    metadata,
    sa.Column("component", sa.Text, primary_key=True),
    sa.Column("resolution", sa.Text, primary_key=True),  # minute | hour | day
    sa.Column("at", sa.DateTime(timezone=True), primary_key=True),  # its start
    sa.Column("readings", sa.Integer, nullable=False),
    sa.Column("ok", sa.Integer, nullable=False),
    sa.Column("degraded", sa.Integer, nullable=False),
    sa.Column("down", sa.Integer, nullable=False),
    sa.Column("unknown", sa.Integer, nullable=False),
    sa.Column("latency_sum_ms", sa.Float, nullable=False),
    sa.Column("latency_count", sa.Integer, nullable=False),
    sa.Column("latency_max_ms", sa.Float),
    sa.Column("value_sum", sa.Float, nullable=False),
    sa.Column("value_count", sa.Integer, nullable=False),
    sa.Column("value_max", sa.Float),
    sa.CheckConstraint("resolution in ('minute','hour','day')", name="resolution"),
)
sa.Index("ix_health_sample_resolution_at", health_sample.c.resolution, health_sample.c.at)

# What the pipelines location consists of, as it said at its last load; the newest row is in force.
topology = sa.Table(
    "topology",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),  # of the payload's shape
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    moment("published_at", nullable=False),
    moment("confirmed_at", nullable=False),  # the last load that said the same
)
