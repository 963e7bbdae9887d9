"""The ledger keeps when a job was first seen to be over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision; of jobs that are over already, the last look at them is the nearest that is known."""
    column = sa.Column("end_observed_at", sa.DateTime(timezone=True), nullable=True)
    op.add_column("sync_job", column, schema="adinsights_ops")
    op.execute("update adinsights_ops.sync_job set end_observed_at = observed_at where report_state <> 'none'")


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("sync_job", "end_observed_at", schema="adinsights_ops")
