"""The whole protocol over each store, and what becomes of it when the store fails at any point of it.

After each failure: no row lost, none deleted that is not archived, an error that says what to do, and a next run that
heals.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import obstore
import pytest
from pydantic import SecretStr
from werkzeug.wrappers import Response

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.chain import ChainForkedError
from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.retention.again import archive_again, not_held_any_more
from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.errors import StoreError
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import NOW, TODAY, serve, settings_for
from tests.audit_log.rows import Row, ids, insert, moment, some_rows
from tests.audit_log.stores import KINDS, Behind, standing
from tests.backend.backend_tables import create_backend
from tests.conftest import PostgresServer
from tests.objects_served.weed import READER, READER_SECRET, S3
from tests.objects_served.wire import Answer, Fault, Seen, Wire, answering, answers_are_lost, slow, writes_answer
from tests.recycling import Recycled

TENANTS = [UUID(int=number) for number in (1, 2, 3)]
DAYS = 3
FIRST = TODAY - timedelta(days=370)
LAST = FIRST + timedelta(days=DAYS - 1)
NAME = AUDIT_LOG.name


class World:
    """A backend with three old days, an ops store, and an archive that nothing lies in.

    Args:
        dsn: The backend's address.
        ops: The ops store.
        behind: The archive.
    """

    def __init__(self, dsn: str, ops: OpsStore, behind: Behind) -> None:
        self.dsn, self.ops, self.behind = dsn, ops, behind
        self.rows = some_rows(TENANTS, DAYS, 30, rng=random.Random(3), first=FIRST)
        insert(dsn, self.rows)
        serve(ops, [Tenant(tenant, f"T{tenant.int}", f"t{tenant.int}") for tenant in TENANTS])

    @property
    def settings(self) -> Settings:
        plain = settings_for(self.dsn, self.ops._settings.dsn.get_secret_value())
        log = self.behind.settings.model_copy(update={"first_day": FIRST})
        return plain.model_copy(update={"audit_log": log})

    @property
    def store(self) -> Store:
        return open_store(self.settings.audit_log)

    @property
    def wire(self) -> Wire:
        assert self.behind.wire is not None
        return self.behind.wire

    def add(self, row: Row) -> None:
        insert(self.dsn, [row])
        self.rows.append(row)

    def archive(self, ops: OpsStore | None = None) -> int:
        """Archives all days; returns how many objects were new."""
        return Archiver(self.settings, ops or self.ops, AUDIT_LOG).run(FIRST, LAST, actor="a test").objects

    def retain(self) -> RetentionReport:
        again = archive_again(self.settings, self.ops)
        unproven = not_held_any_more(self.settings, self.ops)
        return Retention(self.settings, self.ops, AUDIT_LOG, lambda: NOW, "a test", again, True, unproven).run()

    def archived(self) -> Counter[UUID]:
        """The ids that the archive alone gives back."""
        answer = ask(self.store, AUDIT_LOG, Question(sql="select id from audit_log"))
        return Counter(row[0] for row in answer.rows)

    def proven(self) -> None:
        """The archive holds every row once, and proves it."""
        report = verify_range(self.store, AUDIT_LOG, FIRST, LAST)
        assert (report.problems, report.missing, report.rows) == ([], [], len(self.rows))
        assert self.archived() == Counter(row.id for row in self.rows)

    def heals(self) -> None:
        """The next run archives what is missing, retention deletes it, and nothing is lost."""
        self.archive()
        self.proven()
        assert self.archive() == 0
        report = self.retain()
        assert (report.rows, report.unequal, report.left) == (len(self.rows), [], [])
        assert not ids(self.dsn)
        self.proven()

    def heals_after_deletion(self) -> None:
        """What some failure kept goes with the next run, and the archive has all of it."""
        assert self.retain().unproven == {}
        assert not ids(self.dsn)
        self.proven()


def build(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[World]:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    ops: OpsStore = request.getfixturevalue("ops_store")
    backend = create_backend(server.create_database)
    for tenant in TENANTS:
        backend.add_tenant(f"T{tenant.int}", tenant)
    with standing(kind, request, folder) as behind:
        yield World(backend.dsn, ops, behind)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    yield from build(request.param, request, tmp_path / "archive")


@pytest.fixture
def s3_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    yield from build("s3", request, tmp_path)


def is_write(seen: Seen) -> bool:
    return seen.method == "PUT"


# ------------------------------------------------------------------------------------------------------- the protocol


def test_days_are_archived_proven_read_and_deleted_and_a_late_row_is_a_new_revision(world: World) -> None:
    assert world.archive() == len({(row.tenant, row.day) for row in world.rows})
    world.proven()
    assert world.archive() == 0
    world.add(Row(TENANTS[1], moment(FIRST, 60)))
    world.add(Row(TENANTS[2], moment(LAST, 60)))
    assert world.archive() == 2
    world.proven()
    revisions = [(each.first_day, each.revision) for each in chain.follow(world.store, NAME)]
    assert revisions[DAYS:] == [(FIRST, 2), (LAST, 2)]
    world.add(Row(TENANTS[0], moment(FIRST, 61)))
    report = world.retain()  # archives the day anew before it deletes it
    assert (report.rows, report.rearchived, report.unequal) == (len(world.rows), [FIRST], [])
    assert not ids(world.dsn)
    world.proven()


def test_a_tenants_rows_are_asked_for_without_reading_anothers(s3_world: World) -> None:
    s3_world.archive()
    s3_world.wire.seen.clear()
    answer = ask(s3_world.store, AUDIT_LOG, Question(tenant=TENANTS[0], first=FIRST, last=FIRST, limit=1000))
    wanted = {row.id for row in s3_world.rows if row.tenant == TENANTS[0] and row.day == FIRST}
    assert {row[answer.columns.index("id")] for row in answer.rows} == wanted
    read = [seen.path for seen in s3_world.wire.of("GET", ".parquet")]
    assert [str(TENANTS[0]) in path for path in read] == [True]


# ---------------------------------------------------------------------------------------------------- what goes wrong

FAILING: dict[str, tuple[Callable[[], Fault], str]] = {
    "read-only": (lambda: writes_answer(403, "AccessDenied"), "rights on the bucket"),
    "expired before": (lambda: writes_answer(400, "ExpiredToken"), "Renew them"),
    "expired half-way": (lambda: answering(lambda _: True, 400, "ExpiredToken", after=6), "Renew them"),
    "expired at the manifest": (
        lambda: answering(lambda seen: is_write(seen) and "/chain/" in seen.path, 403, "ExpiredToken", after=1),
        "Renew them",
    ),
    "busy for long": (lambda: writes_answer(503, "SlowDown", after=4), "Check the address and that it is up"),
    "reading is refused": (
        lambda: answering(lambda seen: seen.method == "GET" and ".parquet" in seen.path, 403, "AccessDenied"),
        "rights on the bucket",
    ),
}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, marks=pytest.mark.soak) if how in ("expired before", "reading is refused") else how
        for how in FAILING
    ],
)
def test_a_store_that_fails_stops_the_run_says_why_and_nothing_is_deleted(s3_world: World, how: str) -> None:
    fault, said = FAILING[how]
    s3_world.wire.fault = fault()
    with pytest.raises(StoreError) as raised:
        s3_world.archive()
    assert said in str(raised.value)
    assert "canary" not in str(raised.value)
    s3_world.wire.fault = None
    sealed = {each.first_day for each in chain.follow(s3_world.store, NAME)}
    assert s3_world.retain().rows == sum(row.day in sealed for row in s3_world.rows)
    assert ids(s3_world.dsn) == {row.id for row in s3_world.rows if row.day not in sealed}
    s3_world.archive()
    s3_world.proven()
    s3_world.retain()
    assert not ids(s3_world.dsn)


@pytest.mark.parametrize("how", ["busy for a moment", "answers are lost", "slow"])
def test_what_passes_by_itself_is_waited_for(s3_world: World, how: str) -> None:
    faults: dict[str, Fault] = {
        "busy for a moment": writes_answer(503, "SlowDown", after=2, times=3),
        "answers are lost": answers_are_lost(is_write, 5),
        "slow": slow(0.02),
    }
    s3_world.behind.settings = s3_world.behind.settings.model_copy(update={"retry_seconds": 30.0})
    s3_world.wire.fault = faults[how]
    s3_world.heals()


def test_a_store_that_is_away_leaves_everything_for_the_next_run(s3_world: World) -> None:
    known = s3_world.behind.settings
    s3_world.behind.settings = known.model_copy(update={"s3_endpoint": "http://127.0.0.1:1", "retry_seconds": 0.0})
    with pytest.raises(StoreError, match="the connection was refused"):
        s3_world.archive()
    assert s3_world.retain().rows == 0
    s3_world.behind.settings = known
    s3_world.heals()


def test_credentials_that_may_only_read_archive_nothing_and_still_prove(s3_world: World) -> None:
    s3_world.archive()
    reading = {"s3_access_key_id": SecretStr(READER), "s3_secret_access_key": SecretStr(READER_SECRET)}
    known = s3_world.behind.settings
    s3_world.behind.settings = known.model_copy(update=reading)
    s3_world.proven()
    s3_world.add(Row(TENANTS[0], moment(FIRST, 5)))
    with pytest.raises(StoreError, match="403, AccessDenied"):
        s3_world.archive()
    s3_world.behind.settings = known
    s3_world.heals()


def test_of_two_archives_of_one_day_without_a_common_lock_one_seals_and_the_other_notices(
    s3_world: World, recycled: Recycled
) -> None:
    address = recycled.borrow()
    other, inside = OpsStore(OpsStoreSettings(dsn=SecretStr(address))), threading.Lock()

    def overtake(seen: Seen, answer: Answer) -> Response:
        """Just before the first manifest is written, somebody else archives the same days from beginning to end."""
        if is_write(seen) and "/chain/" in seen.path and inside.acquire(blocking=False):
            s3_world.add(Row(TENANTS[0], moment(FIRST, 7)))
            s3_world.archive(other)
        return answer(seen)

    s3_world.wire.fault = overtake
    with pytest.raises(ChainForkedError, match="the next run goes on behind it"):
        s3_world.archive()
    s3_world.heals()
    other.dispose()
    recycled.give_back(address)


def test_a_bit_that_changed_is_found_kept_as_evidence_and_does_not_stop_the_archive(s3_world: World, s3: S3) -> None:
    s3_world.archive()
    root = s3_world.behind.settings.archive_url.split("/", 3)[3]
    key = next(key for key in s3_world.store.keys(f"audit/v1/{NAME}/") if key.endswith(".parquet"))
    content = bytearray(s3_world.store.get(key))
    content[len(content) // 2] ^= 1
    obstore.put(s3.client(), f"{root}/{key}", bytes(content), use_multipart=False)
    problems = verify_range(s3_world.store, AUDIT_LOG, FIRST, LAST).problems
    assert ["bytes have changed" in problem and key in problem for problem in problems] == [True]
    with pytest.raises(ContentError, match="bytes have changed"):
        s3_world.archived()
    s3_world.add(Row(TENANTS[0], moment(LAST, 5)))
    assert s3_world.archive() == 1
    assert s3_world.store.get(key) == bytes(content)
    report = s3_world.retain()
    ((tenant, day),) = report.unproven
    assert (f"tenant_id={tenant}" in key, str(day) in key) == (True, True)
    assert ids(s3_world.dsn) == {row.id for row in s3_world.rows if (row.tenant, row.day) == (tenant, day)}
    content[len(content) // 2] ^= 1  # as the runbook says: the right bytes are brought back
    obstore.put(s3.client(), f"{root}/{key}", bytes(content), use_multipart=False)
    assert s3_world.retain().unproven == {}
    assert not ids(s3_world.dsn)


def test_nothing_is_deleted_while_the_archive_is_away_or_lost(s3_world: World, s3: S3) -> None:
    s3_world.archive()
    s3_world.wire.fault = answering(lambda _: True, 503, "SlowDown")
    s3_world.behind.settings = s3_world.behind.settings.model_copy(update={"retry_seconds": 0.0})
    report = s3_world.retain()
    assert (report.rows, len(report.unproven)) == (0, len({(row.tenant, row.day) for row in s3_world.rows}))
    s3_world.wire.fault = None
    manifest = chain.manifest_key(NAME, 2)
    sealed = s3_world.store.get(manifest)
    s3_world.store.delete(manifest)
    assert {day for _, day in s3_world.retain().unproven} == {FIRST + timedelta(days=1)}
    s3_world.store.create(manifest, sealed.replace(b'"rows":', b'"rows" :', 1))
    assert "not the one that was sealed" in next(iter(s3_world.retain().unproven.values()))
    s3_world.store.delete(manifest)
    s3_world.store.create(manifest, sealed)
    s3_world.heals_after_deletion()


def test_a_bit_that_changes_while_it_is_taken_back_seals_nothing(s3_world: World) -> None:
    def flip(seen: Seen, answer: Answer) -> Response:
        response = answer(seen)
        if seen.method == "GET" and ".parquet" in seen.path and response.status_code == 200:
            content = bytearray(response.get_data())
            content[len(content) // 2] ^= 1
            response.set_data(bytes(content))
        return response

    s3_world.wire.fault = flip
    with pytest.raises(ContentError, match="bytes have changed"):
        s3_world.archive()
    assert list(chain.follow(s3_world.store, NAME)) == []
    assert s3_world.retain().rows == 0
    s3_world.wire.fault = None
    s3_world.heals()
