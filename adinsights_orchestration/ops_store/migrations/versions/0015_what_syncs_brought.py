"""Alerts find a connection's last sync with rows behind any number of empty ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    told = "status = 'succeeded' and job_type = 'sync' and rows_synced is not null and ended_at is not null"
    op.create_index(
        "ix_sync_job_partition_brought",
        "sync_job",
        ["partition_key", sa.text("least(rows_synced, 1)"), sa.text("ended_at desc")],
        schema="adinsights_ops",
        postgresql_where=sa.text(told),
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_sync_job_partition_brought", table_name="sync_job", schema="adinsights_ops")
