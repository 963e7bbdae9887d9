"""`adinsights audit retention`, as somebody types it: what it tells is what is done, in lines that can be read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from adinsights_orchestration.audit_log.retention.run import RetentionReport
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Archive
from adinsights_orchestration.cli.audit_retention import left
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.tenants.model import ResourceHold
from tests.audit_log.conftest import Place
from tests.audit_log.living import register
from tests.audit_log.rows import FIRST, Row, moment
from tests.cli.conftest import Answer

Command = Callable[..., Answer]


def test_a_dry_run_counts_what_goes_after_being_archived_anew_and_apply_deletes_exactly_that(
    place: Place, audit_command: Command
) -> None:
    place.archive()
    register(place, now=utc_now(), legal_holds=(ResourceHold("user", "7"),))
    one = place.tenants[0]
    place.add([Row(one, moment(FIRST, 80_000)), Row(one, moment(FIRST, 80_001), "user", "7")])
    free = len([row for row in place.rows if row.tenant == one and row.day == FIRST]) - 1
    said = audit_command("retention")
    words = " ".join((said.out + said.err).split())
    assert f"{free} of these rows are of 1 tenants' days that differ from their archive" in words
    assert ("it stays" in words, said.code) == (False, 0)
    told = audit_command("retention", "--json").json
    assert told["anew"] == [{"tenant": str(one), "day": str(FIRST), "rows": free}]
    assert told["rows"] == len(place.rows) - 1
    done = audit_command("retention", "--apply", "--json").json
    assert (done["rows"], done["by_tenant_and_month"]) == (told["rows"], told["by_tenant_and_month"])
    assert (done["anew"], done["unequal"]) == ([], [])


def test_what_stays_of_a_long_backlog_is_told_by_its_reason_in_few_lines() -> None:
    days = [(UUID(int=1), FIRST + timedelta(days=number)) for number in range(1000)]
    report = RetentionReport(AUDIT_LOG.name, dry_run=False, archive=Archive.REQUIRED, unequal=days)
    report.unproven = dict.fromkeys(days[:21], "the store did not answer")
    report.blocked = {days[0]: "LockNotAvailable"}
    lines = left(report)
    assert lines[0].startswith("1,000 tenants' days differ from their archive")
    assert [line for line in lines if "--json" in line] == [
        "  980 more; --json names them all",
        "  1 more; --json names them all",
    ]
    assert lines.count(f"  {days[0][0]} {FIRST} (the store did not answer)") == 1
    assert f"  {days[0][0]} {FIRST} (LockNotAvailable)" in lines
    assert len(lines) < 60


def test_days_that_the_archive_lost_are_named_and_fail_the_command(place: Place, audit_command: Command) -> None:
    place.archive()
    register(place, now=utc_now())
    lost = [path for path in place.folder.rglob("*.parquet") if str(place.tenants[0]) in str(path)]
    for path in lost:
        path.unlink()
    said = audit_command("retention", "--apply")
    words = " ".join((said.out + said.err).split())
    assert f"{len(lost)} tenants' days the archive does not hold any more; they stay" in words
    assert (f"{place.tenants[0]} {FIRST} (" in words, said.code) == (True, 1)
    told = audit_command("retention", "--json").json
    assert {each["tenant"] for each in told["unproven"]} == {str(place.tenants[0])}
    assert (len(told["unproven"]), told["blocked"]) == (len(lost), [])


def test_days_that_somebody_else_deleted_are_told_and_fail_nothing(place: Place, audit_command: Command) -> None:
    place.archive()
    register(place, now=utc_now())
    place.backend.execute("delete from accounts_auditlog where tenant_id = %s", place.tenants[0])
    days = {row.day for row in place.rows if row.tenant == place.tenants[0]}
    for arguments in ((), ("--apply",)):
        said = audit_command("retention", *arguments)
        words = " ".join((said.out + said.err).split())
        assert (f"{len(days)} tenants' days were gone already" in words, said.code) == (True, 0)
    assert "gone already" not in audit_command("retention").out, "it is written down by then"
