"""A table that is declared to be archived is sealed every night, goes once that is proven, and can be restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log import own_history
from adinsights_orchestration.audit_log.archive.automation import ALL_ARCHIVED, CHAIN_INTACT, build_archive
from adinsights_orchestration.audit_log.archive.showing import KEY, key_of
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.restore.run import Order, Restore
from adinsights_orchestration.audit_log.retention.again import archive_again, not_held_any_more
from adinsights_orchestration.audit_log.retention.automation import build_retention
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Archive, Source
from adinsights_orchestration.audit_log.source import Place as Where
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.tenants.model import Tenant
from adinsights_orchestration.unattended import Quietly, as_ever
from tests.audit_log.archived import serve
from tests.audit_log.conftest import DAYS, LAST, Place
from tests.audit_log.restoring import LATER, all_days, retention
from tests.audit_log.rows import FIRST, moment
from tests.cli.conftest import Answer
from tests.quiet import Windows

OF_TENANTS = Source("notes", "notes", "at", ("id",), tenant="whose", place=Where.OPS_STORE, window_days=2_555)
NOTES = Source("notes", "notes", "at", ("id",), place=Where.OPS_STORE, window_days=90)
IN_A_YEAR = str(utc_now().date() + timedelta(days=365))
RANGE, NAMED = ("--from", str(FIRST), "--to", str(LAST)), ("--table", "notes")
Command = Callable[..., Answer]
OF_NOTES = key_of(NOTES)
APPLY = {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}}


@pytest.fixture
def noted(place: Place) -> Place:
    """Three notes of nobody's a day, besides the audit log."""
    place.now = moment(LAST + timedelta(days=1)) + timedelta(hours=3)
    with place.ops.begin() as connection:
        connection.execute(sa.text("create table notes (id int primary key, at timestamptz not null, words text)"))
        for number in range(18):
            values = {
                "id": number,
                "at": moment(FIRST + timedelta(days=number // 3), number),
                "words": f"note {number}",
            }
            connection.execute(sa.text("insert into notes values (:id, :at, :words)"), values)
    return place


def notes(place: Place, table: str = "notes") -> list[tuple[object, ...]]:
    with place.ops.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(f"select id, words from {table} order by id"))]


def archive(
    place: Place,
    instance: dg.DagsterInstance,
    *chosen: dg.AssetKey,
    first: date = FIRST,
    last: date = LAST,
    quietly: Quietly = as_ever,
) -> dg.ExecuteInProcessResult:
    """A run of the nightly job, or of some of its assets, as a backfill in the UI starts it."""
    definitions = build_archive(place.settings, place.ops, [NOTES], clock=lambda: place.now, quietly=quietly)
    tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    job = definitions.get_repository_def().get_job("audit_log_archive")
    return job.execute_in_process(
        instance=instance, tags=tags, raise_on_error=False, asset_selection=list(chosen) or None
    )


def checks_of(result: dg.ExecuteInProcessResult) -> dict[tuple[dg.AssetKey, str], bool]:
    return {(each.asset_key, each.check_name): each.passed for each in result.get_asset_check_evaluations()}


def newest(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, object]:
    """The metadata of its newest materialization."""
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def prune(place: Place, now: datetime = LATER) -> dg.ExecuteInProcessResult:
    retention(place)  # serves the registry
    settings, store = place.settings, place.ops
    definitions = build_retention(
        settings,
        store,
        [NOTES],
        rearchive=archive_again(settings, store),
        unproven=not_held_any_more(settings, store),
        clock=lambda: now,
    )
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    return job.execute_in_process(run_config=APPLY, raise_on_error=False)


def test_it_is_archived_in_the_same_run_goes_once_that_is_proven_and_comes_back(
    noted: Place, postgres_instance: dg.DagsterInstance
) -> None:
    before = notes(noted)
    result = archive(noted, postgres_instance)
    assert result.success
    assert checks_of(result) == {
        (key, check): True for key in (KEY, OF_NOTES) for check in (ALL_ARCHIVED, CHAIN_INTACT)
    }
    assert verify_range(noted.store, NOTES, FIRST, LAST).rows == len(before)
    assert prune(noted).success
    assert notes(noted) == []
    order = Order(wanted=all_days(), apply=True)
    report = Restore(noted.settings, noted.ops, NOTES, "a test", noted.store, lambda: LATER).run(order)
    assert (report.total.came, report.well) == (len(before), True)
    assert notes(noted, "notes_restored") == before


