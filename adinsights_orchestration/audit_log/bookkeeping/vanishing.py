"""Archived rows that are gone from their table although we did not delete them: remembered in the ledger.

Belongs here: noticing them when a day is sealed anew, and taking back what has come back. Does not belong here: whether
they were gone before their time (`retention.census` judges that by when it was noticed), answering for them
(`retention.answering`). A revision keeps in the archive what the table has lost, so what a day has lost is the
difference of two numbers: rows in the archive, and rows that should be in the table. What we delete ourselves is taken
off the second one by us, and never counts. Of a day there is never more missing than that difference says, which is how
rows that are back, or that left the archive, are taken off: those that were noticed last at first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log import restored
from adinsights_orchestration.audit_log.bookkeeping.manifest import Manifest
from adinsights_orchestration.audit_log.model import IN_FORCE, At, Cause, Chunk, Gone
from adinsights_orchestration.ops_store.audit_tables import audit_chunk, audit_vanished

_IN_FORCE = [state.value for state in IN_FORCE]
_REMEMBER = sa.text("""
insert into adinsights_ops.audit_vanished as v (source, tenant_id, day, noticed_at, rows)
select :source, each.tenant_id, each.day, :now, each.rows
  from unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:rows as bigint[])) as each (tenant_id, day, rows)
on conflict (source, tenant_id, day, noticed_at) do update set rows = v.rows + excluded.rows""")
_KEEP = sa.text("""
with may as (
    select v.tenant_id, v.day, v.noticed_at,
           each.rows - (sum(v.rows) over (partition by v.tenant_id, v.day order by v.noticed_at) - v.rows) as rows
      from adinsights_ops.audit_vanished v,
           unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:rows as bigint[]))
        as each (tenant_id, day, rows)
     where v.source = :source and v.tenant_id = each.tenant_id and v.day = each.day)
update adinsights_ops.audit_vanished v set rows = greatest(may.rows, 0)
  from may
 where v.source = :source and v.tenant_id = may.tenant_id and v.day = may.day and v.noticed_at = may.noticed_at
   and v.rows > may.rows""")
_MISSING = sa.text("""
select c.tenant_id, c.day, c.rows - c.left_rows as missing
  from (select distinct tenant_id, day from adinsights_ops.audit_vanished where source = :source) v,
       unnest(cast(:tenants as uuid[]), cast(:days as date[])) as each (tenant_id, day),
       adinsights_ops.audit_chunk c
 where v.tenant_id = each.tenant_id and v.day = each.day
   and c.source = :source and c.tenant_id = v.tenant_id and c.day = v.day and c.state = any(cast(:states as text[]))""")
# The digests of what is there nobody has computed: the day is archived anew before any of it is deleted.
_FEWER = sa.text("""
update adinsights_ops.audit_chunk c
   set left_rows = each.there, left_portable = 0, left_fast = 0, changed_at = :now
  from unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:expected as bigint[]), cast(:there as bigint[]))
    as each (tenant_id, day, expected, there)
 where c.source = :source and c.tenant_id = each.tenant_id and c.day = each.day
   and c.state = 'sealed' and c.left_rows = each.expected
returning c.tenant_id, c.day, each.expected - each.there as rows""")


@dataclass(frozen=True, slots=True)
class Vanished:
    """Rows of a tenant's day that were found to be gone at one moment.

    Attributes:
        noticed_at: The moment.
        rows: How many of them are neither back nor answered for.
    """

    noticed_at: datetime
    rows: int


def of_sealing(connection: sa.Connection, manifest: Manifest, found: Mapping[UUID, int] | None) -> dict[UUID, int]:
    """Remembers what a day has lost since it was sealed last; to be called before the ledger says what holds now.

    Args:
        connection: To the ops store.
        manifest: The day, sealed anew.
        found: What the run that wrote it has missed of each tenant, by what the ledger said when it began. What was
            brought back or deleted by us while it read is in one of both counts only. None: nobody knows any more.

    Returns:
        How many rows of each tenant are gone.
    """
    new = {chunk.tenant: chunk for chunk in manifest.chunks if chunk.revision == manifest.revision}
    before = _sealed_before(connection, manifest, new) if manifest.revision > 1 else {}
    source, day, lost = manifest.source, manifest.first_day, dict[At, int]()
    for tenant, missing in before.items():
        here = new[tenant].rows - new[tenant].live.rows
        rows = here - missing if found is None else min(here - missing, found.get(tenant, 0))
        if rows > 0:
            lost[tenant, day] = rows
    keep(connection, source, {(tenant, day): missing for tenant, missing in before.items()})
    remember(connection, source, lost, manifest.written_at)
    keep(connection, source, {(each, day): new[each].rows - new[each].live.rows for each in before})
    return {tenant: rows for (tenant, _), rows in lost.items()}


def of_removal(connection: sa.Connection, manifest: Manifest, gone: Gone) -> None:
    """Forgets what has left the archive: nobody can bring it back any more, and somebody answered for that."""
    if gone.cause is not Cause.COMPACTED:
        stays = {(chunk.tenant, chunk.day): chunk.rows - chunk.live.rows for chunk in manifest.chunks}
        buried = [(chunk.tenant, chunk.day) for chunk in gone.chunks]
        keep(connection, manifest.source, {at: stays.get(at, 0) for at in buried})


def came_back(connection: sa.Connection, source: str, chunks: Collection[At]) -> None:
    """Forgets rows that are in the table again, as the ledger expects; to be called before it expects fewer."""
    parameters = {**_which(source, chunks), "states": _IN_FORCE}
    keep(
        connection, source, {(row.tenant_id, row.day): row.missing for row in connection.execute(_MISSING, parameters)}
    )


def keep(connection: sa.Connection, source: str, most: Mapping[At, int]) -> None:
    """Leaves at most so many rows of each of these tenants' days."""
    if not most:
        return
    connection.execute(_KEEP, {**_which(source, most), "rows": list(most.values())})
    table = audit_vanished.c
    connection.execute(sa.delete(audit_vanished).where(table.source == source, table.rows <= 0))


