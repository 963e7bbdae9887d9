"""A claim finds out whether something is being done with a connection without reading everything that is under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    op.create_index(
        "ix_sync_intent_busy",
        "sync_intent",
        ["connection_id"],
        schema="adinsights_ops",
        postgresql_where=sa.text("state in ('starting', 'running')"),
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_sync_intent_busy", table_name="sync_intent", schema="adinsights_ops")
