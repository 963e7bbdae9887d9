"""The databases: the ops store, the backend's, the warehouse.

Belongs here: whether they answer, are what they should be, and let our roles do what they must. Does not belong here:
what stands in them (`registry`, `dbt`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from adinsights_orchestration.doctor.model import Verdict, fail, ok, some, warn
from adinsights_orchestration.doctor.world import CONNECT_SECONDS, World
from adinsights_orchestration.ops_store.revisions import standing
from adinsights_orchestration.transformation.warehouse import WarehouseError

CONNECTION_TABLE, AUDIT_TABLE = "integrations_airbyteconnection", "accounts_auditlog"
_WAREHOUSE = "ADINSIGHTS_WAREHOUSE__*"
# One server and one database in it: the moment the server started, its port, the database's own number.
_IDENTITY = """select pg_postmaster_start_time()::text, current_setting('port'), oid::text
                 from pg_database where datname = current_database()"""


def ops_store(world: World) -> Verdict:
    """The ops store answers and is at the newest revision; one that a newer release brought further is a warning."""
    with world.ops_store.get().begin() as connection:
        found = standing(connection)
        version = str(connection.execute(sa.text("show server_version")).scalar_one()).split()[0]
    if found.is_newer:
        return warn(found.said, "Right after going back to an older release; else deploy the newer one here too.")
    if found.revision != found.newest:
        return fail(
            f"the ops store is at {found.revision or 'no revision'}, the code needs {found.newest}",
            "Run `adinsights migrate`.",
        )
    return ok(f"Postgres {version}, revision {found.revision}")


def ops_store_apart(world: World) -> Verdict:
    """The ops store is not in the backend's database: a restore or a migration there would take it along."""
    with world.ops_store.get().begin() as connection:
        ours = tuple(connection.exec_driver_sql(_IDENTITY).one())
        tables = connection.execute(sa.text("select to_regclass('public.accounts_tenant')")).scalar_one()
    with world.backend_database.get().session() as session, session.transaction() as cursor:
        theirs = cursor.execute(_IDENTITY).fetchone()
    if ours == theirs or tables is not None:
        return fail(
            "the ops store is in the backend's own database", "Give ADINSIGHTS_OPS_STORE__DSN a database apart."
        )
    return ok("the ops store has a database of its own")


def backend_database(world: World) -> Verdict:
    """The backend's database answers, and its tables are readable; says whether row level security binds our role."""
    with world.backend_database.get().session() as session:
        security = session.row_security(CONNECTION_TABLE)
        with session.transaction() as cursor:
            row = cursor.execute("select current_user, count(*) from accounts_tenant").fetchone()
        with session.transaction() as cursor:
            (may_read,) = cursor.execute(
                "select has_table_privilege(%s, 'select')", (CONNECTION_TABLE,)
            ).fetchone() or (0,)
    assert row is not None
    if not may_read:
        return fail(f"role {row[0]} may not read {CONNECTION_TABLE}", "docs/tenants.md lists the grants that it needs.")
    bound = "row level security binds our role" if security.active else f"no row level security: {security.reason}"
    return ok(f"role {row[0]} sees {row[1]} tenants; {bound}")


def backend_audit_log(world: World) -> Verdict:
    """Our role may write audit rows: a manual sync must leave one."""
    with world.backend_database.get().session() as session:
        security = session.row_security(AUDIT_TABLE)
        with session.transaction() as cursor:
            (may_write,) = cursor.execute("select has_table_privilege(%s, 'insert')", (AUDIT_TABLE,)).fetchone() or (0,)
    if not may_write:
        return fail(f"our role may not insert into {AUDIT_TABLE}", "docs/tenants.md lists the grants that it needs.")
    return ok("audit rows can be written" + (", tenant by tenant" if security.active else ""))


def warehouse(world: World) -> Verdict:
    """The warehouse answers, and our role may create the models' schemas."""
    with warehouse_connection(world) as connection:
        row = connection.execute(
            "select current_user, has_database_privilege(current_database(), 'create'),"
            " (select count(*) from pg_namespace where nspname like any(%s))",
            ([f"{world.settings.dbt.schema_}%"],),
        ).fetchone()
    assert row is not None
    role, may_create, schemas = row
    if not may_create and not schemas:
        database = world.settings.warehouse.dbname
        return fail(
            f"role {role} may not create schemas in {database}", f"grant create on database {database} to {role};"
        )
    return ok(f"role {role} can build the models; {schemas} of their schemas exist")


def warehouse_sources(world: World) -> Verdict:
    """Raw schemas of the enabled providers exist and are readable; one that never synced has none yet."""
    wanted = [f"raw_{provider.value}" for provider in world.settings.dbt.enabled_providers]
    with warehouse_connection(world) as connection:
        rows = connection.execute(
            """select nspname, has_schema_privilege(nspname, 'usage')
                      and coalesce(bool_and(has_table_privilege(c.oid, 'select')), true)
                 from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p')
                where nspname = any(%s) group by nspname""",
            (wanted,),
        ).fetchall()
    readable = dict(rows)
    closed = [name for name, may in readable.items() if not may]
    missing = [name for name in wanted if name not in readable]
    if closed:
        return fail(
            f"our role may not read {some(closed)}", f"grant usage on schema {closed[0]} and select on its tables."
        )
    if missing:
        return warn(
            f"no raw data yet in {some(missing)}",
            "Sync one of its connections, or leave its provider out of the models.",
        )
    return ok(f"{len(wanted)} raw schemas are readable")


@contextmanager
def warehouse_connection(world: World) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection to the warehouse; its failure is a `WarehouseError`."""
    address = world.settings.warehouse
    try:
        with psycopg.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password.get_secret_value(),
            dbname=address.dbname,
            connect_timeout=CONNECT_SECONDS,
            application_name="adinsights-doctor",
            options=f"-c statement_timeout={CONNECT_SECONDS * 1000}",
        ) as connection:
            yield connection
    except psycopg.Error as error:
        reason = next(iter(str(error).strip().splitlines()), "no answer")
        raise WarehouseError(
            f"the warehouse does not serve us ({reason})",
            place=_WAREHOUSE,
            next_step="Check that Postgres is up, and address, role and password.",
        ) from None
