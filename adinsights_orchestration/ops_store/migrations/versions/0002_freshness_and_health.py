"""Freshness of connections, health of components, the topology."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "component_health",
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("health", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_ok_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("component", name=op.f("pk_component_health")),
        schema="adinsights_ops",
    )
    op.create_table(
        "connection_freshness",
        sa.Column("partition_key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expected_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expectation", sa.Text(), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_job_id", sa.BigInteger(), nullable=True),
        sa.Column("last_job_status", sa.Text(), nullable=True),
        sa.Column("last_job_reason", sa.Text(), nullable=True),
        sa.Column("last_job_ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("running_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("usual_seconds", sa.Float(), nullable=True),
        sa.Column("materialized_job", sa.BigInteger(), nullable=True),
        sa.Column("shown_job", sa.BigInteger(), nullable=True),
        sa.Column("shown_state", sa.Text(), nullable=True),
        sa.Column("evaluated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("partition_key", name=op.f("pk_connection_freshness")),
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_connection_freshness_unshown",
        "connection_freshness",
        ["provider"],
        unique=False,
        schema="adinsights_ops",
        postgresql_where=sa.text("shown_state IS DISTINCT FROM state OR shown_job IS DISTINCT FROM materialized_job"),
    )
    op.create_index(
        "ix_connection_freshness_valid_until",
        "connection_freshness",
        ["valid_until"],
        unique=False,
        schema="adinsights_ops",
    )
    op.create_table(
        "health_sample",
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("readings", sa.Integer(), nullable=False),
        sa.Column("ok", sa.Integer(), nullable=False),
        sa.Column("degraded", sa.Integer(), nullable=False),
        sa.Column("down", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("latency_sum_ms", sa.Float(), nullable=False),
        sa.Column("latency_count", sa.Integer(), nullable=False),
        sa.Column("latency_max_ms", sa.Float(), nullable=True),
        sa.Column("value_sum", sa.Float(), nullable=False),
        sa.Column("value_count", sa.Integer(), nullable=False),
        sa.Column("value_max", sa.Float(), nullable=True),
        sa.CheckConstraint("resolution in ('minute','hour','day')", name=op.f("ck_health_sample_resolution")),
        sa.PrimaryKeyConstraint("component", "resolution", "at", name=op.f("pk_health_sample")),
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_health_sample_resolution_at", "health_sample", ["resolution", "at"], unique=False, schema="adinsights_ops"
    )
    op.create_table(
        "topology",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_topology")),
        schema="adinsights_ops",
    )
    op.create_index("ix_sync_job_observed", "sync_job", ["observed_at"], unique=False, schema="adinsights_ops")
    op.create_index(
        "ix_sync_job_reported",
        "sync_job",
        ["reported_at"],
        unique=False,
        schema="adinsights_ops",
        postgresql_where=sa.text("reported_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index(
        "ix_sync_job_reported",
        table_name="sync_job",
        schema="adinsights_ops",
        postgresql_where=sa.text("reported_at IS NOT NULL"),
    )
    op.drop_index("ix_sync_job_observed", table_name="sync_job", schema="adinsights_ops")
    op.drop_table("topology", schema="adinsights_ops")
    op.drop_index("ix_health_sample_resolution_at", table_name="health_sample", schema="adinsights_ops")
    op.drop_table("health_sample", schema="adinsights_ops")
    op.drop_index("ix_connection_freshness_valid_until", table_name="connection_freshness", schema="adinsights_ops")
    op.drop_index(
        "ix_connection_freshness_unshown",
        table_name="connection_freshness",
        schema="adinsights_ops",
        postgresql_where=sa.text("shown_state IS DISTINCT FROM state OR shown_job IS DISTINCT FROM materialized_job"),
    )
    op.drop_table("connection_freshness", schema="adinsights_ops")
    op.drop_table("component_health", schema="adinsights_ops")
