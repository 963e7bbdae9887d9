"""What stands in the way of taking a tenant's rows out of the archive, asked before anything is.

Belongs here: holds, rows that are still in the table, objects that nobody names, and whether the plan is the one that
somebody read. Does not belong here: what leaves (`offboarding`, `erasure`) and how (`removing`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from adinsights_orchestration import plan_digest
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import hash_of
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing
from adinsights_orchestration.audit_log.leaving.matching import Conditions, Key
from adinsights_orchestration.audit_log.leaving.removing import Archive, RemovalError
from adinsights_orchestration.audit_log.model import DataFile, State
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.retention.policy import current_policy
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.table.access import Right, require_access
from adinsights_orchestration.audit_log.table.reaching import connected
from adinsights_orchestration.audit_log.windows import HoldKind

_EVER = date(1, 1, 1), date(9999, 12, 31)


def obstacles(archive: Archive, tenant: UUID) -> Iterator[str]:
    """Why nothing of this tenant may leave now, in words.

    Raises:
        RetentionRefusedError: The registry cannot be trusted: a legal hold might be missed.
    """
    policy = current_policy(archive.settings, archive.ops, archive.source, archive.clock)
    mine = [hold for hold in policy.holds if hold.tenant_id in (None, tenant)]
    if any(hold.kind is HoldKind.LEGAL for hold in mine):
        yield "a legal hold is on this tenant (tenants.yaml): whoever asked for it must lift it first"
    for hold in mine:
        if hold.kind is HoldKind.RESTORE:
            yield (
                f"rows from {hold.first_day} to {hold.last_day} are restored and held until {hold.until:%Y-%m-%d}:"
                " `adinsights audit holds end ID` ends that"
            )
    known = archive.ledger.in_force(*_EVER)
    if any(each.state is State.DELETING for (whose, _), each in known.items() if whose == tenant):
        yield "rows of it are half-way deleted: let `audit_log/retention` run first"


def rows_in_table(archive: Archive, tenant: UUID) -> int:
    """How many rows of a tenant are in the table now.

    Raises:
        AuditAccessError: The role cannot see them, or would not tell.
        RemovalError: The database does not answer.
    """
    source = archive.source
    if source.tenant is None:
        return 0
    query = sql.SQL("select count(*) from {} where {}::text = %s").format(
        sql.Identifier(*source.schema_and_table), sql.Identifier(source.tenant)
    )
    return int(_ask(archive, tenant, query, (str(tenant),))[0][0])


def keys_in_table(archive: Archive, tenant: UUID, conditions: Conditions, keys: Collection[Key]) -> list[Key]:
    """Which rows of a tenant the table has now that meet the conditions, or have one of these keys, whatever they say.

    Raises:
        AuditAccessError: The role cannot see them, or would not tell.
        RemovalError: The database does not answer.
    """
    source = archive.source
    if source.tenant is None:
        return []
    meets = sql.SQL(" and ").join(sql.SQL("{}::text = %s").format(sql.Identifier(column)) for column in conditions)
    key = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in source.keys)
    arrays = sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(source.keys))
    query = sql.SQL(
        "select {key} from {table} where {tenant}::text = %s"
        " and (({meets}) or ({key}) in (select * from unnest({arrays}))) order by {key}"
    ).format(
        key=key,
        table=sql.Identifier(*source.schema_and_table),
        tenant=sql.Identifier(source.tenant),
        meets=meets,
        arrays=arrays,
    )
    columns = [[each[place] for each in keys] for place in range(len(source.keys))]
    return _ask(archive, tenant, query, (str(tenant), *conditions.values(), *columns))


def _ask(archive: Archive, tenant: UUID, query: sql.Composed, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    source = archive.source
    tenants = sorted(current_policy(archive.settings, archive.ops, source, archive.clock).windows)
    try:
        with connected(archive.settings, source) as connection:
            with connection.transaction(), connection.cursor() as cursor:
                access = require_access(cursor, source.table, tenants, [Right.SELECT], tenant=source.tenant)
            with connection.transaction(), connection.cursor() as cursor:
                access.stand_in(cursor, [tenant])
                cursor.execute(query, parameters)
                return cursor.fetchall()
    except psycopg.Error as error:  # whose own words may quote a row, or the address
        raise RemovalError(
            f"the table's database refuses this ({error.sqlstate or 'no answer'})",
            place=source.table,
            next_step="Check that it is up, and the role's grants: docs/audit-log.md lists them.",
        ) from None


def leftovers(store: Store, source: Source, tenant: UUID, standing: Standing) -> list[DataFile]:
    """A tenant's objects that no manifest names: of runs that died, since nobody archives at this moment."""
    found = []
    for key in sorted(store.keys(chain.tenant_prefix(source.name, tenant))):
        if key not in standing.named and key not in standing.gone:
            content = store.get(key)
            found.append(DataFile(key, hash_of(content), len(content), reader.rows_of_bytes(content), ()))
    return found


def require(digest: str, wanted: str, in_the_way: Sequence[str]) -> None:
    """Refuses a plan that cannot be carried out, or is not the one that was read.

    Raises:
        PlanChangedError: It is another one.
        RemovalError: Something is in the way.
    """
    plan_digest.require(digest, wanted)
    if in_the_way:
        raise RemovalError(in_the_way[0], next_step="Nothing was changed; `docs/audit-leaving.md` says what ends it.")
