"""Deleting: exactly what was sealed, whatever happens in between, and nothing else."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from uuid import UUID

import psycopg
import pytest

from adinsights_orchestration.audit_log.retention.deletion import Content, Deleter, DeletionError, Limits, Sealed
from adinsights_orchestration.audit_log.table.access import Access
from adinsights_orchestration.audit_log.table.statements import Run, Scope, runs_of_days
from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from tests.audit_log.rows import (
    FIRST,
    SHAPE,
    TABLE,
    WHOLE,
    Memory,
    Row,
    connect,
    contents,
    ids,
    insert,
    moment,
    some_rows,
    walk,
)
from tests.backend.backend_tables import Backend, create_backend
from tests.conftest import PostgresServer

DAYS = 12
CUTOFF = FIRST + timedelta(days=8)
ONE_DAY = Scope((Run((), FIRST, FIRST + timedelta(days=1)),))


@pytest.fixture
def tenants(backend: Backend) -> list[UUID]:
    return [backend.add_tenant(f"Tenant {number}") for number in range(4)]


@pytest.fixture
def rows(backend: Backend, tenants: list[UUID]) -> list[Row]:
    """Twelve days of rows, in order."""
    made = some_rows(tenants, DAYS, 60, rng=random.Random(1))
    insert(backend.dsn, made)
    return made


def kept(rows: list[Row], *others: Row) -> set[UUID]:
    """Those that must survive a deletion up to the cutoff."""
    return {row.id for row in rows if row.day >= CUTOFF} | {row.id for row in others}


WAYS = {
    "swept": {"pages": True},
    "by index": {"pages": False, "indexed": True},
    "tenant by tenant": {"pages": False},
    "bound by row level security": {"access": Access(True, "", 16)},
}


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_deletes_what_is_past_its_window_and_nothing_else(
    backend: Backend, rows: list[Row], way: str
) -> None:
    ledger = Memory()
    report = walk(backend.dsn, contents(backend.dsn, CUTOFF), ledger=ledger, **WAYS[way])  # type: ignore[arg-type]
    assert ids(backend.dsn) == kept(rows)
    assert report.rows == len(rows) - len(kept(rows))
    assert (report.unequal, report.gone, report.left, report.blocked, ledger.begun) == ([], [], [], {}, {})
    assert set(ledger.finished) == set(report.deleted)


@pytest.mark.parametrize("way", list(WAYS))
def test_a_row_that_came_after_the_archive_keeps_its_day(
    backend: Backend, rows: list[Row], tenants: list[UUID], way: str
) -> None:
    sealed = contents(backend.dsn, CUTOFF)
    late = Row(tenants[1], moment(FIRST + timedelta(days=3), 5))
    insert(backend.dsn, [late])
    report = walk(backend.dsn, sealed, **WAYS[way])  # type: ignore[arg-type]
    assert report.unequal == [(tenants[1], late.day)]
    same_day = [row for row in rows if (row.tenant, row.day) == (late.tenant, late.day)]
    assert ids(backend.dsn) == kept(rows, late, *same_day)


@pytest.mark.parametrize("way", list(WAYS))
def test_a_row_that_was_changed_after_the_archive_keeps_its_day(backend: Backend, rows: list[Row], way: str) -> None:
    sealed = contents(backend.dsn, CUTOFF)
    changed = next(row for row in rows if row.day == FIRST + timedelta(days=5))
    backend.execute(f"update {TABLE} set action = 'edited' where id = %s", changed.id)
    report = walk(backend.dsn, sealed, **WAYS[way])  # type: ignore[arg-type]
    assert report.unequal == [(changed.tenant, changed.day)]
    same_day = [row for row in rows if (row.tenant, row.day) == (changed.tenant, changed.day)]
    assert ids(backend.dsn) == kept(rows, *same_day)


@pytest.mark.parametrize("way", list(WAYS))
def test_a_tenants_day_that_was_never_sealed_stays(
    backend: Backend, rows: list[Row], tenants: list[UUID], way: str
) -> None:
    sealed = contents(backend.dsn, CUTOFF)
    unsealed = [row for row in rows if row.tenant == tenants[2] and row.day < CUTOFF]
    known = list(sealed)
    for row in unsealed:
        sealed.pop((row.tenant, row.day), None)
    walk(backend.dsn, sealed, known=known, **WAYS[way])  # type: ignore[arg-type]
    assert ids(backend.dsn) == kept(rows, *unsealed)


def test_an_unordered_table_is_emptied_all_the_same(backend: Backend, tenants: list[UUID]) -> None:
    made = some_rows(tenants, DAYS, 60, rng=random.Random(2))
    shuffled = list(made)
    random.Random(3).shuffle(shuffled)
    insert(backend.dsn, shuffled)
    report = walk(backend.dsn, contents(backend.dsn, CUTOFF))
    assert ids(backend.dsn) == kept(made)
    assert not report.unequal


def test_days_that_the_table_lost_are_told_from_days_that_differ(
    backend: Backend, rows: list[Row], tenants: list[UUID]
) -> None:
    sealed = contents(backend.dsn, CUTOFF)
    backend.execute(f"delete from {TABLE} where tenant_id = %s and created_at < %s", tenants[0], moment(CUTOFF))
    report = walk(backend.dsn, sealed)
    assert {tenant for tenant, _ in report.gone} == {tenants[0]}
    assert not report.unequal


def test_a_hold_on_a_resource_keeps_its_rows_and_lets_the_others_go(backend: Backend, tenants: list[UUID]) -> None:
    made = some_rows(tenants, DAYS, 30, rng=random.Random(4))
    held = [Row(tenants[0], moment(FIRST + timedelta(days=day), 60), "user", "7") for day in range(DAYS)]
    insert(backend.dsn, [*made, *held])
    ledger = Memory()
    hold = Hold(HoldKind.LEGAL, "a court", tenants[0], "user", "7")
    sealed = contents(backend.dsn, CUTOFF)
    report = walk(backend.dsn, sealed, ledger=ledger, holds=(hold,))
    assert ids(backend.dsn) == kept(made, *held)
    assert not report.unequal
    remaining = contents(backend.dsn, CUTOFF)
    assert {chunk: content for chunk, content in ledger.finished.items() if content.rows} == remaining
    again = walk(backend.dsn, remaining, holds=(hold,))
    assert (again.rows, again.unequal, again.gone) == (0, [], [])
    lifted = walk(backend.dsn, remaining)
    assert lifted.rows == len([row for row in held if row.day < CUTOFF])
    assert ids(backend.dsn) == kept([*made, *held])


@pytest.fixture
def deleter(backend: Backend) -> Iterator[Deleter]:
    with connect(backend.dsn) as connection:
        yield Deleter(connection, SHAPE, WHOLE, Memory(), Limits(lock_timeout_seconds=0.2))


def one_day(backend: Backend, tenants: list[UUID]) -> tuple[list[Row], Scope, dict[date, Sealed]]:
    made = [Row(tenant, moment(FIRST, 10 * number)) for number, tenant in enumerate(tenants)]
    insert(backend.dsn, made)
    scope = Scope(runs_of_days([(FIRST, frozenset(tenants))]))
    return made, scope, {FIRST: Sealed({tenant: each for (tenant, _), each in contents(backend.dsn).items()})}


def test_a_lock_that_somebody_holds_is_given_way_to(backend: Backend, deleter: Deleter, tenants: list[UUID]) -> None:
    made, scope, expected = one_day(backend, tenants)
    with psycopg.connect(backend.dsn) as other:
        other.execute(f"select * from {TABLE} where id = %s for update", (made[0].id,))
        assert deleter.take(scope, expected).gave_way == "LockNotAvailable"
    assert ids(backend.dsn) == {row.id for row in made}
    assert deleter.take(scope, expected).rows == len(made)


def test_a_row_changed_between_reading_and_deleting_fails_the_whole_transaction(
    backend: Backend, tenants: list[UUID]
) -> None:
    made, scope, expected = one_day(backend, tenants)
    with connect(backend.dsn) as connection, psycopg.connect(backend.dsn) as other:
        slow = Deleter(connection, SHAPE, WHOLE, Memory(), Limits(lock_timeout_seconds=10))
        other.execute(f"update {TABLE} set user_id = null, action = 'edited' where id = %s", (made[0].id,))
        outcome: list[str] = []
        thread = threading.Thread(target=lambda: outcome.append(slow.take(scope, expected).gave_way))
        thread.start()
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        while backend.execute(waiting) == [(0,)]:
            time.sleep(0.01)
        other.commit()
        thread.join()
    assert outcome == ["SerializationFailure"]
    assert ids(backend.dsn) == {row.id for row in made}


class Meddling(Memory):
    """Lets something happen between the DELETE and its COMMIT."""

    def __init__(self, backend: Backend, row: Row) -> None:
        super().__init__()
        self.backend, self.row = backend, row

    def begin(self, staying: object) -> bool:
        insert(self.backend.dsn, [self.row])
        return super().begin(staying)  # type: ignore[arg-type]


def test_a_row_inserted_during_the_deletion_survives_it(backend: Backend, tenants: list[UUID]) -> None:
    _, scope, expected = one_day(backend, tenants)
    late = Row(tenants[0], moment(FIRST, 30))
    with connect(backend.dsn) as connection:
        taken = Deleter(connection, SHAPE, WHOLE, Meddling(backend, late)).take(scope, expected)
    assert taken.rows == len(tenants)
    assert ids(backend.dsn) == {late.id}


def test_a_ledger_that_says_otherwise_rolls_the_deletion_back(backend: Backend, tenants: list[UUID]) -> None:
    made, scope, expected = one_day(backend, tenants)
    with connect(backend.dsn) as connection:
        taken = Deleter(connection, SHAPE, WHOLE, Memory(refuse=True)).take(scope, expected)
    assert (taken.rows, taken.gave_way) == (0, "the ledger says otherwise by now")
    assert ids(backend.dsn) == {row.id for row in made}


def test_a_commit_that_the_server_refuses_leaves_nothing_begun(backend: Backend, tenants: list[UUID]) -> None:
    """Django's foreign keys are checked at COMMIT: one that points at an audit row refuses it there."""
    made, scope, expected = one_day(backend, tenants)
    backend.execute(
        f"create table note (id uuid references {TABLE} (id) deferrable initially deferred); insert into note values"
        f" ('{made[0].id}')"
    )
    ledger = Memory()
    with connect(backend.dsn) as connection, pytest.raises(psycopg.errors.ForeignKeyViolation):
        Deleter(connection, SHAPE, WHOLE, ledger).take(scope, expected)
    assert (ledger.begun, ledger.finished) == ({}, {})
    assert ids(backend.dsn) == {row.id for row in made}


