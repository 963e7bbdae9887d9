"""A run that fails or dies has told each tenant what it lost, exactly, and the next one tells it nothing twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.retention.account import Account
from adinsights_orchestration.audit_log.retention.chunks import ChunkLedger, Live, Proof
from adinsights_orchestration.audit_log.retention.deletion import Content
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.retention.settling import went
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source
from adinsights_orchestration.audit_log.store.errors import StoreError
from adinsights_orchestration.audit_log.table.reaching import TableError
from adinsights_orchestration.ops_store.audit_tables import audit_run
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import NOW, TODAY, World, seal, serve, settings_for
from tests.audit_log.rows import TABLE, Row, ids, insert, moment, some_rows
from tests.backend.backend_tables import Backend

FIRST = TODAY - timedelta(days=375)
DAYS = [FIRST + timedelta(days=number) for number in range(14)]
ONE, TWO = UUID(int=1), UUID(int=2)
TENANTS = (Tenant(ONE, "One", "one"), Tenant(TWO, "Two", "two"))
INDEX = f"create index by_tenant_and_time on {TABLE} (tenant_id, created_at)"
HANG_UP = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'adinsights-audit'"
WALK = "adinsights_orchestration.audit_log.retention.walk"
BY_AGE = "adinsights_orchestration.audit_log.retention.by_age"


@pytest.fixture
def world(backend: Backend, ops_store: OpsStore) -> World:
    for tenant in TENANTS:
        backend.add_tenant(tenant.name, tenant.id)
    serve(ops_store, TENANTS)
    return World(backend.dsn, ops_store, settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value()))


@pytest.fixture
def rows(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Two weeks of archived rows around the end of the window, deleted in small pieces."""
    made = some_rows([ONE, TWO], len(DAYS), 40, rng=random.Random(1), first=FIRST)
    insert(world.backend, made)
    world.execute(INDEX)
    seal(world.settings, world.store, DAYS)
    for module in (WALK, BY_AGE):
        for name in ("_FIRST_ROWS", "_LEAST_ROWS", "_MOST_ROWS"):
            monkeypatch.setattr(f"{module}.{name}", 50)
    return made


def lost(world: World, rows: list[Row]) -> dict[UUID, int]:
    """Rows that are not in the table any more."""
    left = ids(world.backend)
    return dict(sorted(Counter(row.tenant for row in rows if row.id not in left).items()))


def told(world: World) -> dict[UUID, int]:
    """Rows that the tenants were told of by all runs together."""
    with world.store.begin() as connection:
        found = connection.execute(sa.select(audit_entry).where(audit_entry.c.tenant_id.is_not(None))).all()
    counted = Counter[UUID]()
    for row in found:
        assert row.detail["first_day"] <= row.detail["last_day"]
        counted[row.tenant_id] += row.detail["rows"]
    return dict(sorted(counted.items()))


def runs(world: World) -> list[tuple[bool, bool]]:
    """Of each run whether its end was written down, and whether it failed."""
    with world.store.begin() as connection:
        found = connection.execute(sa.select(audit_run).order_by(audit_run.c.started_at, audit_run.c.finished_at)).all()
    return [(row.finished_at is not None, row.error is not None) for row in found]


def at_call(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int, then: Callable[[], object]) -> None:
    """Lets something happen after that call of a method."""
    original, calls = getattr(owner, name), list[int]()

    def called(*arguments: object) -> object:
        answer = original(*arguments)
        calls.append(1)
        if len(calls) == number:
            then()
        return answer

    monkeypatch.setattr(owner, name, called)


