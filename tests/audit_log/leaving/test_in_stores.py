"""The archive's own life over each store: a real S3 server, a stand-in of GCS, a folder; and one that refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.leaving.compaction import compact
from adinsights_orchestration.audit_log.leaving.erasure import Erasure
from adinsights_orchestration.audit_log.leaving.expiry import expire
from adinsights_orchestration.audit_log.leaving.matching import Subject
from adinsights_orchestration.audit_log.leaving.removing import Archive
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archive.test_in_buckets import FIRST, LAST, TENANTS, World, build
from tests.audit_log.archived import NOW, serve
from tests.audit_log.rows import Row, moment
from tests.audit_log.stores import KINDS
from tests.objects_served.wire import Seen, answering

END_OF_MONTH = FIRST.replace(day=30)
SECRET = "to-be-erased"


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    yield from build(request.param, request, tmp_path / "archive")


def is_removal(seen: Seen) -> bool:
    """S3 is asked by a list, GCS object by object."""
    return seen.method == "DELETE" or (seen.method == "POST" and "delete" in seen.query)


def keys(world: World) -> set[str]:
    return {key for key in world.store.keys("audit/v1/accounts_auditlog/") if key.endswith(".parquet")}


def test_a_month_is_compacted_erased_from_and_expires(world: World) -> None:
    world.add(Row(TENANTS[1], moment(FIRST, 60), resource_id=SECRET))
    Archiver(world.settings, world.ops, AUDIT_LOG).run(FIRST, END_OF_MONTH, actor="a test")
    assert world.retain().rows == len(world.rows)
    archive = Archive(world.settings, world.ops, AUDIT_LOG, "a test", clock=lambda: NOW + timedelta(days=14))
    serve(
        world.ops, [Tenant(each, "T", f"t{each.int}", archive_retention_days=366) for each in TENANTS], archive.clock()
    )
    before = keys(world)
    (month,) = compact(archive, apply=True).months
    assert (month.before, month.after, len(keys(world))) == (len(before), len(TENANTS), len(TENANTS))
    world.proven()
    subject = Subject(TENANTS[1], resource_type="airbyte_connection", resource_id=SECRET)
    assert Erasure(archive, subject, "request 1").apply().rows == {FIRST: 1}
    world.rows = [row for row in world.rows if row.resource_id != SECRET]
    world.proven()
    if world.behind.wire is not None:
        world.wire.fault = answering(is_removal, 403, "AccessDenied")
        report = expire(archive, apply=True)
        assert (len(report.swept.refused), report.swept.removed, report.pending) == (len(TENANTS), 0, len(TENANTS))
        assert len(verify_range(world.store, AUDIT_LOG, FIRST, LAST).lingering) == len(TENANTS)
        world.wire.fault = answering(is_removal, 503, "SlowDown")
        report = expire(archive, apply=True)
        assert (report.swept.left, report.swept.refused, report.pending) == (len(TENANTS), {}, len(TENANTS))
        world.wire.fault = None
    expire(archive, apply=True)
    found = verify_range(world.store, AUDIT_LOG, FIRST, LAST)
    assert (keys(world), found.problems, found.missing, found.lingering, found.rows) == (set(), [], [], [], 0)
    assert [each.cause.value for each in found.removed] == ["compacted", "erased", "expired"]
