"""Syncs that brought nothing are found without reading the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    few = sa.text("rows_synced = 0 AND status = 'succeeded' AND job_type = 'sync'")
    op.create_index("ix_sync_job_empty", "sync_job", ["observed_at"], schema="adinsights_ops", postgresql_where=few)


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_sync_job_empty", table_name="sync_job", schema="adinsights_ops")