def test_a_commit_of_unknown_outcome_stays_begun(backend: Backend, tenants: list[UUID]) -> None:
    _, scope, expected = one_day(backend, tenants)

    class Severed(Memory):
        def begin(self, staying: object) -> bool:
            backend.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'severed'")
            return super().begin(staying)  # type: ignore[arg-type]

    ledger = Severed()
    severed = psycopg.connect(backend.dsn, autocommit=True, application_name="severed")
    with severed, pytest.raises(psycopg.OperationalError):
        Deleter(severed, SHAPE, WHOLE, ledger).take(scope, expected)
    assert set(ledger.begun) == {(tenant, FIRST) for tenant in tenants}
    with connect(backend.dsn) as connection:
        assert Deleter(connection, SHAPE, WHOLE, ledger).take(scope, expected).rows == len(tenants)
    assert not ledger.begun


def test_a_role_that_may_read_more_than_delete_deletes_nothing(backend: Backend, tenants: list[UUID]) -> None:
    made, _, expected = one_day(backend, tenants)
    backend.execute(f"drop policy tenant_isolation on {TABLE}")
    backend.execute(f"create policy reads on {TABLE} for select using (true)")
    backend.execute(f"create policy deletes on {TABLE} for delete using (resource_id = 'none')")
    dsn = backend.role()
    backend.execute(f"grant select, delete on {TABLE} to public")
    with connect(dsn) as connection:
        bound = Deleter(connection, SHAPE, Access(True, "", 16), Memory())
        one = Scope(runs_of_days([(FIRST, frozenset(tenants[:1]))]))
        with pytest.raises(DeletionError, match="found 0 rows where 1 had been read"):
            bound.take(one, {FIRST: Sealed({tenants[0]: expected[FIRST].chunks[tenants[0]]})})
    assert ids(backend.dsn) == {row.id for row in made}


