"""A run of retention: what goes, what stays and why, and what is recorded of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from adinsights_orchestration.audit_log.holds import add_hold
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.looking import census_of
from adinsights_orchestration.audit_log.retention.pace import Pace
from adinsights_orchestration.audit_log.retention.policy import RetentionRefusedError
from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport, lock_name
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source
from adinsights_orchestration.audit_log.table.reaching import TableError
from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from adinsights_orchestration.ops_store.audit_tables import audit_chunk
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import ResourceHold, Tenant
from tests.audit_log.archived import NOW, TODAY, World, seal, serve, settings_for
from tests.audit_log.rows import TABLE, Row, ids, insert, moment, some_rows
from tests.backend.backend_tables import Backend

FIRST = TODAY - timedelta(days=375)
DAYS = [FIRST + timedelta(days=number) for number in range(14)]
KEPT_FROM = TODAY - timedelta(days=365)
ONE, TWO, LONG = UUID(int=1), UUID(int=2), UUID(int=3)
TENANTS = (Tenant(ONE, "One", "one"), Tenant(TWO, "Two", "two"), Tenant(LONG, "Long", "long", retention_days=730))


@pytest.fixture
def world(backend: Backend, ops_store: OpsStore) -> World:
    for tenant in TENANTS:
        backend.add_tenant(tenant.name, tenant.id)
    ops = ops_store._settings.dsn.get_secret_value()
    return World(backend.dsn, ops_store, settings_for(backend.dsn, ops))


@pytest.fixture
def rows(world: World) -> list[Row]:
    """Two weeks of archived rows around the end of the window."""
    made = some_rows([ONE, TWO, LONG], len(DAYS), 40, rng=random.Random(1), first=FIRST)
    insert(world.backend, made)
    seal(world.settings, world.store, DAYS)
    serve(world.store, TENANTS)
    return made


def due(row: Row) -> bool:
    return row.day < KEPT_FROM and row.tenant != LONG


def due_days() -> list[date]:
    return [day for day in DAYS if day < KEPT_FROM]


def entries(world: World) -> list[tuple[UUID | None, int, str]]:
    with world.store.begin() as connection:
        found = connection.execute(sa.select(audit_entry).order_by(audit_entry.c.tenant_id)).all()
    return [(row.tenant_id, row.detail["rows"], row.detail["actor"]) for row in found]


def test_rows_past_their_tenants_window_go_and_all_others_stay(world: World, rows: list[Row]) -> None:
    report = world.retain()
    assert ids(world.backend) == {row.id for row in rows if not due(row)}
    assert report.rows == len([row for row in rows if due(row)])
    assert (report.unequal, report.left, report.gone) == ([], [], [])
    assert set(world.states()) == {"deleted", "sealed"}
    again = world.retain()
    assert (again.rows, again.gone) == (0, [])


def test_a_run_by_hand_tells_exactly_what_would_go_and_changes_nothing(world: World, rows: list[Row]) -> None:
    told = world.retain(apply=False)
    assert told.dry_run
    assert ids(world.backend) == {row.id for row in rows}
    assert (world.states(), entries(world)) == ({"sealed": world.states()["sealed"]}, [])
    done = world.retain()
    assert told.by_tenant_and_month() == done.by_tenant_and_month()
    assert set(told.by_tenant()) == {ONE, TWO}


def test_each_tenant_that_lost_rows_is_told_in_its_own_audit_log_and_nobody_else(world: World, rows: list[Row]) -> None:
    world.retain()
    lost = {tenant: len([row for row in rows if due(row) and row.tenant == tenant]) for tenant in (ONE, TWO)}
    assert entries(world) == [(ONE, lost[ONE], "a test"), (TWO, lost[TWO], "a test")]


def test_a_run_that_concerned_nobody_is_in_the_journal(world: World) -> None:
    serve(world.store, TENANTS)
    world.retain()
    assert entries(world) == [(None, 0, "a test")]


def test_a_day_that_differs_is_archived_anew_and_then_goes(world: World, rows: list[Row]) -> None:
    late = Row(ONE, moment(DAYS[2], 30))
    insert(world.backend, [late])
    report = world.retain()
    assert (report.rearchived, world.resealed) == ([DAYS[2]], [DAYS[2]])
    assert ids(world.backend) == {row.id for row in rows if not due(row)}
    assert world.states()["superseded"] >= 1


def test_a_day_that_differs_stays_where_it_cannot_be_archived_anew(world: World, rows: list[Row]) -> None:
    changed = next(row for row in rows if due(row))
    world.execute(f"update {TABLE} set metadata = '{{}}' where id = %s", changed.id)
    report = world.retain(rearchive=False)
    assert report.unequal == [(changed.tenant, changed.day)]
    same = {row.id for row in rows if (row.tenant, row.day) == (changed.tenant, changed.day)}
    assert ids(world.backend) == {row.id for row in rows if not due(row)} | same


def test_rows_that_were_never_archived_stay(world: World, rows: list[Row]) -> None:
    older = Row(ONE, moment(FIRST - timedelta(days=30)))
    insert(world.backend, [older])
    world.retain()
    assert older.id in ids(world.backend)


def test_a_legal_hold_keeps_a_tenant_and_a_restore_hold_its_days_until_it_ends(world: World, rows: list[Row]) -> None:
    serve(world.store, (Tenant(ONE, "One", "one", legal_hold=True), *TENANTS[1:]))
    until = NOW + timedelta(days=7)
    hold = Hold(HoldKind.RESTORE, "an inquiry", TWO, first_day=DAYS[0], last_day=DAYS[3], until=until)
    with world.store.begin() as connection:
        add_hold(connection, AUDIT_LOG.name, hold, "somebody", NOW)
    world.retain()
    gone = {row.id for row in rows if row.tenant == TWO and row.day > DAYS[3] and due(row)}
    assert ids(world.backend) == {row.id for row in rows} - gone
    serve(world.store, (Tenant(ONE, "One", "one", legal_hold=True), *TENANTS[1:]), now=until)
    world.retain(now=until)
    left = {row.tenant for row in rows if row.id in ids(world.backend) and row.day <= DAYS[3]}
    assert left == {ONE, LONG}


def test_a_hold_on_a_resource_keeps_its_rows_night_after_night_until_it_is_lifted(
    world: World, rows: list[Row]
) -> None:
    held = [Row(ONE, moment(day, 60), "user", "7") for day in DAYS[:5]]
    insert(world.backend, held)
    seal(world.settings, world.store, DAYS[:5])
    serve(world.store, (Tenant(ONE, "One", "one", legal_holds=(ResourceHold("user", "7"),)), *TENANTS[1:]))
    for _ in range(2):
        report = world.retain()
        assert (report.unequal, report.rearchived, report.gone) == ([], [], [])
        assert ids(world.backend) == {row.id for row in rows if not due(row)} | {row.id for row in held}
    serve(world.store, TENANTS)
    assert world.retain().rows == len(held)
    assert world.states().get("deleting") is None


def test_what_somebody_else_deleted_is_recorded_as_gone(world: World, rows: list[Row]) -> None:
    world.execute(f"delete from {TABLE} where tenant_id = %s", ONE)
    report = world.retain()
    assert {tenant for tenant, _ in report.gone} == {ONE}
    assert not world.retain().gone


def test_another_major_version_of_the_server_is_compared_by_the_portable_digest(world: World, rows: list[Row]) -> None:
    with world.store.begin() as connection:
        connection.execute(sa.text("update adinsights_ops.audit_day set server_major = 15"))
        connection.execute(sa.text("update adinsights_ops.audit_chunk set left_fast = 0"))
    report = world.retain(rearchive=False)
    assert report.unequal == []
    assert ids(world.backend) == {row.id for row in rows if not due(row)}


def test_a_column_that_was_added_since_is_no_difference(world: World, rows: list[Row]) -> None:
    world.execute(f"alter table {TABLE} add column region text")
    assert world.retain(rearchive=False).unequal == []
    assert ids(world.backend) == {row.id for row in rows if not due(row)}


def test_days_of_which_a_column_was_dropped_stay_as_they_were_archived_and_all_others_go(
    world: World, rows: list[Row]
) -> None:
    first = due_days()[0]
    world.execute(f"alter table {TABLE} drop column metadata")
    seal(world.settings, world.store, [first])  # somebody decided that this day may go without it
    told, report = world.retain(apply=False), world.retain()
    assert told.incomparable == report.incomparable
    assert {day for _, day in report.incomparable} == set(due_days()[1:])
    assert set(report.incomparable.values()) == {"without column metadata"}
    assert (report.rearchived, world.resealed) == ([], [])  # the revision in force would lose the column
    assert (report.unequal, report.left, report.blocked) == ([], [], {})
    assert ids(world.backend) == {row.id for row in rows if not due(row) or row.day != first}
    assert {day for _, day in report.deleted} == {first}


HELD_NOW: dict[str, tuple[Tenant, ...]] = {
    "a legal hold": tuple(replace(tenant, legal_hold=True) for tenant in TENANTS),
    "a longer contract": tuple(replace(tenant, retention_days=1000) for tenant in TENANTS),
    "unknown tenants": (Tenant(UUID(int=4), "Four", "four"),),
    "as before": TENANTS,
}


@pytest.mark.parametrize("columns", ["all columns", "a column dropped"])
@pytest.mark.parametrize("why", list(HELD_NOW))
def test_no_day_stays_half_way_deleted_whatever_came_between(
    world: World, rows: list[Row], why: str, columns: str
) -> None:
    committed, rolled_back, late = due_days()[:3]
    with world.store.begin() as connection:
        connection.execute(
            sa.update(audit_chunk)
            .where(audit_chunk.c.day.in_((committed, rolled_back, late)))
            .values(state="deleting", staying={"rows": 0, "fast": "0"})
        )
    world.execute(f"delete from {TABLE} where created_at::date in (%s, %s)", committed, late)
    insert(world.backend, [Row(ONE, moment(late, 30))])
    if columns == "a column dropped":
        world.execute(f"alter table {TABLE} drop column metadata")
    serve(world.store, HELD_NOW[why])
    report = world.retain(rearchive=False)
    assert (report.gone, report.blocked) == ([], {})
    goes_on = why == "as before" and columns == "all columns"
    there = ids(world.backend)
    assert {row.id for row in rows if row.day == rolled_back and due(row)} & there == (
        set() if goes_on else {row.id for row in rows if row.day == rolled_back and due(row)}
    )
    assert states_of(world, committed, TWO) == ["deleted"]
    assert states_of(world, rolled_back, TWO) == ["deleted" if goes_on else "sealed"]
    assert (states_of(world, late, ONE), states_of(world, late, TWO)) == (["sealed"], ["deleted"])
    assert world.states().get("deleting") is None
    told = {tenant: count for tenant, count, _ in entries(world)}
    assert told[TWO] == len([row for row in rows if row.tenant == TWO and row.id not in there])


def states_of(world: World, day: date, tenant: UUID) -> list[str]:
    """The states of a tenant's day, one a revision."""
    chunk = audit_chunk.c
    with world.store.begin() as connection:
        found = connection.execute(sa.select(chunk.state).where(chunk.day == day, chunk.tenant_id == tenant))
        return list(found.scalars())


