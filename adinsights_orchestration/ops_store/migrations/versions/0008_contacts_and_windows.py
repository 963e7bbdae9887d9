"""Alerts: several contacts one after another, and windows that jobs open around their own work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SCHEMA = "adinsights_ops"


def upgrade() -> None:
    """Applies the revision; a group that was escalated has told one contact."""
    op.alter_column("alert_group", "escalated", type_=sa.Integer(), postgresql_using="escalated::int", schema=_SCHEMA)
    op.add_column("alert_group", sa.Column("unacked_at", sa.DateTime(timezone=True)), schema=_SCHEMA)
    kind = sa.Column("kind", sa.Text(), nullable=False, server_default="silenced")
    op.add_column("alert_silence", kind, schema=_SCHEMA)
    op.create_check_constraint("kind", "alert_silence", "kind in ('silenced','maintenance')", schema=_SCHEMA)


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_constraint(op.f("ck_alert_silence_kind"), "alert_silence", schema=_SCHEMA)
    op.drop_column("alert_silence", "kind", schema=_SCHEMA)
    op.drop_column("alert_group", "unacked_at", schema=_SCHEMA)
    op.alter_column("alert_group", "escalated", type_=sa.Boolean(), postgresql_using="escalated > 0", schema=_SCHEMA)
