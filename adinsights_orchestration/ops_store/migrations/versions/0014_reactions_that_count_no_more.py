"""A message keeps which reactions have been counted: an old one does not take on what got worse since."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision."""
    op.add_column("alert_outbox", sa.Column("reactions", JSONB), schema="adinsights_ops")


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("alert_outbox", "reactions", schema="adinsights_ops")
