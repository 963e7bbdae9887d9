"""Rows that vanish before their time are told until they are back or somebody has answered, whoever looks first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.archive.automation import build_archive
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.leaving.erasure import Erasure
from adinsights_orchestration.audit_log.leaving.matching import Subject
from adinsights_orchestration.audit_log.restore.ledger import RestoreLedger
from adinsights_orchestration.audit_log.restore.run import Order
from adinsights_orchestration.audit_log.restore.writing import Arrival
from adinsights_orchestration.audit_log.retention.again import archive_again
from adinsights_orchestration.audit_log.retention.answering import ACCEPTED, KIND
from adinsights_orchestration.audit_log.retention.automation import build_retention
from adinsights_orchestration.audit_log.retention.checks import VANISHED
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.ops_store.audit_tables import audit_run, audit_vanished
from tests.audit_log.archived import World, settings_for
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.living import archive_of, expired, register
from tests.audit_log.restoring import LATER, a_day, all_days, audit_rows, restore, restorer, retention, whole_days
from tests.audit_log.rows import FIRST, TABLE, Row, moment
from tests.cli.conftest import Answer

Command = Callable[..., Answer]
YOUNG = moment(LAST + timedelta(days=1)) + timedelta(hours=3)  # the last day has just been closed


@pytest.fixture
def sealed(place: Place) -> Place:
    place.now = YOUNG
    place.archive()
    return place


def archive_night(place: Place) -> None:
    """The archive's job, as it looks at the newest days again."""
    definitions = build_archive(place.settings, place.ops, clock=lambda: place.now)
    job = definitions.get_repository_def().get_job(Automation.ARCHIVE.value)
    days = {
        "dagster/asset_partition_range_start": str(LAST - timedelta(days=2)),
        "dagster/asset_partition_range_end": str(LAST),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance, tags=days).success


def retention_night(place: Place, now: datetime = YOUNG) -> dg.AssetCheckEvaluation:
    """Retention's job; what it says of rows that vanished."""
    register(place, now=now)
    again = archive_again(place.settings, place.ops)
    definitions = build_retention(place.settings, place.ops, rearchive=again, clock=lambda: now)
    config = {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}}
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    found = job.execute_in_process(run_config=config, raise_on_error=False).get_asset_check_evaluations()
    return next(each for each in found if each.check_name == VANISHED)


def vanished(place: Place, now: datetime = YOUNG) -> int:
    check = retention_night(place, now)
    rows = int(str(check.metadata["rows"].value))
    assert check.passed == (rows == 0)
    return rows


def delete(place: Place, rows: Sequence[Row]) -> None:
    place.backend.execute(f"delete from {TABLE} where id = any(%s)", [row.id for row in rows])


def of_day(place: Place, number: int, tenant: UUID | None = None) -> list[Row]:
    return [row for row in place.rows if row.day == a_day(number) and tenant in (None, row.tenant)]


def remembered(place: Place) -> int:
    with place.ops.begin() as connection:
        return int(connection.execute(sa.select(sa.func.coalesce(sa.func.sum(audit_vanished.c.rows), 0))).scalar_one())


def test_a_night_in_its_real_order_tells_of_rows_of_the_days_that_it_looks_at_again(sealed: Place) -> None:
    gone = of_day(sealed, 5)[:20]
    delete(sealed, gone)
    for _ in range(3):
        archive_night(sealed)
        assert vanished(sealed) == len(gone)
    assert "accept-vanished --from 2024-01-06 --to 2024-01-06" in str(retention_night(sealed).description)


@pytest.mark.parametrize("told_first", [True, False])
def test_archiving_all_days_again_makes_nobody_forget(sealed: Place, told_first: bool) -> None:
    gone = of_day(sealed, 0)[:3]
    delete(sealed, gone)
    if told_first:
        assert vanished(sealed) == 3
    assert [sum(day.vanished for day in sealed.archive().days) for _ in range(2)] == [0 if told_first else 3, 0]
    assert vanished(sealed) == 3
    more = of_day(sealed, 0, gone[0].tenant)[-1:]
    delete(sealed, more)
    assert vanished(sealed) == 4
    sealed.archive()
    assert (vanished(sealed), remembered(sealed)) == (4, 4)