def test_a_dry_run_asks_the_archive_as_the_night_will(world: World, rows: list[Row]) -> None:
    lost = (ONE, due_days()[0])

    def asked(source: Source, chunks: Sequence[At]) -> Mapping[At, str]:
        return {at: "an object is missing" for at in chunks if at == lost}

    def run(*, apply: bool) -> RetentionReport:
        return Retention(world.settings, world.store, AUDIT_LOG, lambda: NOW, "a test", None, apply, asked).run()

    told = run(apply=False)
    assert told.unproven == {lost: "an object is missing"}
    assert lost not in told.deleted
    done = run(apply=True)
    assert (told.deleted, told.unproven) == (done.deleted, done.unproven)
    assert done.rows == len([row for row in rows if due(row) and (row.tenant, row.day) != lost])


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize(
    "column", ["region text", "level integer not null default 5", "seen timestamptz default now()"]
)
def test_a_value_in_a_column_that_was_added_since_is_archived_before_its_row_goes(
    world: World, rows: list[Row], column: str, portable: bool
) -> None:
    name = column.split(maxsplit=1)[0]
    world.execute(f"alter table {TABLE} add column {column}")
    if portable:
        with world.store.begin() as connection:
            connection.execute(sa.text("update adinsights_ops.audit_day set server_major = 15"))
    changed = next(row for row in rows if due(row))
    value = {"region": "eu", "level": 6, "seen": NOW}[name]
    world.execute(f"update {TABLE} set {name} = %s where id = %s", value, changed.id)
    report = world.retain(rearchive=False)
    assert report.unequal == [(changed.tenant, changed.day)]
    mates = {row.id for row in rows if (row.tenant, row.day) == (changed.tenant, changed.day)}
    assert ids(world.backend) == {row.id for row in rows if not due(row)} | mates
    assert world.retain().rearchived == [changed.day]
    assert ids(world.backend) == {row.id for row in rows if not due(row)}


