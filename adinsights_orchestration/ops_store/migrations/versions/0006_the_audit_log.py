"""The audit log: manifests, days, chunks, runs."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SCHEMA = "adinsights_ops"


def _moment(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _sum(name: str) -> sa.Column[Decimal]:
    return sa.Column(name, sa.Numeric(38, 0), server_default="0", nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def upgrade() -> None:
    """Applies the revision."""
    op.create_table(
        "audit_manifest",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        _moment("written_at", nullable=False),
        sa.PrimaryKeyConstraint("source", "sequence", name=op.f("pk_audit_manifest")),
        schema=_SCHEMA,
    )
    op.create_table(
        "audit_day",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=True),
        _count("rows"),
        _count("bytes"),
        _count("files"),
        sa.Column("columns", postgresql.JSONB(), nullable=False),
        sa.Column("server_major", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        _moment("started_at", nullable=False),
        _moment("sealed_at"),
        sa.PrimaryKeyConstraint("source", "day", "revision", name=op.f("pk_audit_day")),
        schema=_SCHEMA,
    )
    op.create_table(
        "audit_chunk",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        _moment("changed_at", nullable=False),
        _count("rows"),
        _sum("portable"),
        _count("left_rows"),
        _sum("left_portable"),
        _sum("left_fast"),
        _count("deleted_rows"),
        _moment("deleted_at"),
        sa.Column("staying", postgresql.JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("source", "tenant_id", "day", "revision", name=op.f("pk_audit_chunk")),
        schema=_SCHEMA,
    )
    op.create_index("ix_audit_chunk_day", "audit_chunk", ["source", "day"], unique=False, schema=_SCHEMA)
    op.create_index(
        "ix_audit_chunk_in_force",
        "audit_chunk",
        ["source", "tenant_id", "day"],
        unique=True,
        schema=_SCHEMA,
        postgresql_where=sa.text("state in ('sealed', 'deleting', 'deleted')"),
    )
    op.create_table(
        "audit_run",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("dry_run", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _moment("started_at", nullable=False),
        _moment("finished_at"),
        sa.Column("summary", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_run")),
        schema=_SCHEMA,
    )
    op.create_index("ix_audit_run_started_at", "audit_run", ["source", "started_at"], unique=False, schema=_SCHEMA)


def downgrade() -> None:
    """Takes the revision back."""
    for table in ("audit_run", "audit_chunk", "audit_day", "audit_manifest"):
        op.drop_table(table, schema=_SCHEMA)
