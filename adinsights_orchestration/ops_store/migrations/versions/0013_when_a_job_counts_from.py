"""Freshness looks for the newest jobs of a partition by when they were seen to be over, not by Airbyte's clock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    op.create_index(
        "ix_sync_job_partition_over",
        "sync_job",
        ["partition_key", sa.text("least(ended_at, end_observed_at) desc"), sa.text("job_id desc")],
        schema="adinsights_ops",
        postgresql_where=sa.text("ended_at is not null"),
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_sync_job_partition_over", table_name="sync_job", schema="adinsights_ops")
