"""The ledger of what leaves the archive: by manifest and tenant, and object by object until the store has let go of it.

Belongs here: those statements, most of them in the transaction that records a manifest. Does not belong here: deciding
what leaves, and asking the store to remove it (`removing`). All of it follows from the chain, so a ledger that was lost
is made anew with it; then every object that was ever gone is asked for once more, which costs time and harms nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import Manifest
from adinsights_orchestration.audit_log.model import IN_FORCE, Cause, Chunk, DataFile, Gone
from adinsights_orchestration.ops_store.audit_tables import audit_day, audit_gone_object, audit_removal
from adinsights_orchestration.ops_store.store import OpsStore

_Value = TypeVar("_Value")
_ROWS_PER_STATEMENT = 1000
_SUPERSEDE = """
update adinsights_ops.audit_chunk c set state = 'superseded', changed_at = :now
  from unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:revisions as int[]))
    as each (whose, day, revision)
 where c.source = :source and c.tenant_id = each.whose and c.day = each.day and c.revision <= each.revision
   and c.state = any(:states)"""
# The newest revision of a day tells how much the archive holds of it.
_COUNT = """
update adinsights_ops.audit_day d
   set rows = greatest(d.rows - each.rows, 0), bytes = greatest(d.bytes - each.bytes, 0),
       files = greatest(d.files - each.files, 0)
  from unnest(cast(:days as date[]), cast(:rows as bigint[]), cast(:bytes as bigint[]), cast(:files as bigint[]))
    as each (day, rows, bytes, files)
 where d.source = :source and d.day = each.day and d.sequence is not null and d.revision = (
    select max(revision) from adinsights_ops.audit_day n
     where n.source = d.source and n.day = d.day and n.sequence is not null)"""


@dataclass(frozen=True, slots=True)
class Pending:
    """An object that a manifest says is gone, and that may still be there.

    Attributes:
        key: The object.
        sequence: The manifest's number.
        tenant: Whose rows it holds.
        size: In bytes.
        tried_at: When the store was last asked to remove it.
        refusal: What it said.
    """

    key: str
    sequence: int
    tenant: UUID
    size: int
    tried_at: datetime | None
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """What a run has removed of one tenant.

    Attributes:
        tenant: Whose.
        cause: Why.
        reason: In whose words.
        first_day: The first day that lost rows.
        last_day: The last one.
        days: How many lost rows.
        rows: How many rows.
        objects: How many objects.
        size: Their bytes.
    """

    tenant: UUID
    cause: Cause
    reason: str
    first_day: date
    last_day: date
    days: int
    rows: int
    objects: int
    size: int


def bury(connection: sa.Connection, manifest: Manifest, gone: Gone, now: datetime) -> None:
    """Records what a manifest says is gone: the chunks as superseded, the objects as to be removed."""
    parameters = {
        "source": manifest.source,
        "now": now,
        "tenants": [chunk.tenant for chunk in gone.chunks],
        "days": [chunk.day for chunk in gone.chunks],
        "revisions": [chunk.revision for chunk in gone.chunks],
        "states": [state.value for state in IN_FORCE],
    }
    connection.execute(sa.text(_SUPERSEDE), parameters)
    for part in _parts([_object(manifest, file) for file in gone.files]):
        row = insert(audit_gone_object).values(part)
        again = {"sequence": row.excluded.sequence, "removed_at": None, "tried_at": None, "refusal": None}
        connection.execute(
            row.on_conflict_do_update(index_elements=[audit_gone_object.c.source, audit_gone_object.c.key], set_=again)
        )
    for part in _parts([_removal(manifest, gone, account) for account in accounts(manifest, gone)]):
        connection.execute(insert(audit_removal).values(part).on_conflict_do_nothing())


def named_again(connection: sa.Connection, manifest: Manifest) -> None:
    """An object that a later manifest names is not to be removed: the same content came again."""
    table = audit_gone_object.c
    for start in range(0, len(manifest.files), _ROWS_PER_STATEMENT):
        keys = [file.key for file in manifest.files[start : start + _ROWS_PER_STATEMENT]]
        mine = sa.and_(table.source == manifest.source, table.sequence < manifest.sequence, table.key.in_(keys))
        connection.execute(sa.delete(audit_gone_object).where(mine))


def begin_days(connection: sa.Connection, manifest: Manifest, instead: Sequence[Chunk], now: datetime) -> None:
    """Gives each day that is partly written anew its next revision, read as the one before was."""
    table = audit_day
    for day, revision in sorted({(chunk.day, chunk.revision) for chunk in instead}):
        before = (
            sa.select(table)
            .where(table.c.source == manifest.source, table.c.day == day, table.c.sequence.is_not(None))
            .where(table.c.revision < revision)
            .order_by(table.c.revision.desc())
            .limit(1)
        )
        known = connection.execute(before).one()
        values = {
            **{name: getattr(known, name) for name in ("rows", "bytes", "files", "columns", "server_major")},
            "sequence": manifest.sequence,
            "started_at": now,
            "sealed_at": manifest.written_at,
            "run_id": None,
        }
        row = insert(table).values(source=manifest.source, day=day, revision=revision, **values)
        connection.execute(
            row.on_conflict_do_update(index_elements=[table.c.source, table.c.day, table.c.revision], set_=values)
        )


def count_days(connection: sa.Connection, manifest: Manifest, gone: Gone) -> None:
    """Takes what is gone off the days' counts, and adds what stands in its place."""
    rows: Counter[date] = Counter()
    size: Counter[date] = Counter()
    files: Counter[date] = Counter()
    stays = {(chunk.tenant, chunk.day): chunk.rows for chunk in manifest.chunks}
    for chunk in gone.chunks:
        rows[chunk.day] += chunk.rows - stays.get((chunk.tenant, chunk.day), 0)
    # Of a month whose first days are not archived, the object counts for the first that is.
    begins = manifest.first_day if gone.cause is Cause.COMPACTED else date.min
    counted = {key for chunk in gone.chunks for key in chunk.files}  # those of earlier revisions never were
    for file in gone.files:
        if gone.cause is Cause.COMPACTED or file.key in counted:
            day = max(chain.day_of_key(file.key), begins)
            size[day], files[day] = size[day] + file.size, files[day] + 1
    stood = counted - {file.key for file in gone.files}  # beside what was written anew
    for file in manifest.files:
        if file.key in stood:
            continue
        day = max(chain.day_of_key(file.key), begins)
        size[day], files[day] = size[day] - file.size, files[day] - 1
    days = sorted({*rows, *size})
    parameters = {
        "source": manifest.source,
        "days": days,
        "rows": [rows[day] for day in days],
        "bytes": [size[day] for day in days],
        "files": [files[day] for day in days],
    }
    connection.execute(sa.text(_COUNT), parameters)