@pytest.mark.parametrize("attributes", ["bypassrls", "nobypassrls"])
def test_the_documented_role_does_it_all(world: World, rows: list[Row], attributes: str) -> None:
    world.execute(f"create role audit_{attributes} login password 'x' {attributes}")
    world.execute(f"grant select, delete, insert on {TABLE} to audit_{attributes}")
    dsn = psycopg.conninfo.make_conninfo(world.backend, user=f"audit_{attributes}", password="x")
    world.settings = settings_for(world.backend, world.store._settings.dsn.get_secret_value(), dsn=dsn)
    assert conninfo_to_dict(dsn)["user"] == f"audit_{attributes}"
    report = world.retain(rearchive=False)
    assert ids(world.backend) == {row.id for row in rows if not due(row)}
    assert bool(report.reason) is (attributes == "bypassrls")


def test_without_an_archive_age_alone_decides_and_holds_still_hold(world: World, rows: list[Row]) -> None:
    unsealed = Row(TWO, moment(FIRST - timedelta(days=30)))
    held = Row(ONE, moment(FIRST - timedelta(days=30)), "user", "7")
    insert(world.backend, [unsealed, held])
    ops = world.store._settings.dsn.get_secret_value()
    world.settings = settings_for(world.backend, ops, archive="off")
    serve(world.store, (Tenant(ONE, "One", "one", legal_holds=(ResourceHold("user", "7"),)), *TENANTS[1:]))
    told = world.retain(apply=False)
    assert unsealed.id in ids(world.backend)
    report = world.retain()
    assert report.archive.value == "off"
    assert ids(world.backend) == {row.id for row in rows if not due(row)} | {held.id}
    assert told.by_tenant_and_month() == report.by_tenant_and_month()
    assert report.rows == len([row for row in rows if due(row)]) + 1