def test_the_same_holds_on_postgres_15(postgres_15_server: PostgresServer) -> None:
    backend = create_backend(postgres_15_server.create_database)
    tenants = [backend.add_tenant("One"), backend.add_tenant("Two")]
    made = some_rows(tenants, DAYS, 60, rng=random.Random(5))
    insert(backend.dsn, made)
    walk(backend.dsn, contents(backend.dsn, CUTOFF))
    assert ids(backend.dsn) == kept(made)


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_of_late_changed_lost_and_unsealed_rows_loses_nothing_that_was_not_sealed(
    backend: Backend, tenants: list[UUID], seed: int
) -> None:
    rng = random.Random(seed)
    made = some_rows(tenants, DAYS, 40, rng=rng)
    if rng.random() < 0.3:
        rng.shuffle(made)
    insert(backend.dsn, made)
    sealed = contents(backend.dsn, CUTOFF)
    known = list(sealed)
    archived = {row.id for row in made if (row.tenant, row.day) in sealed}
    for chunk in rng.sample(known, rng.randint(0, 5)):
        sealed.pop(chunk)
        archived -= {row.id for row in made if (row.tenant, row.day) == chunk}
    late = [
        Row(rng.choice(tenants), moment(FIRST + timedelta(days=rng.randrange(8)), 7)) for _ in range(rng.randint(0, 4))
    ]
    insert(backend.dsn, late)
    changed = rng.sample(made, rng.randint(0, 4))
    for row in changed:
        backend.execute(f"update {TABLE} set metadata = '{{}}' where id = %s", row.id)
        archived.discard(row.id)
    before = ids(backend.dsn)
    report = walk(backend.dsn, sealed, known=known, indexed=rng.random() < 0.3)
    gone = before - ids(backend.dsn)
    assert gone <= archived
    assert len(gone) == report.rows
    wrong = {(row.tenant, row.day) for row in (*late, *changed) if (row.tenant, row.day) in sealed}
    assert set(report.unequal) == wrong
    assert gone == {row.id for row in made if (row.tenant, row.day) in sealed and (row.tenant, row.day) not in wrong}


def test_contents_add_up() -> None:
    one, other = Content(2, 30), Content(1, -5)
    assert one + other == Content(3, 25)
    assert (one + other) - other == one
    assert Sealed({uuid.UUID(int=1): one, uuid.UUID(int=2): other}).content == Content(3, 25)
