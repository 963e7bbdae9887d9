"""A job that Airbyte does not know is looked for twice before it counts as gone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    missing_since = sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True)
    op.add_column("sync_job", missing_since, schema="adinsights_ops")


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("sync_job", "missing_since", schema="adinsights_ops")
