"""Archiving: every row of every closed day, once, provably, whatever happens in between."""

from __future__ import annotations

import json
import stat
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import duckdb
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.archive.export import Scan
from adinsights_orchestration.audit_log.archive.run import ArchiveError, Archiver
from adinsights_orchestration.audit_log.archive.sealing import look_at
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.bookkeeping.manifest import ManifestError, newest, read_manifest
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.clocks import ClockError
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.tables import audit_entry
from tests.audit_log.conftest import DAYS, LAST, NOW, Place
from tests.audit_log.rows import FIRST, Row, connect, moment

SOURCE = "accounts_auditlog"


def archived(place: Place) -> Counter[UUID]:
    """The ids of all rows in force in the archive, read by DuckDB alone."""
    manifests = list(chain.follow(place.store, SOURCE))
    found: Counter[UUID] = Counter()
    for (tenant, day), (chunk, _) in newest(manifests).items():
        for key in chunk.files:
            rows = duckdb.execute(
                "select id from read_parquet(?) where tenant_id = ? and epoch_us(created_at) // 86400000000 = ?",
                [str(place.store.path(key)), tenant, (day - FIRST.replace(year=1970)).days],
            ).fetchall()
            found.update(row[0] for row in rows)
    return found


def exactly(rows: list[Row]) -> Counter[UUID]:
    return Counter(row.id for row in rows)


def test_a_range_of_days_is_archived_row_for_row(place: Place) -> None:
    report = place.archive()
    assert archived(place) == exactly(place.rows)
    assert [day.day for day in report.days] == [FIRST + timedelta(days=number) for number in range(DAYS)]
    assert (report.rows, report.odd_rows) == (len(place.rows), 0)


def test_what_is_archived_already_is_left_as_it_is(place: Place) -> None:
    place.archive()
    before = sorted(place.store.keys("audit/"))
    report = place.archive()
    assert sorted(place.store.keys("audit/")) == before
    assert (report.objects, sum(day.changed for day in report.days)) == (0, 0)


def test_a_day_without_rows_has_a_manifest_too(place: Place) -> None:
    empty = LAST + timedelta(days=1)
    place.archive(last=empty)
    last = list(chain.follow(place.store, SOURCE))[-1]
    assert (last.first_day, last.rows, last.files) == (empty, 0, ())


def test_the_manifests_are_a_chain(place: Place) -> None:
    place.archive()
    manifests = list(chain.follow(place.store, SOURCE))
    assert [each.sequence for each in manifests] == list(range(1, DAYS + 1))
    assert [each.previous for each in manifests] == ["", *(each.hash for each in manifests[:-1])]
    assert ArchiveLedger(place.ops, SOURCE).head() == (DAYS, manifests[-1].hash)


def test_files_are_nobody_elses_to_read_and_a_tenants_lie_below_one_prefix(place: Place) -> None:
    place.archive()
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    for tenant in place.tenants:
        rows = duckdb.execute(
            "select distinct tenant_id from read_parquet(?, hive_partitioning = false)",
            [str(place.folder / chain.tenant_prefix(SOURCE, tenant) / "*" / "*.parquet")],
        ).fetchall()
        assert rows == [(tenant,)]


def test_types_moments_and_json_come_back_exactly(place: Place) -> None:
    odd = {"a": [1, None, "ü\u2028"], "b": {"c": 1.0}, "long": "x" * 1_000_000}
    tenant = place.tenants[0]
    place.backend.execute(
        "insert into accounts_auditlog values"
        " (gen_random_uuid(), %s, null, 'login', 'type', 'tab\tand \x1f', %s::jsonb, '2024-01-01 23:59:59.999999Z')",
        tenant,
        json.dumps(odd),
    )
    place.archive(last=FIRST)
    path = str(place.folder / chain.tenant_prefix(SOURCE, tenant) / "dt=2024-01-01" / "*.parquet")
    columns = "user_id, resource_id, metadata, epoch_us(created_at), typeof(id), typeof(created_at)"
    row = duckdb.execute(f"select {columns} from read_parquet(?) where resource_type = 'type'", [path]).fetchone()
    assert row is not None
    assert (row[0], row[1], json.loads(row[2])) == (None, "tab\tand \x1f", odd)
    assert row[3:] == (1_704_153_599_999_999, "UUID", "TIMESTAMP WITH TIME ZONE")


def test_a_late_row_makes_a_new_revision_that_holds_it_too(place: Place) -> None:
    place.archive()
    late = Row(place.tenants[1], moment(FIRST, 60))
    place.add([late])
    report = place.archive()
    assert archived(place) == exactly(place.rows)
    assert [(day.day, day.revision, day.late) for day in report.days if day.changed] == [(FIRST, 2, 1)]


