"""Restoring into the live table: the hold, what retention does afterwards, ranges, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.bookkeeping.chain import follow
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.restore.ledger import RestoreLedger
from adinsights_orchestration.audit_log.restore.plan import Wanted
from adinsights_orchestration.audit_log.restore.run import Order
from adinsights_orchestration.audit_log.restore.target import RestoreError
from adinsights_orchestration.audit_log.restore.writing import Arrival
from adinsights_orchestration.audit_log.retention.again import archive_again
from adinsights_orchestration.audit_log.retention.policy import RetentionRefusedError
from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport, lock_name
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.ops_store.audit_tables import audit_chunk, audit_hold, audit_run
from adinsights_orchestration.settings import RetentionArchive
from tests.audit_log.archive.test_run import archived, exactly
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.restoring import (
    LATER,
    RESTORED,
    UNTIL,
    a_day,
    all_days,
    audit_rows,
    restore,
    restore_live,
    restorer,
    retention,
    rows_of,
    whole_days,
)
from tests.audit_log.retention.test_older_ops_store import as_before
from tests.audit_log.rows import FIRST, TABLE, Row, moment


@pytest.fixture
def gone(place: Place) -> Place:
    """Everything is archived, and retention has deleted it."""
    place.archive()
    assert retention(place).retain(now=LATER).rows == len(place.rows)
    return place


def retain(place: Place, now: datetime = UNTIL + timedelta(hours=1)) -> RetentionReport:
    """The real retention, with the real archive behind it."""
    retention(place)
    again = archive_again(place.settings, place.ops)
    return Retention(place.settings, place.ops, AUDIT_LOG, lambda: now, "a test", again, apply=True).run()


def test_a_hold_that_a_dump_of_the_ops_store_does_not_know_is_in_force_again_after_the_same_command(
    gone: Place,
) -> None:
    with as_before(gone.ops):
        restore_live(gone)
    assert len(rows_of(gone)) == len(gone.rows), "the table is newer than the dump"
    restore_live(gone)
    for _ in range(2):
        retain(gone, now=LATER)
    assert len(rows_of(gone)) == len(gone.rows)


def test_the_hold_is_of_the_tenants_and_days_that_were_asked_for_and_no_others(gone: Place) -> None:
    one, two, _ = gone.tenants
    restore_live(gone, whole_days(FIRST, a_day(1), (one,)))
    with gone.ops.begin() as connection:
        (hold,) = connection.execute(sa.select(audit_hold)).all()
    assert (hold.tenant_id, hold.first_day, hold.last_day, hold.ends_at) == (one, FIRST, a_day(1), UNTIL)
    assert (hold.author, "a test" in hold.reason) == ("a test", True)
    other = [row for row in gone.rows if row.tenant == two and row.day == FIRST]
    restore_live(gone, whole_days(FIRST, FIRST, (two,)))
    with gone.ops.begin() as connection:
        connection.execute(sa.delete(audit_hold).where(audit_hold.c.tenant_id == two))
    assert retention(gone).retain(now=LATER, rearchive=False).rows == len(other)
    assert {row[1] for row in rows_of(gone)} == {one}


def test_the_same_restore_again_adds_no_second_hold(gone: Place) -> None:
    restore_live(gone)
    restore_live(gone)
    with gone.ops.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(audit_hold)).scalar() == 1


def test_a_hold_stands_before_the_first_row_even_when_nothing_could_be_written(gone: Place) -> None:
    gone.backend.execute(f"alter table {TABLE} add constraint never check (false) not valid")
    report = restore_live(gone)
    assert report.problems
    assert rows_of(gone) == []
    with gone.ops.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(audit_hold)).scalar() == 1


def test_the_live_table_takes_nothing_without_a_hold_that_ends_in_the_future(gone: Place) -> None:
    for hold in (None, LATER):
        with pytest.raises(RestoreError, match="need a hold that ends in the future"):
            restore(gone, live=True, hold_until=hold)


def test_a_range_of_moments_is_restored_exactly_and_goes_again_after_its_hold(gone: Place) -> None:
    wanted = Wanted(moment(FIRST, 36_000), moment(a_day(1), 50_000.5))
    meant = {row.id for row in gone.rows if wanted.first <= row.at < wanted.end}
    report = restore_live(gone, wanted)
    assert (report.well, report.total.came) == (True, len(meant))
    assert {row[0] for row in rows_of(gone)} == meant
    assert retain(gone, LATER).rows == 0
    after = retain(gone)
    assert (after.rows, after.unequal, after.rearchived) == (len(meant), [], [])
    assert rows_of(gone) == []
    assert archived(gone) == exactly(gone.rows)


def test_a_restored_row_that_is_changed_is_archived_anew_before_it_goes_again(gone: Place) -> None:
    restore_live(gone)
    changed = gone.rows[0].id
    gone.backend.execute(f"update {TABLE} set action = 'changed' where id = %s", changed)
    after = retain(gone)
    assert (after.rows, after.unequal, after.rearchived) == (len(gone.rows), [], [FIRST])
    assert rows_of(gone) == []
    assert archived(gone) == exactly(gone.rows)
    assert verify_range(gone.store, AUDIT_LOG, FIRST, LAST).problems == []
    restore(gone, whole_days(FIRST, FIRST))
    assert gone.backend.execute(f"select action from {RESTORED} where id = %s", changed) == [("changed",)]


def test_rows_that_vanished_inside_their_window_come_back_and_the_ledger_is_content(place: Place) -> None:
    place.archive()
    vanished = [row.id for row in place.rows if row.tenant == place.tenants[0]]
    place.backend.execute(f"delete from {TABLE} where id = any(%s)", vanished)
    assert restore_live(place).total.came == len(vanished)
    assert place.archive().objects == 0  # the table is again as it was archived
    after = retain(place)
    assert (after.rows, after.unequal, after.gone) == (len(place.rows), [], [])


def test_retention_and_a_live_restore_keep_out_of_each_others_way(gone: Place) -> None:
    with gone.ops.exclusive(lock_name(AUDIT_LOG)) as mine:
        assert mine
        with pytest.raises(RestoreError, match="retention deletes from"):
            restore_live(gone)
        assert restore(gone).well  # a table of its own is none of retention's business
    with gone.ops.exclusive(f"audit_log_restore:{AUDIT_LOG.name}"), pytest.raises(RestoreError, match="already"):
        restore(gone)


def test_a_day_that_is_half_way_deleted_is_settled_by_retention_first(gone: Place) -> None:
    one = gone.tenants[0]
    with gone.ops.begin() as connection:
        half_way = audit_chunk.c.tenant_id == one, audit_chunk.c.day == FIRST
        connection.execute(
            sa.update(audit_chunk)
            .where(*half_way)
            .values(state="deleting", left_rows=1, staying={"rows": 0, "fast": "0"})
        )
    with pytest.raises(RestoreError, match="half-way deleted"):
        restore_live(gone)
    assert rows_of(gone) == []
    retention(gone).retain(now=LATER)
    assert restore_live(gone).total.came == len(gone.rows)


def test_retention_is_refused_while_rows_come_back(gone: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    create = type(gone.store).get

    def get(self: object, key: str) -> bytes:
        if key.endswith(".parquet") and not refused:
            with pytest.raises(RetentionRefusedError) as error:
                retention(gone).retain(now=LATER)
            refused.append(str(error.value))
        return create(self, key)  # type: ignore[arg-type]

    monkeypatch.setattr(type(gone.store), "get", get)
    assert restore_live(gone).total.came == len(gone.rows)
    assert "restored to already" in refused[0]


def test_every_tenant_that_got_rows_is_owed_one_audit_row_with_the_actor(gone: Place) -> None:
    one = gone.tenants[0]
    restore(gone, all_days(one))
    (entry,) = audit_rows(gone)
    count = sum(row.tenant == one for row in gone.rows)
    assert (entry.tenant_id, entry.resource_type, entry.detail["actor"]) == (one, "audit_log", "a test")
    assert (entry.detail["rows"], entry.detail["days"], entry.detail["into"]) == (count, 6, RESTORED)
    restore(gone, all_days(one))
    assert len(audit_rows(gone)) == 1  # a run that brought nothing is in the journal alone
    restore_live(gone)
    assert {entry.tenant_id for entry in audit_rows(gone)[1:]} == set(gone.tenants)
    with gone.ops.begin() as connection:
        runs = connection.execute(sa.select(audit_run).where(audit_run.c.kind == "restore")).all()
    assert [(run.actor, run.error, run.finished_at is None) for run in runs] == [("a test", None, False)] * 3


def test_a_dry_run_tells_and_touches_nothing(gone: Place) -> None:
    report = restorer(gone).run(Order(all_days(), live=True, hold_until=UNTIL))
    assert (report.total.archived, report.total.came, report.run) == (len(gone.rows), 0, None)
    assert restorer(gone).run(Order(all_days())).total.archived == len(gone.rows)
    assert (rows_of(gone), audit_rows(gone)) == ([], [])
    assert gone.backend.execute(f"select to_regclass('{RESTORED}')") == [(None,)]
    with gone.ops.begin() as connection:
        assert connection.execute(sa.select(audit_hold)).all() == []


def test_late_rows_of_a_restored_day_are_archived_before_they_go(gone: Place) -> None:
    restore_live(gone)
    late = Row(gone.tenants[1], moment(FIRST, 4242))
    gone.add([late])
    after = retain(gone)
    assert (after.rows, after.rearchived) == (len(gone.rows), [FIRST])
    assert archived(gone) == exactly(gone.rows)


def test_a_restore_of_another_revision_takes_the_newest(gone: Place) -> None:
    gone.add([Row(gone.tenants[0], moment(FIRST, 99))])
    gone.archive(FIRST, FIRST)
    assert max(manifest.revision for manifest in follow(gone.store, AUDIT_LOG.name)) == 2
    assert restore_live(gone).total.came == len(gone.rows) - 1
    assert {UUID(str(row[0])) for row in rows_of(gone)} == {row.id for row in gone.rows}


def test_a_database_that_hangs_up_half_way_fails_with_the_next_step_and_the_same_command_goes_on(
    gone: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adinsights_orchestration.audit_log.restore.plan.MOST_ROWS", 30)
    intend, hung_up = RestoreLedger.intend, list[int]()

    def hang_up(self: RestoreLedger, connection: int, arrivals: Sequence[Arrival]) -> None:
        intend(self, connection, arrivals)
        hung_up.append(connection)
        if len(hung_up) == 4:
            gone.backend.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'adinsights-audit'"
            )

    monkeypatch.setattr(RestoreLedger, "intend", hang_up)
    with pytest.raises(RestoreError, match="the same command goes on where this one stopped"):
        restore_live(gone)
    came = len(rows_of(gone))
    assert 0 < came < len(gone.rows)
    again = restore_live(gone)
    assert (again.total.came, again.total.there) == (len(gone.rows) - came, came)
    assert sum(entry.detail["rows"] for entry in audit_rows(gone)) >= len(gone.rows)


def test_a_hold_keeps_restored_rows_from_a_retention_that_goes_by_age_alone(gone: Place) -> None:
    one = gone.tenants[0]
    mine = [row for row in gone.rows if row.tenant == one]
    restore_live(gone, all_days(one))
    by_age = gone.settings.retention.model_copy(update={"archive": RetentionArchive.OFF})
    gone.settings = gone.settings.model_copy(update={"retention": by_age})
    assert retain(gone, LATER).rows == 0
    assert len(rows_of(gone)) == len(mine)
    assert retain(gone).rows == len(mine)
