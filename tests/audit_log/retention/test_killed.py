"""SIGKILL at any moment of a deletion: no row lost, none deleted that was not archived, and the next run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.table.reaching import TableError
from adinsights_orchestration.ops_store.audit_tables import audit_chunk
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.tenants.model import ResourceHold, Tenant
from tests.audit_log.archived import NOW, TODAY, World, seal, serve, settings_for
from tests.audit_log.killing import once_the_locks_are_free
from tests.audit_log.rows import Row, ids, insert, moment, some_rows
from tests.backend.backend_tables import create_backend
from tests.conftest import PostgresServer

ROOT = Path(__file__).resolve().parents[3]
DAYS = 30
KILLS = 10
FIRST = TODAY - timedelta(days=365 + DAYS)
TENANTS = [UUID(int=number) for number in range(1, 6)]
HELD = Tenant(TENANTS[0], "T", "t0", legal_holds=(ResourceHold("user", "7"),))


class Lives:
    """Runs of retention in processes of their own, each killed after a moment."""

    def __init__(self, world: World, rng: random.Random) -> None:
        arguments = {"backend": world.backend, "ops": world.store._settings.dsn.get_secret_value()}
        command = [sys.executable, "-m", "tests.audit_log.retention.killed", json.dumps({**arguments, "now": str(NOW)})]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._rng = rng
        self._longest = 0.3  # seconds; found out, because machines differ

    def __enter__(self) -> Lives:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def one(self) -> int:
        """One life; returns its exit status, negative when the kill came in time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        time.sleep(self._rng.uniform(0, self._longest))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        return int(self._process.stdout.readline())

    def adapt(self, *, progressed: bool, finished: bool) -> None:
        """Lets the next ones live for longer or shorter, so that kills fall into the work."""
        self._longest *= 0.5 if finished else 1 if progressed else 2


class Traffic:
    """What the application does meanwhile: it writes rows of today, and one of an old day now and then."""

    def __init__(self, dsn: str, rng: random.Random) -> None:
        self.written: list[Row] = []
        self._dsn, self._rng, self._over = dsn, rng, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            old = self._rng.random() < 0.02
            day = FIRST + timedelta(days=self._rng.randrange(DAYS)) if old else TODAY
            row = Row(self._rng.choice(TENANTS), moment(day, 1))
            insert(self._dsn, [row])
            self.written.append(row)
            time.sleep(0.02)


SEEDS = [*range(1, 3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 53))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_again_and_again_loses_nothing_and_deletes_nothing_unarchived(
    postgres_server: PostgresServer, ops_store: OpsStore, seed: int
) -> None:
    rng = random.Random(seed)
    backend = create_backend(postgres_server.create_database)
    for number, tenant in enumerate(TENANTS):
        backend.add_tenant(f"T{number}", tenant)
    world = World(backend.dsn, ops_store, settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value()))
    made = some_rows(TENANTS, DAYS, 120, rng=rng, first=FIRST)
    held = [Row(TENANTS[0], moment(FIRST + timedelta(days=day), 9), "user", "7") for day in range(DAYS)]
    insert(backend.dsn, [*made, *held])
    seal(world.settings, ops_store, [FIRST + timedelta(days=day) for day in range(DAYS)])
    serve(ops_store, [HELD, *(Tenant(tenant, "T", f"t{tenant.int}") for tenant in TENANTS[1:])])
    left = []
    with Traffic(backend.dsn, rng) as traffic, Lives(world, rng) as lives:
        before, kills = len(made), 0
        while kills < KILLS:
            status = lives.one()
            assert status in (0, -signal.SIGKILL)
            kills += status != 0
            left.append(len(ids(backend.dsn) & {row.id for row in made}))
            lives.adapt(progressed=left[-1] < before, finished=status == 0)
            before = left[-1]
    assert left == sorted(left, reverse=True)
    assert left[-1] < len(made)
    archived = {row.id for row in (*made, *held)}
    assert ids(backend.dsn) >= {row.id for row in traffic.written}  # never archived: none of them may ever go
    assert ids(backend.dsn) >= {row.id for row in held}
    # What differs because of a late row is archived anew, and goes.
    final = once_the_locks_are_free(world.retain, "already")
    assert not final.unequal
    late = {row.id for row in traffic.written if row.day != TODAY}
    assert ids(backend.dsn) == ({row.id for row in traffic.written} - late) | {row.id for row in held} | unsealed(
        world, late
    )
    assert not ids(backend.dsn) & ({row.id for row in made} & archived)
    assert world.states().get("deleting") is None
    there = ids(backend.dsn)
    gone = Counter(row.tenant for row in (*made, *held, *traffic.written) if row.id not in there)
    assert told(world) == gone  # every row that went, in its tenant's own audit log, once


