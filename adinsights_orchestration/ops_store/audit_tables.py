"""Tables of the ops store for the audit log: the ledger of what is archived and deleted, and the journal of runs.

Belongs here: shapes and keys; they are part of the schema that `tables` begins. Does not belong here: who writes when
(`audit_log`). Sums of fingerprints are numeric: they outgrow a bigint.
"""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from adinsights_orchestration.ops_store.tables import metadata, moment


def _sum(name: str) -> sa.Column[Decimal]:
    return sa.Column(name, sa.Numeric(38, 0), nullable=False, server_default="0")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


# The chain as this store has seen it; the archive itself is what is right, and this is caught up with it.
audit_manifest = sa.Table(
    "audit_manifest",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("last_day", sa.Date, nullable=False),
    moment("written_at", nullable=False),
)

# One row per day and revision; `sequence` is that of the manifest that seals it, null until then.
audit_day = sa.Table(
    "audit_day",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.Integer),
    _count("rows"),
    _count("bytes"),
    _count("files"),
    # The table's columns ([[name, type], ...]) and the server's major version, which the fast digests are of.
    sa.Column("columns", JSONB, nullable=False),
    sa.Column("server_major", sa.Integer, nullable=False),
    sa.Column("run_id", sa.Text),
    moment("started_at", nullable=False),
    moment("sealed_at"),
)

# One row per tenant, day and revision; at most one of them is sealed, deleting or deleted.
audit_chunk = sa.Table(
    "audit_chunk",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("tenant_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    moment("changed_at", nullable=False),
    # What the archive holds.
    _count("rows"),
    _sum("portable"),
    # What of it is expected in the table: all that was there when it was archived, later what a deletion left.
    _count("left_rows"),
    _sum("left_portable"),
    _sum("left_fast"),
    _count("deleted_rows"),
    moment("deleted_at"),
    # While it is being deleted: what will be left once the rows are gone.
    sa.Column("staying", JSONB),
    sa.Index("ix_audit_chunk_day", "source", "day"),
    sa.Index(
        "ix_audit_chunk_in_force",
        "source",
        "tenant_id",
        "day",
        unique=True,
        postgresql_where=sa.text("state in ('sealed', 'deleting', 'deleted')"),
    ),
)

# Archived rows that were gone from the table, by when that was noticed: those that are neither back nor answered for.
audit_vanished = sa.Table(
    "audit_vanished",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("tenant_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("noticed_at", sa.DateTime(timezone=True), primary_key=True),
    _count("rows"),
)

# What was done to the audit log and its archive, in order; nothing is ever changed but a run's own end.
audit_run = sa.Table(
    "audit_run",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text),
    sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()),
    moment("started_at", nullable=False),
    moment("finished_at"),
    sa.Column("summary", JSONB, nullable=False, server_default="{}"),
    sa.Column("error", sa.Text),
    sa.Index("ix_audit_run_started_at", "source", "started_at"),
)

# Rows that are kept for now, however old: restored ones, until a moment. Legal holds stand in `tenants.yaml`.
audit_hold = sa.Table(
    "audit_hold",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("tenant_id", UUID(as_uuid=True)),  # null: everybody's
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("last_day", sa.Date, nullable=False),
    moment("ends_at", nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    moment("created_at", nullable=False),
    sa.Index("ix_audit_hold_ends_at", "source", "ends_at"),
)

# What has left the archive: one row per manifest that says so and tenant.
audit_removal = sa.Table(
    "audit_removal",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tenant_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("run_id", UUID(as_uuid=True), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("last_day", sa.Date, nullable=False),
    _count("days"),
    _count("rows"),
    _count("objects"),
    _count("bytes"),
    moment("written_at", nullable=False),
    sa.Index("ix_audit_removal_run", "source", "run_id"),
)

# Objects that a manifest in the chain says are gone; until `removed_at` is set they may still be there.
audit_gone_object = sa.Table(
    "audit_gone_object",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("tenant_id", UUID(as_uuid=True), nullable=False),
    _count("bytes"),
    moment("tried_at"),
    sa.Column("refusal", sa.Text),  # why the store kept it, when it was last asked
    moment("removed_at"),
    sa.Index("ix_audit_gone_object_pending", "source", "sequence", postgresql_where=sa.text("removed_at is null")),
)
