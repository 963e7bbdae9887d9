"""When each model was built last: a newer result that skipped it says nothing of that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the revision. Of what is skipped just now it stays open when it was built, until the next build."""
    op.add_column("dbt_model_result", sa.Column("built_at", sa.DateTime(timezone=True)), schema="adinsights_ops")
    op.execute(
        "update adinsights_ops.dbt_model_result set built_at = generated_at "
        "where result->>'status' in ('success', 'no-op', 'reused')"
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("dbt_model_result", "built_at", schema="adinsights_ops")