def test_what_the_archive_does_not_hold_any_more_stays_in_the_table(
    noted: Place, postgres_instance: dg.DagsterInstance
) -> None:
    assert archive(noted, postgres_instance).success
    (lost,) = [
        path for path in noted.folder.rglob("*.parquet") if "/notes/" in str(path) and f"dt={FIRST}" in str(path)
    ]
    lost.unlink()
    prune(noted)
    assert [number for number, _ in notes(noted)] == [0, 1, 2]


def test_a_day_of_it_that_is_missing_or_altered_fails_the_checks(
    noted: Place, postgres_instance: dg.DagsterInstance
) -> None:
    noted.archive()  # the audit log alone
    definitions = build_archive(noted.settings, noted.ops, [NOTES], clock=lambda: noted.now)
    schedule = definitions.get_repository_def().get_schedule_def("audit_log_archive_nightly")
    requests = schedule.evaluate_tick(dg.build_schedule_context()).run_requests
    assert requests
    assert requests[0].tags["dagster/asset_partition_range_start"] == str(FIRST)
    assert archive(noted, postgres_instance).success
    (altered,) = [
        path for path in noted.folder.rglob("*.parquet") if "/notes/" in str(path) and f"dt={LAST}" in str(path)
    ]
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")
    result = archive(noted, postgres_instance, first=LAST)
    assert {check for check, passed in checks_of(result).items() if not passed} == {(OF_NOTES, CHAIN_INTACT)}
    (broken,) = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert altered.name in str(broken.description)


def failing(result: dg.ExecuteInProcessResult) -> set[str]:
    return {each.check_name for each in result.get_asset_check_evaluations() if not each.passed}


def test_rows_of_it_that_vanish_or_are_too_old_fail_its_checks_and_late_ones_are_archived_again(
    noted: Place, postgres_instance: dg.DagsterInstance
) -> None:
    def change(statement: str, **values: object) -> None:
        with noted.ops.begin() as connection:
            connection.execute(sa.text(statement), values)

    assert archive(noted, postgres_instance).success
    inside = moment(LAST + timedelta(days=10))
    assert failing(prune(noted, inside)) == set()
    change("delete from notes where id = 0")
    change("insert into notes values (100, :at, 'late')", at=moment(FIRST + timedelta(days=1), 50))
    assert failing(prune(noted, inside)) == {"notes_no_row_vanished"}
    assert verify_range(noted.store, NOTES, FIRST, LAST).rows == 19, "the late one is archived, the lost one still"
    change("insert into notes values (200, :at, 'never archived')", at=moment(FIRST - timedelta(days=10)))
    assert failing(prune(noted)) == {"notes_no_row_past_its_window", "notes_no_row_vanished"}, "nobody has answered yet"
    assert [number for number, _ in notes(noted)] == [200]


def test_a_table_whose_rows_cannot_be_counted_keeps_no_other_unchecked(
    noted: Place, postgres_instance: dg.DagsterInstance
) -> None:
    assert archive(noted, postgres_instance).success
    with noted.ops.begin() as connection:
        connection.execute(sa.text("alter table notes rename to elsewhere"))
    result = prune(noted)
    assert not result.success
    assert {each.check_name for each in result.get_asset_check_evaluations()} == {
        "no_row_past_its_window",
        "no_row_vanished",
    }
    assert result.asset_materializations_for_node("audit_log__retention")