def test_a_run_that_fails_has_told_every_tenant_what_went_before(
    world: World, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_call(monkeypatch, ChunkLedger, "begin", 3, lambda: world.execute(HANG_UP))
    with pytest.raises(TableError):
        world.retain()
    assert sum(lost(world, rows).values()) >= 50
    assert told(world) == lost(world, rows)
    assert runs(world) == [(True, True)]
    world.retain()
    assert told(world) == lost(world, rows)
    assert not [row for row in rows if row.day < TODAY - timedelta(days=365) and row.id in ids(world.backend)]
    assert runs(world) == [(True, True), (True, False)]


def test_a_day_archived_anew_that_fails_does_not_leave_what_went_before_untold(world: World, rows: list[Row]) -> None:
    insert(world.backend, [Row(ONE, moment(DAYS[2], 30))])
    run = Retention(world.settings, world.store, AUDIT_LOG, lambda: NOW, "a test", no_store, apply=True)
    report = run.run()
    assert "the store is away" in report.not_rearchived[DAYS[2]]
    assert report.failure
    assert told(world) == lost(world, rows)
    assert sum(told(world).values()) > 0


def no_store(source: Source, days: Sequence[date]) -> None:
    raise StoreError("the store is away", place="s3://nowhere")


@pytest.mark.parametrize("committed", [True, False])
def test_a_run_that_died_is_accounted_for_by_the_next_one_exactly(
    world: World, rows: list[Row], monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """It dies right before or right after a COMMIT of which the ledger does not know; a hold comes before the next."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Account, "close", lambda *_: None)
        if committed:
            at_call(dying, ChunkLedger, "begin", 3, lambda: dying.setattr(ChunkLedger, "finish", die))
        else:
            at_call(dying, ChunkLedger, "begin", 3, die)
        with pytest.raises(KeyboardInterrupt):
            world.retain()
    assert told(world) == {}
    assert runs(world) == [(False, False)]
    assert world.states()["deleting"] > 0
    went = lost(world, rows)
    serve(world.store, [Tenant(each.id, each.name, each.slug, legal_hold=True) for each in TENANTS])
    world.retain()
    assert told(world) == lost(world, rows) == went
    assert world.states().get("deleting") is None
    assert runs(world) == [(True, True), (True, False)]
    serve(world.store, TENANTS)
    assert world.retain(rearchive=False).unequal == []
    assert told(world) == lost(world, rows)


def by_age(world: World, **retention: object) -> World:
    ops = world.store._settings.dsn.get_secret_value()
    return replace(world, settings=settings_for(world.backend, ops, archive="off", **retention))


def test_by_age_a_run_that_fails_tells_of_one_transaction_too_many_at_most(
    world: World, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_call(monkeypatch, Account, "begin", 3, lambda: world.execute(HANG_UP))
    with pytest.raises(TableError):
        by_age(world).retain()
    assert sum(lost(world, rows).values()) == 100
    assert sum(told(world).values()) == 150
    by_age(world).retain()
    assert sum(told(world).values()) == sum(lost(world, rows).values()) + 50


@pytest.mark.parametrize("way", ["by index", "by pages", "bound by row level security"])
def test_by_age_rows_that_somebody_is_at_wait_and_all_others_go(world: World, rows: list[Row], way: str) -> None:
    retention: dict[str, object] = {"lock_timeout_seconds": 0.1}
    if way == "by pages":
        world.execute("drop index by_tenant_and_time")
    if way == "bound by row level security":
        world.execute(f"create role bound_by_age login password 'x'; grant select, delete on {TABLE} to bound_by_age")
        retention["dsn"] = psycopg.conninfo.make_conninfo(world.backend, user="bound_by_age", password="x")
    due = [row for row in rows if row.day < TODAY - timedelta(days=365)]
    at = max((row for row in due if row.tenant == ONE), key=lambda row: row.at)
    aged = by_age(world, **retention)
    with psycopg.connect(world.backend) as other:
        other.execute(f"select from {TABLE} where id = %s for update", (at.id,))
        report = aged.retain()
        assert report.blocked == {(ONE, TODAY - timedelta(days=366)): "LockNotAvailable"}
        left = {row.id for row in due} & ids(world.backend)
        assert at.id in left
        assert left <= {row.id for row in due if row.tenant == ONE}
        assert told(world) == lost(world, rows) == report.by_tenant()
    assert aged.retain().blocked == {}
    assert ids(world.backend) == {row.id for row in rows} - {row.id for row in due}
    assert told(world) == lost(world, rows)


def test_by_age_a_backlog_goes_in_many_short_transactions(world: World, rows: list[Row]) -> None:
    due = len([row for row in rows if row.day < TODAY - timedelta(days=365)])
    assert due > 300
    world.execute("create table pieces (rows int)")
    world.execute(
        "create function counts() returns trigger language plpgsql as"
        " $$begin insert into pieces select count(*) from gone; return null; end$$"
    )
    world.execute(
        f"create trigger counts after delete on {TABLE} referencing old table as gone"
        " for each statement execute function counts()"
    )
    report = by_age(world).retain()
    pieces = [int(str(row[0])) for row in world.execute("select rows from pieces")]
    assert (sum(pieces), max(pieces)) == (due, 50)
    assert report.transactions == len(pieces) >= due // 50


LIVE = Live(Proof((), 16), fast=Content(10, 111), portable=Content(10, 222), staying=Content(2, 33))


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        (Content(2, 33), 8),
        (Content(3, 44), 8),  # and one that came late
        (Content(10, 111), 0),
        (Content(10, 222), 0),  # the same, by the portable digest
        (Content(10, 0), 0),  # a column is gone: it was only counted
        (Content(10, 99), 8),  # as many came late
        (Content(11, 55), 0),  # all are there, and one that came late
        (Content(9, 66), 0),  # somebody else took one
    ],
)
def test_a_deletion_that_nobody_saw_end_took_all_that_it_meant_to_or_nothing(found: Content, rows: int) -> None:
    assert went(LIVE, found) == rows
