"""The audit log: what has left the archive, and the objects that are to go."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_SCHEMA = "adinsights_ops"


def _moment(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "audit_removal",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("run_id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        *(_count(name) for name in ("days", "rows", "objects", "bytes")),
        _moment("written_at", nullable=False),
        sa.PrimaryKeyConstraint("source", "sequence", "tenant_id", name=op.f("pk_audit_removal")),
        schema=_SCHEMA,
    )
    op.create_index("ix_audit_removal_run", "audit_removal", ["source", "run_id"], schema=_SCHEMA)
    op.create_table(
        "audit_gone_object",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("tenant_id", postgresql.UUID(as_uuid=True), nullable=False),
        _count("bytes"),
        _moment("tried_at"),
        sa.Column("refusal", sa.Text(), nullable=True),
        _moment("removed_at"),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_audit_gone_object")),
        schema=_SCHEMA,
    )
    op.create_index(
        "ix_audit_gone_object_pending",
        "audit_gone_object",
        ["source", "sequence"],
        schema=_SCHEMA,
        postgresql_where=sa.text("removed_at is null"),
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("audit_gone_object", schema=_SCHEMA)
    op.drop_table("audit_removal", schema=_SCHEMA)