def test_it_is_followed_by_an_asset_of_its_own(noted: Place, postgres_instance: dg.DagsterInstance) -> None:
    assert archive(noted, postgres_instance).success
    assert len(postgres_instance.get_materialized_partitions(OF_NOTES)) == DAYS
    of_notes, of_the_audit_log = newest(postgres_instance, OF_NOTES), newest(postgres_instance, KEY)
    assert set(of_notes) == set(of_the_audit_log)
    assert (of_notes["archived rows"], of_the_audit_log["archived rows"]) == (len(notes(noted)), len(noted.rows))
    assert "data:image/svg+xml" in str(of_notes["rows per day"])
    assert "note 1" not in str(of_notes)


def test_a_backfill_of_it_is_one_run_that_leaves_the_audit_log_alone(
    noted: Place, postgres_instance: dg.DagsterInstance
) -> None:
    windows = Windows()
    result = archive(noted, postgres_instance, OF_NOTES, last=LAST - timedelta(days=1), quietly=windows)
    assert result.success
    assert len(postgres_instance.get_materialized_partitions(OF_NOTES)) == DAYS - 1
    assert postgres_instance.get_materialized_partitions(KEY) == set()
    assert not noted.folder.joinpath("audit/v1/accounts_auditlog").exists()
    assert checks_of(result) == {(OF_NOTES, ALL_ARCHIVED): False, (OF_NOTES, CHAIN_INTACT): True}
    assert windows.cover(rule="audit_log_late", resource="audit_log/notes/archive")
    assert windows.cover(rule="audit_log_failed", resource=f"audit_log/notes/archive:{ALL_ARCHIVED}")
    assert not windows.cover(rule="audit_log_late", resource="audit_log/archive")
    archive(noted, postgres_instance, quietly=windows)
    assert windows.cover(rule="audit_log_late", resource="audit_log/archive")
    assert windows.cover(rule="audit_log_late", resource="audit_log/notes/archive")


@pytest.mark.parametrize("failing", [NOTES, AUDIT_LOG], ids=["it", "the audit log"])
def test_a_table_that_fails_keeps_no_other_waiting(
    noted: Place, postgres_instance: dg.DagsterInstance, failing: Source
) -> None:
    if failing is NOTES:
        with noted.ops.begin() as connection:
            connection.execute(sa.text("alter table notes rename to elsewhere"))
    else:
        noted.backend.execute("alter table accounts_auditlog rename to elsewhere")
    (fine,) = {AUDIT_LOG, NOTES} - {failing}
    result = archive(noted, postgres_instance)
    assert not result.success
    assert failing.table in str(result.get_run_failure_event().event_specific_data)
    assert len(postgres_instance.get_materialized_partitions(key_of(fine))) == DAYS
    assert postgres_instance.get_materialized_partitions(key_of(failing)) == set()
    checks = checks_of(result)
    assert (checks[key_of(fine), ALL_ARCHIVED], checks[key_of(failing), ALL_ARCHIVED]) == (True, False)


