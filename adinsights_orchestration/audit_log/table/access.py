"""What our role may do with a table of rows, asked of Postgres before anything is archived or deleted.

Belongs here: rights, row level security, and the refusals that follow from them. Does not belong here: the statements
themselves. Row level security fails silently: a role that a policy binds deletes nothing and is told so by no error,
and one that no policy binds deletes everybody's rows where a statement names no tenant. So every statement names its
tenants, a role that is bound goes tenant by tenant, one that is not runs with `row_security = off`, which turns a
policy that would filter into an error, and whatever looks like neither is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from psycopg import sql

from adinsights_orchestration.backend.database import TENANT_SETTING, Cursor, row_security
from adinsights_orchestration.errors import AdinsightsError

OLDEST_SERVER = 14  # the first that reads a range of row addresses without reading the whole table
_TENANTS = "accounts_tenant"
_GRANTS = "docs/audit-log.md lists the grants that the role needs."


class AuditAccessError(AdinsightsError):
    """The role may not do this, or would silently do something else; nothing was changed."""


class Right(StrEnum):
    """What a role may be asked to do with a table."""

    SELECT = "SELECT"
    DELETE = "DELETE"
    INSERT = "INSERT"


# The letters under which Postgres keeps the command of a policy; `*` is for all of them.
_POLICY_COMMANDS = {Right.SELECT: "r", Right.DELETE: "d", Right.INSERT: "a"}


@dataclass(frozen=True, slots=True)
class Access:
    """How a table is reached.

    Attributes:
        per_tenant: Row level security binds the role: each transaction stands in one tenant and sees only its rows.
        reason: Why it does not bind, where it does not.
        server_major: The server's major version.
    """

    per_tenant: bool
    reason: str
    server_major: int

    def groups(self, tenant_ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
        """The tenants that one statement can reach at once, group by group."""
        if self.per_tenant:
            yield from ([each] for each in tenant_ids)
        elif tenant_ids:
            yield tenant_ids

    def stand_in(self, cursor: Cursor, tenant_ids: Sequence[UUID]) -> None:
        """Makes the transaction see the rows of these tenants, a group of `groups`; to be called in each of them."""
        if not self.per_tenant:
            cursor.execute("set local row_security = off")
            return
        (tenant_id,) = tenant_ids
        cursor.execute("select set_config(%s, %s, true)", (TENANT_SETTING, str(tenant_id)))


def require_access(
    cursor: Cursor,
    table: str,
    tenant_ids: Sequence[UUID],
    rights: Sequence[Right],
    *,
    tenant: str | None = "tenant_id",
) -> Access:
    """Returns how the role reaches the table, or refuses.

    Args:
        cursor: Of a transaction of its own, which may be left standing in a tenant.
        table: The table, as Postgres resolves its name.
        tenant_ids: Every tenant that is known; a role that is bound cannot see any other's rows.
        rights: What it is about to do.
        tenant: The column that tells whose a row is; None where rows belong to nobody.

    Raises:
        AuditAccessError: A right is missing, or the role would silently do nothing or reach beyond its tenant.
    """
    major = _server_major(cursor)
    _require_rights(cursor, table, rights)
    found = row_security(cursor, table)
    if found.active:
        _require_policies(cursor, table, rights)
        if tenant is None:
            raise AuditAccessError(
                f"row level security binds our role on {table}, whose rows belong to no tenant",
                place="the audit role",
                next_step=f"It would silently see only some of them. {_GRANTS}",
            )
        # What a disaster emptied is restored into at once, whatever is known of it: what is written is read back there.
        _require_sight(cursor, table, tenant_ids, tenant, doubts=Right.INSERT not in rights)
    return Access(found.active, found.reason, major)


def tenants_to_stand_in(cursor: Cursor, table: str) -> tuple[UUID, ...]:
    """Every tenant of the backend where row level security binds the role on a table; none where one scan sees all.

    The backend is asked and not the registry: what a tenant wrote yesterday that signed up since the registry was read
    would be archived for nobody.

    Raises:
        AuditAccessError: The role is bound and may not read who the tenants are.
    """
    if not row_security(cursor, table).active:
        return ()
    _require_rights(cursor, _TENANTS, [Right.SELECT])
    cursor.execute(sql.SQL("select id from {} order by id").format(sql.Identifier(_TENANTS)))
    return tuple(row[0] for row in cursor.fetchall())


def _server_major(cursor: Cursor) -> int:
    major = cursor.connection.info.server_version // 10_000
    if major < OLDEST_SERVER:
        raise AuditAccessError(
            f"PostgreSQL {major} cannot read a table piece by piece",
            next_step=f"Retention needs PostgreSQL {OLDEST_SERVER} or newer.",
        )
    return major


def _require_rights(cursor: Cursor, table: str, rights: Sequence[Right]) -> None:
    cursor.execute(
        "select r from unnest(%s::text[]) r where not has_table_privilege(current_user, %s::regclass, r)",
        ([right.value for right in rights], table),
    )
    missing = [str(row[0]) for row in cursor.fetchall()]
    if missing:
        raise AuditAccessError(
            f"our role lacks {' and '.join(missing)} on {table}", place="the audit role", next_step=_GRANTS
        )


def _require_policies(cursor: Cursor, table: str, rights: Sequence[Right]) -> None:
    """Without a permissive policy for its command, a statement of a bound role finds no row and says nothing."""
    cursor.execute(
        """select polcmd::text from pg_policy
            where polrelid = %s::regclass and polpermissive
              and (polroles = '{0}' or exists (
                    select from unnest(polroles) member where pg_has_role(current_user, member, 'USAGE')))""",
        (table,),
    )
    commands = {str(row[0]) for row in cursor.fetchall()}
    blind = [right.value for right in rights if not commands & {"*", _POLICY_COMMANDS[right]}]
    if blind:
        raise AuditAccessError(
            f"row level security on {table} has no policy for {' and '.join(blind)} by our role, which would silently"
            " do nothing",
            place="the audit role",
            next_step=_GRANTS,
        )


def _require_sight(cursor: Cursor, table: str, tenant_ids: Sequence[UUID], tenant: str, *, doubts: bool) -> None:
    """Refuses a policy that hides every tenant's rows from us, or shows one tenant another's."""
    name = sql.Identifier(*table.split("."))
    whose = sql.Identifier(tenant)
    any_of = sql.SQL("select exists (select from {} where {} = %s)").format(name, whose)
    beyond = sql.SQL("select exists (select from {} where {} <> %s)").format(name, whose)
    for tenant_id in tenant_ids:
        cursor.execute("select set_config(%s, %s, true)", (TENANT_SETTING, str(tenant_id)))
        if not _truth(cursor, any_of, tenant_id):
            continue
        if _truth(cursor, beyond, tenant_id):
            raise AuditAccessError(
                f"the policies of {table} show one tenant the rows of others",
                place="the audit role",
                next_step=f"A policy other than `{tenant} = current_setting('app.tenant_id')::uuid` lets it; mend it.",
            )
        return
    _require_empty(cursor, table, f"standing in any of {len(tenant_ids)} tenants", doubts=doubts)


def _require_empty(cursor: Cursor, table: str, where: str, *, doubts: bool) -> None:
    """Refuses what seems to have no row unless Postgres, which policies do not bind, says so too.

    What it counts as it goes is zero again after a crash, a restore or a reset; what it found when it last analyzed the
    table stays, and says nothing of pages that came since. Without `doubts` only what it counts as it goes is asked.
    """
    cursor.execute(
        """select coalesce(s.n_live_tup, 0), c.reltuples::bigint, c.relpages,
                  pg_relation_size(c.oid) / current_setting('block_size')::bigint
             from pg_class c left join pg_stat_all_tables s on s.relid = c.oid where c.oid = %s::regclass""",
        (table,),
    )
    ((counted, analyzed, pages_then, pages),) = cursor.fetchall()
    if rows := counted or (max(analyzed, 0) if doubts else 0):
        raise AuditAccessError(
            f"our role sees none of the about {rows} rows of {table}, {where}",
            place="the audit role",
            next_step=f"Its policies read another setting than {TENANT_SETTING}, or no tenant is known. {_GRANTS}",
        )
    if doubts and pages > (pages_then if analyzed == 0 else 0):
        raise AuditAccessError(
            f"our role sees no row of {table}, {where}, and Postgres does not know whether its {pages} pages hold any",
            place="the audit role",
            next_step=f"Its statistics are gone or old: run `analyze {table}` as its owner, then try again.",
        )


def _truth(cursor: Cursor, query: sql.Composed, tenant_id: UUID) -> bool:
    row = cursor.execute(query, (tenant_id,)).fetchone()
    return row is not None and bool(row[0])
