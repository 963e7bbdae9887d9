"""Alerts: incidents, groups, the outbox, channels, events, silences."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "alert_channel",
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("used_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sink", name=op.f("pk_alert_channel")),
        schema="adinsights_ops",
    )
    op.create_table(
        "alert_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("group_key", sa.Text(), nullable=True),
        sa.Column("episode", sa.Integer(), nullable=True),
        sa.Column("notice_id", sa.UUID(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_event")),
        schema="adinsights_ops",
    )
    op.create_index("ix_alert_event_at", "alert_event", ["at"], unique=False, schema="adinsights_ops")
    op.create_index(
        "ix_alert_event_fingerprint", "alert_event", ["fingerprint", "id"], unique=False, schema="adinsights_ops"
    )
    op.create_index(
        "ix_alert_event_group_key", "alert_event", ["group_key", "id"], unique=False, schema="adinsights_ops"
    )
    op.create_table(
        "alert_group",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("sinks", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("flush_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("escalated", sa.Boolean(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_alert_group")),
        schema="adinsights_ops",
    )
    op.create_table(
        "alert_incident",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("finding", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pending_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("absent_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unknown_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recent", postgresql.ARRAY(sa.DateTime(timezone=True)), nullable=False),
        sa.Column("acked_by", sa.Text(), nullable=True),
        sa.Column("acked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acked_severity", sa.Text(), nullable=True),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("told_severity", sa.Text(), nullable=True),
        sa.Column("suppressed_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state in ('ok','pending','firing','acknowledged','resolving')", name=op.f("ck_alert_incident_state")
        ),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_alert_incident")),
        schema="adinsights_ops",
    )
    op.create_index(
        "ix_alert_incident_open",
        "alert_incident",
        ["fingerprint"],
        unique=False,
        schema="adinsights_ops",
        postgresql_where=sa.text("state != 'ok' OR told"),
    )
    op.create_table(
        "alert_outbox",
        sa.Column("notice_id", sa.UUID(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column("message", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refusals", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claim", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ref", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("op in ('post','update','reply')", name=op.f("ck_alert_outbox_op")),
        sa.CheckConstraint("state in ('pending','attempting','sent','dead')", name=op.f("ck_alert_outbox_state")),
        sa.PrimaryKeyConstraint("notice_id", name=op.f("pk_alert_outbox")),
        sa.UniqueConstraint(
            "group_key", "episode", "seq", "sink", name=op.f("uq_alert_outbox_group_key_episode_seq_sink")
        ),
        schema="adinsights_ops",
    )
    op.create_index("ix_alert_outbox_finished", "alert_outbox", ["finished_at"], unique=False, schema="adinsights_ops")
    op.create_index(
        "ix_alert_outbox_open",
        "alert_outbox",
        ["sink", "created_at"],
        unique=False,
        schema="adinsights_ops",
        postgresql_where=sa.text("state IN ('pending', 'attempting')"),
    )
    op.create_table(
        "alert_silence",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("matchers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("ends_at >= starts_at", name=op.f("ck_alert_silence_ends_after_start")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_silence")),
        schema="adinsights_ops",
    )
    op.create_index("ix_alert_silence_ends_at", "alert_silence", ["ends_at"], unique=False, schema="adinsights_ops")


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_alert_silence_ends_at", table_name="alert_silence", schema="adinsights_ops")
    op.drop_table("alert_silence", schema="adinsights_ops")
    op.drop_index(
        "ix_alert_outbox_open",
        table_name="alert_outbox",
        schema="adinsights_ops",
        postgresql_where=sa.text("state IN ('pending', 'attempting')"),
    )
    op.drop_index("ix_alert_outbox_finished", table_name="alert_outbox", schema="adinsights_ops")
    op.drop_table("alert_outbox", schema="adinsights_ops")
    op.drop_index(
        "ix_alert_incident_open",
        table_name="alert_incident",
        schema="adinsights_ops",
        postgresql_where=sa.text("state != 'ok' OR told"),
    )
    op.drop_table("alert_incident", schema="adinsights_ops")
    op.drop_table("alert_group", schema="adinsights_ops")
    op.drop_index("ix_alert_event_group_key", table_name="alert_event", schema="adinsights_ops")
    op.drop_index("ix_alert_event_fingerprint", table_name="alert_event", schema="adinsights_ops")
    op.drop_index("ix_alert_event_at", table_name="alert_event", schema="adinsights_ops")
    op.drop_table("alert_event", schema="adinsights_ops")
    op.drop_table("alert_channel", schema="adinsights_ops")