def test_a_late_row_hides_no_row_that_vanished_of_the_same_tenants_day_once_the_archive_has_looked(
    sealed: Place,
) -> None:
    one = of_day(sealed, 4)[0]
    delete(sealed, [one])
    sealed.add([Row(one.tenant, moment(one.day, 86_000))])
    archive_night(sealed)
    assert vanished(sealed) == 1
    assert vanished(sealed) == 1


def test_rows_that_are_back_are_missed_no_more_and_those_that_vanish_again_are(sealed: Place) -> None:
    gone = of_day(sealed, 3)
    delete(sealed, gone)
    sealed.archive()
    wanted = whole_days(a_day(3), a_day(3))
    restore(sealed, wanted, live=True, hold_until=LATER + timedelta(days=30))
    assert vanished(sealed) == 0
    assert remembered(sealed) == 0
    delete(sealed, gone[:2])
    assert vanished(sealed) == 2
    sealed.archive()
    assert vanished(sealed) == 2


def test_a_row_that_somebody_puts_back_by_hand_is_missed_until_the_archive_has_seen_it(sealed: Place) -> None:
    one = of_day(sealed, 3)[0]
    sealed.backend.execute(f"create table kept as select * from {TABLE} where id = %s", one.id)
    delete(sealed, [one])
    assert vanished(sealed) == 1
    sealed.backend.execute(f"insert into {TABLE} select * from kept")
    sealed.archive()
    assert (vanished(sealed), remembered(sealed)) == (0, 0)


def test_what_is_not_answered_for_is_told_when_the_window_is_over_until_the_day_leaves_the_archive(
    sealed: Place,
) -> None:
    delete(sealed, of_day(sealed, 2)[:4])
    assert vanished(sealed) == 4
    world = retention(sealed)
    world.retain(now=LATER, rearchive=False)
    assert vanished(sealed, LATER) == 4
    assert sealed.backend.execute(f"select count(*) from {TABLE}") == [(0,)]
    assert vanished(sealed, LATER) == 4
    register(sealed)
    assert expired(sealed).rows
    assert remembered(sealed) == 0


@pytest.mark.parametrize("mode", ["required", "off"])
def test_what_retention_deletes_has_not_vanished_with_the_archive_or_by_age_alone(sealed: Place, mode: str) -> None:
    ops = sealed.ops._settings.dsn.get_secret_value()
    register(sealed, now=LATER)
    World(sealed.backend.dsn, sealed.ops, settings_for(sealed.backend.dsn, ops, archive=mode)).retain(now=LATER)
    assert sealed.backend.execute(f"select count(*) from {TABLE}") == [(0,)]
    sealed.now = LATER
    for _ in range(2):
        sealed.archive()
        assert vanished(sealed, LATER) == 0
        sealed.add([Row(sealed.tenants[0], moment(FIRST, 86_000))])


def test_rows_that_a_restore_never_brought_have_not_vanished_when_the_archive_looks(
    sealed: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention(sealed).retain(now=LATER)
    intend = RestoreLedger.intend

    def intend_and_die(self: RestoreLedger, connection: int, arrivals: Sequence[Arrival]) -> None:
        intend(self, connection, arrivals)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RestoreLedger, "intend", intend_and_die)
        order = Order(all_days(), live=True, hold_until=LATER + timedelta(days=30), apply=True)
        with pytest.raises(KeyboardInterrupt):
            restorer(sealed).run(order)
    sealed.now = LATER
    sealed.archive()
    assert (vanished(sealed, LATER), remembered(sealed)) == (0, 0)


