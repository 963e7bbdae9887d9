"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_audit_entry_owed",
        "audit_entry",
        ["created_at"],
        unique=False,
        schema="adinsights_ops",
        postgresql_where=sa.text("delivered_at IS NULL"),
    )
    op.create_table(
        "cursor",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursor")),
        schema="adinsights_ops",
    )
    op.create_table(
        "dbt_invocation",
        sa.Column("invocation_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("full_refresh", sa.Boolean(), nullable=False),
        sa.Column("completed", sa.Boolean(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("elapsed_seconds", sa.Float(), nullable=False),
        sa.Column("models", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("invocation_id", name=op.f("pk_dbt_invocation")),
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_dbt_invocation_generated",
        "dbt_invocation",
        [sa.literal_column("generated_at DESC")],
        unique=False,
        schema="adinsights_ops",
    )
    op.create_table(
        "dbt_model_result",
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("invocation_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("execution_seconds", sa.Float(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("unique_id", name=op.f("pk_dbt_model_result")),
        schema="adinsights_ops",
    )
    op.create_table(
        "finding",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
        schema="adinsights_ops",
    )
    op.create_index(
        "uq_finding_open",
        "finding",
        ["kind", "subject"],
        unique=True,
        schema="adinsights_ops",
        postgresql_where=sa.text("cleared_at IS NULL"),
    )
    op.create_table(
        "partition_key",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("row_id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("connection_name", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_partition_key")),
        sa.UniqueConstraint("row_id", name=op.f("uq_partition_key_row_id")),
        schema="adinsights_ops",
    )
    op.create_table(
        "registry_snapshot",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_snapshot")),
        schema="adinsights_ops",
    )
    op.create_table(
        "report_batch",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("event_cursor", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_batch")),
        schema="adinsights_ops",
    )
    op.create_table(
        "sync_intent",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("partition_key", sa.Text(), nullable=False),
        sa.Column("due_slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), server_default="sync", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("state <> 'running' or job_id is not null", name=op.f("ck_sync_intent_running_has_job")),
        sa.CheckConstraint(
            "state in ('planned','starting','running','succeeded','failed','cancelled','abandoned')",
            name=op.f("ck_sync_intent_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_intent")),
        sa.UniqueConstraint("connection_id", "due_slot", name=op.f("uq_sync_intent_connection_id_due_slot")),
        schema="adinsights_ops",
    )
    op.create_index("ix_sync_intent_job", "sync_intent", ["job_id"], unique=False, schema="adinsights_ops")
    op.create_index(
        "ix_sync_intent_open",
        "sync_intent",
        ["state", "not_before"],
        unique=False,
        schema="adinsights_ops",
        postgresql_where=sa.text("state IN ('planned', 'starting', 'running')"),
    )
    op.create_table(
        "partition_connection",
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["key"], ["adinsights_ops.partition_key.key"], name=op.f("fk_partition_connection_key")
        ),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_partition_connection")),
        schema="adinsights_ops",
    )
    op.create_index(
        op.f("ix_partition_connection_key"), "partition_connection", ["key"], unique=False, schema="adinsights_ops"
    )
    op.create_table(
        "registry_status",
        sa.Column("id", sa.SmallInteger(), nullable=False),
        sa.Column("snapshot_id", sa.BigInteger(), nullable=True),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("succeeded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["adinsights_ops.registry_snapshot.id"], name=op.f("fk_registry_status_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_status")),
        schema="adinsights_ops",
    )
    op.create_table(
        "sync_job",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("partition_key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("intent_id", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("rows_synced", sa.BigInteger(), nullable=True),
        sa.Column("bytes_synced", sa.BigInteger(), nullable=True),
        sa.Column("streams", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=True),
        sa.Column("failure_origin", sa.Text(), nullable=True),
        sa.Column("failure_type", sa.Text(), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("airbyte_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("report_state", sa.Text(), server_default="none", nullable=False),
        sa.Column("report_batch", sa.UUID(), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "report_state in ('none','pending','reporting','reported','skipped')", name=op.f("ck_sync_job_report_state")
        ),
        sa.ForeignKeyConstraint(["intent_id"], ["adinsights_ops.sync_intent.id"], name=op.f("fk_sync_job_intent_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_sync_job")),
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_sync_job_connection_started",
        "sync_job",
        ["connection_id", sa.literal_column("started_at DESC")],
        unique=False,
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_sync_job_partition_ended",
        "sync_job",
        ["partition_key", sa.literal_column("ended_at DESC")],
        unique=False,
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_sync_job_unreported",
        "sync_job",
        ["provider", "ended_at"],
        unique=False,
        schema="adinsights_ops",
        postgresql_where=sa.text("report_state IN ('pending', 'reporting')"),
    )
    op.create_table(
        "webhook_post",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["adinsights_ops.sync_job.job_id"], name=op.f("fk_webhook_post_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_webhook_post")),
        schema="adinsights_ops",
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("webhook_post", schema="adinsights_ops")
    op.drop_index(
        "ix_sync_job_unreported",
        table_name="sync_job",
        schema="adinsights_ops",
        postgresql_where=sa.text("report_state IN ('pending', 'reporting')"),
    )
    op.drop_index("ix_sync_job_partition_ended", table_name="sync_job", schema="adinsights_ops")
    op.drop_index("ix_sync_job_connection_started", table_name="sync_job", schema="adinsights_ops")
    op.drop_table("sync_job", schema="adinsights_ops")
    op.drop_table("registry_status", schema="adinsights_ops")
    op.drop_index(op.f("ix_partition_connection_key"), table_name="partition_connection", schema="adinsights_ops")
    op.drop_table("partition_connection", schema="adinsights_ops")
    op.drop_index(
        "ix_sync_intent_open",
        table_name="sync_intent",
        schema="adinsights_ops",
        postgresql_where=sa.text("state IN ('planned', 'starting', 'running')"),
    )
    op.drop_index("ix_sync_intent_job", table_name="sync_intent", schema="adinsights_ops")
    op.drop_table("sync_intent", schema="adinsights_ops")
    op.drop_table("report_batch", schema="adinsights_ops")
    op.drop_table("registry_snapshot", schema="adinsights_ops")
    op.drop_table("partition_key", schema="adinsights_ops")
    op.drop_index(
        "uq_finding_open", table_name="finding", schema="adinsights_ops", postgresql_where=sa.text("cleared_at IS NULL")
    )
    op.drop_table("finding", schema="adinsights_ops")
    op.drop_table("dbt_model_result", schema="adinsights_ops")
    op.drop_index("ix_dbt_invocation_generated", table_name="dbt_invocation", schema="adinsights_ops")
    op.drop_table("dbt_invocation", schema="adinsights_ops")
    op.drop_table("cursor", schema="adinsights_ops")
    op.drop_index(
        "ix_audit_entry_owed",
        table_name="audit_entry",
        schema="adinsights_ops",
        postgresql_where=sa.text("delivered_at IS NULL"),
    )
    op.drop_table("audit_entry", schema="adinsights_ops")