@pytest.fixture
def command(noted: Place, audit_command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`adinsights audit`, where notes are among what is archived."""
    monkeypatch.setattr(own_history, "ARCHIVED", (NOTES,))
    serve(noted.ops, [Tenant(each, str(each), str(each)) for each in noted.tenants], now=utc_now())
    return audit_command


def test_the_commands_archive_prove_and_read_it_by_its_name(noted: Place, command: Command) -> None:
    assert command("archive", *RANGE, *NAMED).code == 0
    assert verify_range(noted.store, NOTES, FIRST, LAST).rows == len(notes(noted))
    told, of_the_audit_log = command("status", *NAMED, "--json").json, command("status", "--json").json
    assert (told["rows"], told["newest_day"]) == (len(notes(noted)), str(LAST))
    assert of_the_audit_log["days"] == 0
    assert command("verify", *RANGE, *NAMED, "--json").json["rows"] == len(notes(noted))
    newest = command("query", *NAMED, "--from", str(LAST), "--json").json
    assert [row["words"] for row in newest] == ["note 17", "note 16", "note 15"]
    assert command("query", *NAMED, "--sql", "select count(*) n from notes", "--json").json == [{"n": 18}]
    (lost,) = [path for path in noted.folder.rglob("*.parquet") if f"/notes/tenant_id=none/dt={LAST}" in str(path)]
    lost.unlink()
    assert command("mend", *RANGE, *NAMED, "--apply", "--json").json["damaged"] == []
    assert command("verify", *RANGE, *NAMED).code == 0


def test_what_the_command_archives_of_it_is_shown_as_materialized_too(
    noted: Place, command: Command, postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", postgres_instance.root_directory)
    assert command("archive", *RANGE, *NAMED).code == 0
    assert len(postgres_instance.get_materialized_partitions(OF_NOTES)) == DAYS
    assert newest(postgres_instance, OF_NOTES)["archived rows"] == len(notes(noted))
    assert postgres_instance.get_materialized_partitions(KEY) == set()


def test_the_commands_delete_it_and_bring_it_back_by_its_name(noted: Place, command: Command) -> None:
    before = notes(noted)
    command("archive", *RANGE, *NAMED)
    assert command("retention", *NAMED, "--json").json["rows"] == len(before)
    assert notes(noted) == before, "it only told"
    assert command("retention", *NAMED, "--apply").code == 0
    assert notes(noted) == []
    assert command("restore", *RANGE, *NAMED, "--apply").code == 0
    assert notes(noted, "notes_restored") == before
    assert command("restore", *RANGE, *NAMED, "--live", "--hold-until", IN_A_YEAR, "--apply").code == 0
    assert command("retention", *NAMED, "--apply").code == 0
    assert notes(noted) == before, "they are held"
    assert command("holds", "list", "--json").json == []
    (held,) = command("holds", "list", *NAMED, "--json").json
    assert command("holds", "end", str(held["id"]), *NAMED, "--yes").code == 0
    assert command("retention", *NAMED, "--apply").code == 0
    assert notes(noted) == []


@pytest.mark.parametrize(
    "what", [("archive",), ("verify",), ("query",), ("status",), ("retention",), ("mend",), ("restore", *RANGE)]
)
def test_a_name_under_which_nothing_is_archived_is_refused_with_those_that_there_are(
    command: Command, what: tuple[str, ...]
) -> None:
    for name in ("nothing", "own_finding"):  # the second one is declared, and goes by age
        answer = command(*what, "--table", name)
        assert (answer.code, name in answer.err) == (2, True)
        assert "accounts_auditlog, notes" in " ".join(answer.err.split())


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        (("--tenant", "00000000-0000-0000-0000-000000000001"), "tenant"),
        (("--action", "login", "--resource-type", "user"), "action and resource type"),
    ],
)
def test_filters_on_columns_that_it_has_not_are_refused(command: Command, filters: tuple[str, ...], named: str) -> None:
    command("archive", *RANGE, *NAMED)
    answer = command("query", *NAMED, *filters)
    assert (answer.code != 0, f"cannot be chosen by {named}" in " ".join(answer.err.split())) == (True, True)
    if named == "tenant":
        answer = command("restore", *RANGE, *NAMED, *filters)
        assert (answer.code != 0, "nobody's" in answer.err) == (True, True)


def test_a_window_that_is_declared_counts_for_every_tenant_whatever_its_contract_says(place: Place) -> None:
    tenant = place.tenants[0]
    serve(place.ops, [Tenant(tenant, "One", "one", retention_days=365)])
    with place.ops.begin() as connection:
        connection.execute(sa.text("create table notes (id int primary key, at timestamptz not null, whose uuid)"))
        values = [{"id": age, "at": LATER - timedelta(days=age), "whose": tenant} for age in (400, 2_554, 2_557)]
        connection.execute(sa.text("insert into notes values (:id, :at, :whose)"), values)
    source = replace(OF_TENANTS, archive=Archive.OFF)
    report = Retention(place.settings, place.ops, source, lambda: LATER, "a test", None, apply=True).run()
    with place.ops.begin() as connection:
        left = connection.execute(sa.text("select id from notes order by id")).scalars().all()
    assert (report.rows, left) == (1, [400, 2_554])


def test_a_condition_on_rows_and_an_archive_are_not_declared_together() -> None:
    with pytest.raises(ConfigurationError, match="has an archive, and a condition that only some of its rows meet"):
        replace(OF_TENANTS, only="t.closed_at is not null")
