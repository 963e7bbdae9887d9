"""What the UI shows of many tenants and months: no row is missing from it without a word."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from adinsights_orchestration.audit_log.restore.automation import metadata_of
from adinsights_orchestration.audit_log.restore.report import Counts, RestoreReport
from adinsights_orchestration.audit_log.retention.run import RetentionReport
from adinsights_orchestration.audit_log.retention.showing import of_run
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Archive

MONTHS = [date(2023 + number // 12, number % 12 + 1, 1) for number in range(12)]
Shown = Callable[[int], dict[str, Any]]


def name(tenant: UUID) -> str:
    return f"t{tenant.int:04}"


def deletion(tenants: int, *, dry_run: bool = True) -> dict[str, Any]:
    """Ten rows of each tenant's month are past their window."""
    rows = {(UUID(int=number), month): 10 for number in range(tenants) for month in MONTHS}
    return of_run(RetentionReport(AUDIT_LOG.name, dry_run, Archive.REQUIRED, rows), name)


def restore(tenants: int, *, dry_run: bool = True) -> dict[str, Any]:
    """Ten rows of each tenant's month are archived, and none is in the table."""
    came = 0 if dry_run else 10
    counts = {(UUID(int=number), month): Counts(10, came) for number in range(tenants) for month in MONTHS}
    return metadata_of(RestoreReport("somewhere", dry_run, counts=counts))


def table(shown: dict[str, Any]) -> str:
    return str(shown["by tenant and month"].value)


def lines(shown: dict[str, Any]) -> list[list[str]]:
    """The table's lines, without its head."""
    found = [line for line in table(shown).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[2:]]


@pytest.mark.parametrize("show", [deletion, restore])
@pytest.mark.parametrize("tenants", [3, 16, 17, 200, 500, 501, 900])
def test_what_is_shown_adds_up_to_the_total_however_many_tenants_there_are(show: Shown, tenants: int) -> None:
    *shown, total = lines(show(tenants))
    assert total[:3] == ["**total**", f"{tenants:,} tenants", f"{tenants * 120:,}"]
    assert sum(int(line[2].replace(",", "")) for line in shown) == tenants * 120


@pytest.mark.parametrize("tenants", [16, 17, 200, 500])
def test_every_tenant_shows_with_its_months_where_there_are_too_many_lines_for_each_of_them(tenants: int) -> None:
    *shown, _ = lines(deletion(tenants))
    assert {line[0] for line in shown} == {name(UUID(int=number)) for number in range(tenants)}
    if tenants == 16:
        assert shown[0] == ["t0000", "2023-01", "10"]
    else:
        assert shown[0] == ["t0000", "2023-01 to 2023-12 (12)", "120"]


def test_tenants_that_do_not_show_are_counted_with_their_rows() -> None:
    *_, rest, _ = lines(deletion(900))
    assert rest == ["400 more tenants", "", "48,000"]


@pytest.mark.parametrize(
    ("show", "command"), [(deletion, "adinsights audit retention"), (restore, "adinsights audit restore")]
)
def test_what_is_not_shown_is_said_with_the_command_that_shows_it(show: Shown, command: str) -> None:
    assert "too many" not in table(show(16))
    said = table(show(17)).splitlines()[0]
    assert said.startswith("204 lines by tenant and month are too many to show here: this is by tenant.")
    assert f"`{command}" in said
    assert "500 tenants" not in said
    assert "the first 500 tenants" in table(show(900)).splitlines()[0]


def test_after_a_run_that_deleted_the_audit_rows_tell_of_each_tenant() -> None:
    assert "audit_log_retention_deleted" in table(deletion(200, dry_run=False))
    assert "audit_log_restored" in table(restore(200, dry_run=False))


def test_lists_that_are_cut_say_what_is_not_in_them() -> None:
    unproven = {(UUID(int=number), MONTHS[0]): "the object is missing" for number in range(25)}
    shown = of_run(RetentionReport(AUDIT_LOG.name, True, Archive.REQUIRED, unproven=unproven), name)
    assert shown["not held by the archive any more"].value["5 more"] == "`adinsights audit retention --json` names all"
    problems = [f"tenant {number}" for number in range(203)]
    told = metadata_of(RestoreReport("somewhere", True, problems=problems))
    assert (told["problems"].value[:200], told["problems"].value[200:]) == (problems[:200], ["3 more"])