def told(world: World) -> Counter[UUID | None]:
    """Rows that all runs together told their tenants of."""
    counted = Counter[UUID | None]()
    with world.store.begin() as connection:
        for row in connection.execute(sa.select(audit_entry)):
            counted[row.tenant_id] += row.detail["rows"]
    return +counted


def unsealed(world: World, late: set[UUID]) -> set[UUID]:
    """Late rows of a chunk that had been deleted by then: no archive knows them yet, so they stay."""
    return late & ids(world.backend)


def test_a_run_killed_between_intent_and_commit_is_settled_by_looking(
    postgres_server: PostgresServer, ops_store: OpsStore
) -> None:
    """Both outcomes of a COMMIT that nobody saw: the rows are all there, or gone but for those that a hold keeps."""
    backend = create_backend(postgres_server.create_database)
    backend.add_tenant("T", TENANTS[0])
    world = World(backend.dsn, ops_store, settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value()))
    rows = [Row(TENANTS[0], moment(FIRST + timedelta(days=day), 5)) for day in range(2)]
    held = [Row(TENANTS[0], moment(FIRST + timedelta(days=day), 9), "user", "7") for day in range(2)]
    insert(backend.dsn, [*rows, *held])
    days = [FIRST, FIRST + timedelta(days=1)]
    seal(world.settings, ops_store, days)
    serve(ops_store, [HELD])
    with psycopg.connect(backend.dsn) as connection:
        connection.execute("delete from accounts_auditlog where id = %s", (rows[1].id,))
    with ops_store.begin() as connection:
        staying = _held_content(world, held)
        for day, (count, fast) in zip(days, staying, strict=True):
            connection.execute(
                sa.update(audit_chunk)
                .where(audit_chunk.c.day == day)
                .values(state="deleting", staying={"rows": count, "fast": str(fast)})
            )
    report = world.retain(rearchive=False)
    assert (report.unequal, report.gone) == ([], [])
    assert report.rows == 1
    assert ids(backend.dsn) == {row.id for row in held}
    assert world.states() == {"sealed": 2}


def _held_content(world: World, held: list[Row]) -> list[tuple[int, int]]:
    from tests.audit_log.rows import FAST

    query = "select {} from accounts_auditlog t where id = %s"
    with psycopg.connect(world.backend) as connection:
        statement = psycopg.sql.SQL(query).format(FAST)
        found = [connection.execute(statement, (row.id,)).fetchone() for row in held]
    return [(1, int(each[0])) for each in found if each is not None]


@pytest.mark.soak
def test_a_postgres_that_restarts_in_the_middle_costs_one_run(
    postgres_server: PostgresServer, ops_store: OpsStore
) -> None:
    """The backend's sessions are ended at random, as a restart does; the next run goes on."""
    rng = random.Random(9)
    backend = create_backend(postgres_server.create_database)
    for number, tenant in enumerate(TENANTS):
        backend.add_tenant(f"T{number}", tenant)
    world = World(backend.dsn, ops_store, settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value()))
    made = some_rows(TENANTS, DAYS, 120, rng=rng, first=FIRST)
    insert(backend.dsn, made)
    seal(world.settings, ops_store, [FIRST + timedelta(days=day) for day in range(DAYS)])
    serve(ops_store, [Tenant(tenant, "T", f"t{tenant.int}") for tenant in TENANTS])
    end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'adinsights-audit'"
    for _ in range(5):
        timer = threading.Timer(rng.uniform(0.01, 0.1), backend.execute, (end,))
        timer.start()
        with suppress(TableError):
            world.retain()
        timer.join()
    world.retain()
    assert not ids(backend.dsn)
