"""Old intents are deleted, and each must be known to have no job that refers to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    op.create_index(
        "ix_sync_job_intent",
        "sync_job",
        ["intent_id"],
        schema="adinsights_ops",
        postgresql_where=sa.text("intent_id is not null"),
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_sync_job_intent", table_name="sync_job", schema="adinsights_ops")
