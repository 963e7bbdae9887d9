"""Archived rows that vanished from their table are remembered until they are back or somebody has answered for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_SCHEMA = "adinsights_ops"


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "audit_vanished",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("tenant_id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("source", "tenant_id", "day", "noticed_at", name=op.f("pk_audit_vanished")),
        schema=_SCHEMA,
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("audit_vanished", schema=_SCHEMA)
