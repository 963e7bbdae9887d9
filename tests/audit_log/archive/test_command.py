"""`adinsights audit archive`, as somebody types it: the UI shows what it archived, and it needs no Dagster for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.archive.automation import build_archive
from adinsights_orchestration.audit_log.archive.showing import KEY
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.alert_tables import alert_silence
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import serve
from tests.audit_log.conftest import DAYS, LAST, NOW, Place
from tests.audit_log.rows import FIRST, Row, moment
from tests.cli.conftest import Answer
from tests.conftest import free_port
from tests.repository.checkout import ROOT

Command = Callable[..., Answer]
RANGE = ("archive", "--from", str(FIRST), "--to", str(LAST))
DAY_NAMES = {str(FIRST + timedelta(days=day)) for day in range(DAYS)}


def told(instance: dg.DagsterInstance) -> list[dg.EventLogRecord]:
    """All materializations of days, oldest first."""
    return list(instance.fetch_materializations(KEY, limit=1000, ascending=True).records)


def metadata_of(record: dg.EventLogRecord) -> dict[str, object]:
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def nightly(place: Place, instance: dg.DagsterInstance) -> None:
    definitions = build_archive(place.settings, place.ops, clock=lambda: place.now)
    tags = {"dagster/asset_partition_range_start": str(LAST), "dagster/asset_partition_range_end": str(LAST)}
    job = definitions.get_repository_def().get_job("audit_log_archive")
    assert job.execute_in_process(instance=instance, tags=tags).success


def test_what_the_command_archives_is_shown_as_materialized_day_by_day_and_only_once(
    place: Place, audit_command: Command, postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", postgres_instance.root_directory)
    answer = audit_command(*RANGE)
    assert (answer.code, "not told" in answer.err) == (0, False)
    assert postgres_instance.get_materialized_partitions(KEY) == DAY_NAMES
    records = told(postgres_instance)
    assert [record.partition_key for record in records] == sorted(DAY_NAMES)
    assert sum(int(str(metadata_of(each)["rows in the archive"])) for each in records) == len(place.rows)
    newest = metadata_of(records[-1])
    assert (newest["archived days"], newest["archived rows"]) == (DAYS, len(place.rows))
    assert all(str(row.id) not in str(records) for row in place.rows[:20])
    assert audit_command(*RANGE).code == 0
    assert len(told(postgres_instance)) == DAYS
    # A day that is sealed anew is told anew.
    place.add([Row(place.tenants[0], moment(FIRST, 86_399))])
    assert audit_command(*RANGE).code == 0
    again = told(postgres_instance)[DAYS:]
    assert [(each.partition_key, metadata_of(each)["revision"]) for each in again] == [(str(FIRST), 2)]


def test_without_dagster_days_are_archived_and_told_when_it_is_there_again(
    place: Place,
    audit_command: Command,
    postgres_instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    answer = audit_command(*RANGE)
    assert (answer.code, "DAGSTER_HOME is not set" in answer.err) == (0, True)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    answer = audit_command(*RANGE)  # the variables that it names are not set
    assert (answer.code, "Dagster was not told (Dagster" in answer.err) == (0, True)
    with monkeypatch.context() as away:
        for name in ("HOST", "USER", "PASSWORD", "DB"):
            away.setenv(f"DAGSTER_PG_{name}", "127.0.0.1")
        away.setenv("DAGSTER_PG_PORT", str(free_port()))
        answer = audit_command(*RANGE)
    assert (answer.code, "Connection refused" in answer.err) == (0, True)
    assert "Traceback" not in answer.err
    assert place.archiver().run(FIRST, LAST, actor="a test").summary()["sealed"] == 0  # all of it is archived
    monkeypatch.setenv("DAGSTER_HOME", postgres_instance.root_directory)
    assert audit_command("archive", "--from", str(FIRST), "--to", str(FIRST)).code == 0
    assert postgres_instance.get_materialized_partitions(KEY) == DAY_NAMES


def test_what_the_commands_set_off_is_quiet_while_they_work(place: Place, audit_command: Command) -> None:
    serve(place.ops, [Tenant(each, str(each), str(each)) for each in place.tenants], now=utc_now())
    assert audit_command("retention").code == 0
    assert windows(place) == {}, "it only told what would go"
    assert audit_command(*RANGE).code == 0
    assert audit_command("retention", "--apply").code == 0
    assert windows(place) == {
        "days are being archived": "resource=~audit_log/archive.*",
        "retention is at work": "resource=~audit_log/retention.*",
    }


def windows(place: Place) -> dict[str, str]:
    """Maintenance windows that were opened: why, and on which asset."""
    with place.ops.begin() as connection:
        row = alert_silence.c
        found = connection.execute(sa.select(row.reason, row.matchers).where(row.kind == "maintenance"))
        return {reason: matchers[1] for reason, matchers in found}


def test_the_next_night_tells_what_dagster_was_not_told_and_its_own_days_last(
    place: Place, postgres_instance: dg.DagsterInstance
) -> None:
    place.now = NOW
    place.archive()
    nightly(place, postgres_instance)
    records = told(postgres_instance)
    assert {record.partition_key for record in records} == DAY_NAMES
    assert len(records) == DAYS
    assert records[-1].partition_key == str(LAST)
    assert metadata_of(records[-1])["archived days"] == DAYS
    assert "sealed at" in metadata_of(records[0])
    nightly(place, postgres_instance)
    assert len(told(postgres_instance)) == DAYS + 1


def test_rows_that_came_late_vanished_or_were_changed_are_told_in_one_line(
    place: Place, audit_command: Command
) -> None:
    assert "before" not in audit_command(*RANGE).err
    late, (vanished, *changed) = Row(place.tenants[1], moment(FIRST, 60)), place.rows[:3]
    place.add([late])
    place.backend.execute("delete from accounts_auditlog where id = %s", vanished.id)
    for row in changed:
        place.backend.execute("update accounts_auditlog set action = 'nothing to see' where id = %s", row.id)
    answer = audit_command(*RANGE)
    said = " ".join((answer.out + answer.err).split())
    assert (answer.code, "2 changed rows, against what was archived of these days before" in said) == (0, True), said
    assert "vanished" in said
    assert "before" not in audit_command(*RANGE).err