def test_a_row_that_was_changed_stands_in_force_as_it_is_now_and_is_counted(place: Place) -> None:
    changed, emptied = [row for row in place.rows if row.day == FIRST][:2]
    user = uuid4()
    place.backend.execute("insert into accounts_user values (%s, %s, 'a@example.com')", user, emptied.tenant)
    place.backend.execute("update accounts_auditlog set user_id = %s where id = %s", user, emptied.id)
    place.archive()
    place.backend.execute("update accounts_auditlog set action = 'changed' where id = %s", changed.id)
    place.backend.execute("delete from accounts_user where id = %s", user)
    report = place.archive()
    assert archived(place) == exactly(place.rows)
    assert [(day.revision, day.altered, day.late, day.vanished) for day in report.days if day.changed] == [(2, 2, 0, 0)]
    assert report.summary()["changed"] == 2
    assert place.archive().summary()["changed"] == 0


def test_a_row_that_is_as_it_was_but_for_what_a_migration_changed_is_not_counted_as_changed(place: Place) -> None:
    place.archive()
    changed = next(row for row in place.rows if row.day == FIRST)
    place.backend.execute("alter table accounts_auditlog alter id type text using id::text")
    place.backend.execute("alter table accounts_auditlog alter resource_id type int using resource_id::int")
    place.backend.execute("alter table accounts_auditlog add column origin text default 'web'")
    place.backend.execute("update accounts_auditlog set action = 'changed' where id = %s", str(changed.id))
    report = place.archive()
    assert [(day.changed, day.altered, day.vanished) for day in report.days] == [
        (True, int(day == FIRST), 0) for day in (each.day for each in report.days)
    ]


def test_rows_that_vanished_stay_in_the_archive_and_are_counted(place: Place) -> None:
    place.archive()
    gone, some = place.tenants[0], next(row for row in place.rows if row.tenant == place.tenants[2])
    place.backend.execute("delete from accounts_tenant where id = %s", gone)
    place.backend.execute("delete from accounts_auditlog where id = %s", some.id)
    report = place.archive()
    assert archived(place) == exactly(place.rows)
    assert sum(day.vanished for day in report.days) == 1 + sum(row.tenant == gone for row in place.rows)
    assert place.archive().objects == 0


def test_a_late_row_of_a_tenant_whose_rows_are_gone_joins_them(place: Place) -> None:
    place.archive()
    tenant = place.tenants[0]
    place.backend.execute("delete from accounts_auditlog where tenant_id = %s", tenant)
    place.archive()
    place.add([Row(tenant, moment(FIRST, 60))])
    place.archive()
    assert archived(place) == exactly(place.rows)


def test_a_column_that_is_added_later_leaves_old_files_readable_beside_new_ones(place: Place) -> None:
    place.archive(last=FIRST)
    place.backend.execute("alter table accounts_auditlog add column origin varchar(10) default 'web'")
    place.archive()
    assert archived(place) == exactly(place.rows)
    second = list(chain.follow(place.store, SOURCE))[1]
    assert [column.name for column in second.files[0].columns][-1] == "origin"


def test_a_column_that_was_dropped_stays_in_force_unless_a_person_asks_for_the_days(place: Place) -> None:
    place.backend.execute("alter table accounts_auditlog add column region text default 'eu'")
    place.archive()
    gone = place.tenants[0]
    place.backend.execute("delete from accounts_auditlog where tenant_id = %s", gone)
    place.backend.execute("alter table accounts_auditlog drop column region")
    newcomer = place.backend.add_tenant("Came later")
    place.add([Row(newcomer, moment(FIRST, 5))])
    report = place.archive()
    there = {(row.tenant, row.day) for row in place.rows if row.tenant not in (gone, newcomer)}
    assert report.kept == dict.fromkeys(there, "without column region")
    assert archived(place) == exactly(place.rows), "of who was not archived nothing is missing"

    def regions() -> int:
        found = newest(list(chain.follow(place.store, SOURCE)))
        files = [file for chunk, manifest in found.values() for file in manifest.files if file.key in chunk.files]
        return sum(any(column.name == "region" for column in file.columns) for file in files)

    before = regions()
    assert before == len({(row.tenant, row.day) for row in place.rows if row.tenant != newcomer})
    assert place.archive().objects == 0
    asked = place.archiver().run(FIRST, FIRST, actor="a person", narrower=True)
    assert (asked.kept, regions()) == ({}, before - 2)


def test_a_manifest_that_was_forged_is_not_carried_into_the_next_one(place: Place) -> None:
    place.archive()
    path = place.store.path(chain.manifest_key(SOURCE, 1))
    forged = json.loads(path.read_bytes())
    forged["written_at"] = forged["written_at"].replace("2024", "2025")
    path.write_bytes(json.dumps(forged, sort_keys=True, separators=(",", ":")).encode())
    assert read_manifest(path.read_bytes()).hash != ArchiveLedger(place.ops, SOURCE).about(FIRST, FIRST).manifests[0][1]
    place.add([Row(place.tenants[1], moment(FIRST, 60))])
    with pytest.raises(ManifestError, match="not the one that was sealed"):
        place.archive()
    assert ArchiveLedger(place.ops, SOURCE).head()[0] == DAYS