def accounts(manifest: Manifest, gone: Gone) -> list[Account]:
    """What a manifest says has left, by tenant."""
    stays = {(chunk.tenant, chunk.day): chunk.rows for chunk in manifest.chunks}
    rows: dict[UUID, dict[date, int]] = defaultdict(dict)
    for chunk in gone.chunks:
        rows[chunk.tenant][chunk.day] = chunk.rows - stays.get((chunk.tenant, chunk.day), 0)
    objects: dict[UUID, list[DataFile]] = defaultdict(list)
    for file in gone.files:
        objects[chain.tenant_of_key(file.key)].append(file)
    found = []
    for tenant in sorted({*rows, *objects}):
        days, its = sorted(rows[tenant]), objects[tenant]
        first, last = (days[0], days[-1]) if days else (manifest.first_day, manifest.last_day)
        counts = (len(days), sum(rows[tenant].values()), len(its), sum(file.size for file in its))
        found.append(Account(tenant, gone.cause, manifest.reason, first, last, *counts))
    return found


def pending(store: OpsStore, source: str) -> list[Pending]:
    """The objects that are to be removed, the longest untried first."""
    table = audit_gone_object
    query = sa.select(table).where(table.c.source == source, table.c.removed_at.is_(None))
    with store.begin() as connection:
        rows = connection.execute(query.order_by(table.c.tried_at.nulls_first(), table.c.key)).all()
    return [Pending(row.key, row.sequence, row.tenant_id, row.bytes, row.tried_at, row.refusal) for row in rows]


def tried(store: OpsStore, source: str, outcomes: Mapping[str, str | None], now: datetime) -> None:
    """Records what the store said of each object: None where it is gone, else why it is not."""
    table = audit_gone_object
    with store.begin() as connection:
        for part in _parts(list(outcomes)):
            removed = [key for key in part if outcomes[key] is None]
            mine = sa.and_(table.c.source == source, table.c.key.in_(removed))
            connection.execute(sa.update(table).where(mine).values(removed_at=now, tried_at=now, refusal=None))
        for key, refusal in outcomes.items():
            if refusal is not None:
                mine = sa.and_(table.c.source == source, table.c.key == key)
                connection.execute(sa.update(table).where(mine).values(tried_at=now, refusal=refusal))


def of_run(connection: sa.Connection, source: str, run: UUID) -> list[Account]:
    """What a run has removed, by tenant, all its manifests together."""
    table = audit_removal.c
    query = (
        sa.select(
            table.tenant_id,
            table.cause,
            sa.func.min(table.reason),
            sa.func.min(table.first_day),
            sa.func.max(table.last_day),
            sa.func.sum(table.days),
            sa.func.sum(table.rows),
            sa.func.sum(table.objects),
            sa.func.sum(table.bytes),
        )
        .where(table.source == source, table.run_id == run)
        .group_by(table.tenant_id, table.cause)
        .order_by(table.tenant_id)
    )
    return [_account(row) for row in connection.execute(query)]


def runs_since(connection: sa.Connection, source: str, since: datetime) -> list[tuple[UUID, Cause]]:
    """The runs whose manifests were written since a moment."""
    table = audit_removal.c
    query = sa.select(table.run_id, table.cause).where(table.source == source, table.written_at >= since).distinct()
    return [(row.run_id, Cause(row.cause)) for row in connection.execute(query)]


def _account(row: Sequence[Any] | sa.Row[Any]) -> Account:
    tenant, cause, reason, first, last, *counts = row
    return Account(tenant, Cause(cause), reason, first, last, *(int(each) for each in counts))


def _object(manifest: Manifest, file: DataFile) -> dict[str, Any]:
    return {
        "source": manifest.source,
        "key": file.key,
        "sequence": manifest.sequence,
        "tenant_id": chain.tenant_of_key(file.key),
        "bytes": file.size,
    }


def _removal(manifest: Manifest, gone: Gone, account: Account) -> dict[str, Any]:
    return {
        "source": manifest.source,
        "sequence": manifest.sequence,
        "tenant_id": account.tenant,
        "cause": gone.cause.value,
        "run_id": gone.run,
        "actor": gone.actor,
        "reason": manifest.reason,
        "first_day": account.first_day,
        "last_day": account.last_day,
        "days": account.days,
        "rows": account.rows,
        "objects": account.objects,
        "bytes": account.size,
        "written_at": manifest.written_at,
    }


def _parts(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    for start in range(0, len(values), _ROWS_PER_STATEMENT):
        yield values[start : start + _ROWS_PER_STATEMENT]