def test_nothing_is_deleted_while_the_registry_is_not_to_be_trusted(world: World, rows: list[Row]) -> None:
    with world.store.begin() as connection:
        registry_store.write_failure(connection, "tenants.yaml:3: broken", NOW)
    with pytest.raises(RetentionRefusedError, match=r"tenants.yaml:3: broken.*legal hold might be missed"):
        world.retain()
    assert ids(world.backend) == {row.id for row in rows}


def test_nothing_is_deleted_before_the_registry_was_ever_read(world: World) -> None:
    with pytest.raises(RetentionRefusedError, match="never read"):
        world.retain()


def test_two_runs_do_not_delete_at_once(world: World, rows: list[Row]) -> None:
    with world.store.exclusive(lock_name(AUDIT_LOG)), pytest.raises(RetentionRefusedError, match="already"):
        world.retain()


def test_a_run_gives_way_while_others_wait_for_locks(
    world: World, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.execute("create table elsewhere (n int)")
    with psycopg.connect(world.backend) as holder, psycopg.connect(world.backend) as waiter:
        holder.execute("lock table elsewhere")
        pause = Pace._pause

        def once(pace: Pace, seconds: float) -> None:
            pause(pace, seconds)
            holder.rollback()  # the other need not wait any longer

        monkeypatch.setattr(Pace, "_pause", once)
        thread = threading.Thread(target=waiter.execute, args=("lock table elsewhere",))
        thread.start()
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        while world.execute(waiting + " and datname = current_database()") == [(0,)]:
            pass
        report = world.retain()
        holder.rollback()
        thread.join()
    assert report.paused_seconds > 0
    assert ids(world.backend) == {row.id for row in rows if not due(row)}


def test_days_are_utc_whatever_the_sessions_timezone(world: World, rows: list[Row]) -> None:
    edge = Row(ONE, moment(KEPT_FROM))
    insert(world.backend, [edge])
    seal(world.settings, world.store, [KEPT_FROM])
    name = conninfo_to_dict(world.backend)["dbname"]
    world.execute(f"alter database {name} set timezone = 'Pacific/Kiritimati'")
    world.retain()
    assert edge.id in ids(world.backend)


def test_a_database_that_does_not_answer_or_refuses_is_told_with_a_next_step_and_without_its_words(
    world: World, rows: list[Row]
) -> None:
    nowhere = psycopg.conninfo.make_conninfo(world.backend, port=1)
    elsewhere = settings_for(nowhere, world.store._settings.dsn.get_secret_value())
    for asked in (
        replace(world, settings=elsewhere).retain,
        lambda: census_of(elsewhere, world.store, AUDIT_LOG, lambda: NOW),
    ):
        with pytest.raises(TableError, match=r"refuses this \(no answer\). Check that it is up"):
            asked()
    world.execute("create function no() returns trigger language plpgsql as $$begin raise 'a row''s words'; end$$")
    world.execute(f"create trigger no before delete on {TABLE} for each row execute function no()")
    with pytest.raises(TableError, match=r"refuses this \(P0001\)") as refused:
        world.retain()
    assert "words" not in str(refused.value)
    assert ids(world.backend) == {row.id for row in rows}