def remember(connection: sa.Connection, source: str, lost: Mapping[At, int], now: datetime) -> None:
    """Adds rows that were found to be gone at this moment."""
    if lost:
        connection.execute(_REMEMBER, {**_which(source, lost), "rows": list(lost.values()), "now": now})


def take_down(
    connection: sa.Connection, source: str, counted: Mapping[At, tuple[int, int]], now: datetime
) -> dict[At, int]:
    """Remembers what only a count of the table tells so far, and expects no more than is there.

    Args:
        connection: To the ops store.
        source: The table's name in the archive.
        counted: Of each tenant's day, the rows that should be there and those that are.
        now: The moment.

    Returns:
        The rows that were taken down; none of a day that the ledger knows otherwise by now.
    """
    if not counted:
        return {}
    came_back(connection, source, counted)
    values = {
        **_which(source, counted),
        "expected": [expected for expected, _ in counted.values()],
        "there": [there for _, there in counted.values()],
        "now": now,
    }
    lost = {(row.tenant_id, row.day): row.rows for row in connection.execute(_FEWER, values)}
    remember(connection, source, lost, now)
    return lost


def unanswered(
    connection: sa.Connection, source: str, promises: Mapping[At, restored.Promise]
) -> dict[At, tuple[Vanished, ...]]:
    """What is remembered and not back, by tenant's day, oldest notice first; nothing of a day that is all back.

    Args:
        connection: To the ops store.
        source: The table's name in the archive.
        promises: Of restores that the ledger believes and that brought nothing.
    """
    gone, chunk = audit_vanished.c, audit_chunk.c
    same = sa.and_(
        chunk.source == gone.source,
        chunk.tenant_id == gone.tenant_id,
        chunk.day == gone.day,
        chunk.state.in_(_IN_FORCE),
    )
    query = (
        sa.select(gone.tenant_id, gone.day, gone.noticed_at, gone.rows, chunk.rows.label("archived"), chunk.left_rows)
        .select_from(audit_vanished.join(audit_chunk, same))
        .where(gone.source == source)
        .order_by(gone.day, gone.tenant_id, gone.noticed_at)
    )
    found: dict[At, list[Vanished]] = defaultdict(list)
    for row in connection.execute(query):
        at = (row.tenant_id, row.day)
        left = promises[at].before if at in promises else row.left_rows
        rows = min(row.rows, row.archived - left - sum(each.rows for each in found[at]))
        found[at] += [Vanished(row.noticed_at, rows)] if rows > 0 else []
    return {at: tuple(each) for at, each in found.items()}


def forget(connection: sa.Connection, source: str, chunks: Iterable[At]) -> None:
    """Somebody has answered for all that is remembered of these tenants' days."""
    keep(connection, source, dict.fromkeys(chunks, 0))


def _sealed_before(connection: sa.Connection, manifest: Manifest, new: Mapping[UUID, Chunk]) -> dict[UUID, int]:
    """Of how many rows of each tenant it was known that the table does not hold them."""
    table = audit_chunk.c
    query = sa.select(table.tenant_id, table.day, table.rows, table.left_rows, table.staying).where(
        table.source == manifest.source,
        table.day == manifest.first_day,
        table.state.in_(_IN_FORCE),
        table.revision < manifest.revision,
    )
    known = [row for row in connection.execute(query) if row.tenant_id in new]
    fewer = any(new[row.tenant_id].live.rows < row.left_rows for row in known)
    promises = restored.open_promises(connection, manifest.source) if fewer else {}
    found: dict[UUID, int] = {}
    for row in known:
        left, live = row.left_rows, new[row.tenant_id].live.rows
        promise = promises.get((row.tenant_id, row.day))
        # What was to come back and did not, or what we have deleted and not written down yet, was not expected.
        if promise is not None and live <= promise.before:
            left = min(left, promise.before)
        elif row.staying is not None and live <= row.staying["rows"]:
            left = row.staying["rows"]
        found[row.tenant_id] = row.rows - left
    return found


def _which(source: str, chunks: Collection[At]) -> dict[str, Any]:
    return {"source": source, "tenants": [each for each, _ in chunks], "days": [day for _, day in chunks]}