def test_rows_that_came_or_went_by_our_own_hand_while_the_archive_read_have_not_vanished(sealed: Place) -> None:
    ledger = ArchiveLedger(sealed.ops, AUDIT_LOG.name)
    record, seen = ledger.record, []
    delete(sealed, of_day(sealed, 1))
    archiver = sealed.archiver()
    archiver._ledger = ledger

    def meanwhile(manifest: object, now: datetime, reading: object, missed: dict[UUID, int]) -> dict[UUID, int]:
        seen.append(dict(missed))
        return record(manifest, now, reading, {})  # type: ignore[arg-type,return-value]

    ledger.record = meanwhile  # type: ignore[method-assign,assignment]
    archiver.run(a_day(1), a_day(1), actor="a test")
    assert (sum(seen[0].values()), remembered(sealed)) == (len(of_day(sealed, 1)), 0)


def test_erased_rows_have_not_vanished(sealed: Place) -> None:
    person = Row(sealed.tenants[0], moment(FIRST, 50_000), "user", "7")
    sealed.add([person])
    sealed.archive()
    delete(sealed, [person, of_day(sealed, 0, sealed.tenants[1])[0]])
    sealed.archive()
    assert vanished(sealed) == 2
    register(sealed)
    work = Erasure(archive_of(sealed), Subject(sealed.tenants[0], None, "user", "7"), "request 1")
    work.apply(work.plan().digest)
    assert vanished(sealed) == 1


def test_rows_that_went_with_their_tenant_have_not_vanished_although_the_archive_looked_first(sealed: Place) -> None:
    one = sealed.tenants[0]
    sealed.backend.execute("delete from accounts_tenant where id = %s", one)
    archive_night(sealed)
    assert remembered(sealed) > 0
    register(sealed, now=YOUNG, retired=True)
    again = archive_again(sealed.settings, sealed.ops)
    definitions = build_retention(sealed.settings, sealed.ops, rearchive=again, clock=lambda: YOUNG)
    config = {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}}
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    assert all(each.passed for each in job.execute_in_process(run_config=config).get_asset_check_evaluations())
    assert remembered(sealed) == 0


def test_somebody_answers_for_rows_that_vanished_and_each_tenant_reads_it_in_its_log(
    place: Place, audit_command: Command
) -> None:
    now = place.now = utc_now()
    young = now.date() - timedelta(days=10)
    place.add([Row(tenant, moment(young, second)) for tenant in place.tenants for second in range(4)])
    place.archive(young, young)
    register(place, now=now)
    one, two, three = place.tenants
    mine = {
        tenant: [row for row in place.rows if row.day == young and row.tenant == tenant] for tenant in place.tenants
    }
    delete(place, [*mine[one][:2], *mine[two][:1]])
    place.archive(young, young)
    delete(place, [*mine[two][1:2], *mine[three][:1]])
    days = ("accept-vanished", "--from", str(young), "--to", str(young))
    told = audit_command(*days, "--json").json
    assert (told["dry_run"], told["rows"], told["others"]) == (True, 5, 0)
    assert {each["tenant"]: each["rows"] for each in told["vanished"]} == {"t0": 2, "t1": 2, "t2": 1}
    refused = audit_command(*days, "--apply")
    assert (refused.code, "needs a reason" in refused.err) == (2, True)
    some = audit_command(*days, "--tenant", "t1", "--reason", "case 7", "--apply")
    assert (some.code, "3 other rows have vanished" in some.err) == (0, True)
    assert audit_command(*days, "--json").json["rows"] == 3
    assert audit_command(*days, "--reason", "a backup was put back", "--apply").code == 0
    assert audit_command(*days, "--json").json["rows"] == 0
    entries = [(each.tenant_id, each.detail["rows"], each.detail["reason"]) for each in audit_rows(place, ACCEPTED)]
    assert sorted(entries) == sorted(
        [(two, 2, "case 7"), (one, 2, "a backup was put back"), (three, 1, "a backup was put back")]
    )
    with place.ops.begin() as connection:
        runs = connection.execute(sa.select(audit_run).where(audit_run.c.kind == KIND)).all()
    assert [(run.summary["rows"], run.summary["tenants"], "@" in run.actor) for run in runs] == [
        (2, 1, True),
        (3, 2, True),
    ]
    place.archive(young, young)
    assert audit_command(*days, "--json").json["rows"] == 0
    delete(place, mine[three][1:2])
    assert audit_command(*days, "--json").json["rows"] == 1