def test_odd_times_are_counted_and_in_no_day(place: Place) -> None:
    place.backend.execute("alter table accounts_auditlog alter created_at drop not null")
    for time in (None, "infinity", "-infinity", "2999-01-01", "1999-01-01"):
        place.backend.execute(
            "insert into accounts_auditlog values (gen_random_uuid(), %s, null, 'a', 'b', 'c', '{}', %s)",
            place.tenants[0],
            time,
        )
    report = place.archive()
    assert report.odd_rows == 5
    assert archived(place) == exactly(place.rows)


def test_a_day_is_archived_only_when_it_is_closed(place: Place) -> None:
    with pytest.raises(ArchiveError, match="is not closed yet"):
        place.archive(last=NOW.date())
    place.now = moment(LAST + timedelta(days=1)) + timedelta(minutes=119)
    with pytest.raises(ArchiveError, match="is not closed yet"):
        place.archive()


def test_nothing_is_archived_by_a_clock_that_the_tables_server_does_not_share(place: Place) -> None:
    archiver = Archiver(
        place.settings,
        place.ops,
        AUDIT_LOG,
        place.store,
        clock=lambda: place.now,
        host=lambda: utc_now() + timedelta(hours=2),
    )
    with pytest.raises(ClockError, match="this host's clock says"):
        archiver.run(FIRST, LAST, actor="a test")
    assert not place.folder.exists()


def test_a_second_archiver_is_turned_away(place: Place) -> None:
    with place.ops.exclusive("audit_log:accounts_auditlog"), pytest.raises(ArchiveError, match="already"):
        place.archive()


def test_each_affected_tenant_is_owed_one_audit_row_for_each_run(place: Place) -> None:
    place.archive()
    place.archive()
    with place.ops.begin() as connection:
        entries = connection.execute(sa.select(audit_entry)).all()
    assert sorted(entry.tenant_id for entry in entries) == place.tenants
    assert {entry.action for entry in entries} == {"audit_log_archived"}
    assert sum(entry.detail["rows"] for entry in entries) == len(place.rows)


def test_a_ledger_that_was_lost_is_made_anew_from_the_chain(place: Place, tmp_path: Path) -> None:
    place.archive()
    before = ArchiveLedger(place.ops, SOURCE).in_force(FIRST, LAST)
    with place.ops.begin() as connection:
        for table in ("audit_chunk", "audit_day", "audit_manifest"):
            connection.execute(sa.text(f"delete from adinsights_ops.{table}"))
    place.archiver().catch_up()
    assert ArchiveLedger(place.ops, SOURCE).in_force(FIRST, LAST) == before
    assert place.archive().objects == 0


@pytest.mark.parametrize("kind", ["policy", "bypass"])
def test_a_role_bound_by_row_level_security_archives_the_same(place: Place, kind: str) -> None:
    from pydantic import SecretStr

    from adinsights_orchestration.settings import BackendSettings

    dsn = place.backend.role("bypassrls" if kind == "bypass" else "")
    role = dsn.split("user=")[1].split()[0]
    place.backend.execute(f"grant select on accounts_auditlog to {role}")
    place.settings = place.settings.model_copy(update={"backend": BackendSettings(dsn=SecretStr(dsn))})
    place.archive()
    assert archived(place) == exactly(place.rows)


def test_one_day_is_archived_whole_through_an_index_on_tenant_and_time(place: Place) -> None:
    with connect(place.backend.dsn) as connection:
        connection.execute("create index on accounts_auditlog (tenant_id, created_at)")
        connection.execute("drop index accounts_auditlog_tenant_id_idx")
        connection.execute("analyze accounts_auditlog")
    place.add([Row(place.tenants[0], NOW + timedelta(days=400))])
    tenant = place.backend.add_tenant("Came later")
    place.add([Row(tenant, moment(FIRST, 3))])
    report = place.archive(FIRST, FIRST)
    assert report.odd_rows == 1
    assert archived(place) == exactly([row for row in place.rows if row.day == FIRST])
    table = look_at(place.archiver()._parts())
    assert table.indexed
    scan = Scan(AUDIT_LOG, table.columns, FIRST, FIRST, NOW, FIRST, by_tenant=True)
    with connect(place.backend.dsn) as connection:
        connection.execute("set enable_seqscan = off")
        plan = str(connection.execute(f"explain {scan.statement()}".encode()).fetchall())
    assert "accounts_auditlog_tenant_id_created_at_idx" in plan
    assert "Seq Scan" not in plan
