"""Verifying and reading the archive from the store alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.reading.query import QueryError, Question, ask
from adinsights_orchestration.audit_log.reading.verify import VerifyReport, verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from tests.audit_log.conftest import DAYS, LAST, Place
from tests.audit_log.rows import FIRST


def verified(place: Place, **more: str) -> VerifyReport:
    return verify_range(place.store, AUDIT_LOG, FIRST, LAST, **more)  # type: ignore[arg-type]


def a_file(place: Place) -> Path:
    return min(place.folder.rglob("*.parquet"))


@pytest.fixture
def full(place: Place) -> Place:
    place.archive()
    return place


def test_a_range_is_proven_from_the_store_alone(full: Place) -> None:
    report = verified(full)
    assert (report.problems, report.missing) == ([], [])
    assert (report.rows, report.days, report.manifests) == (len(full.rows), DAYS, DAYS)


def test_one_flipped_bit_is_found_and_named(full: Place) -> None:
    path = a_file(full)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    problems = verified(full).problems
    assert len(problems) == 1
    assert path.name in problems[0]


def test_a_file_that_is_missing_is_named(full: Place) -> None:
    a_file(full).unlink()
    assert ["missing" in problem for problem in verified(full).problems] == [True]


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_manifest_that_was_changed_or_removed_breaks_the_chain(full: Place, how: str) -> None:
    path = full.store.path(chain.manifest_key(AUDIT_LOG.name, 3))
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b'"action"', b'"actiom"'))
    report = verified(full)
    assert report.problems
    assert report.manifests < DAYS


def test_a_chain_whose_end_was_cut_off_is_found_by_its_head(full: Place) -> None:
    head = verified(full).head
    full.store.path(chain.manifest_key(AUDIT_LOG.name, DAYS)).unlink()
    report = verified(full, head=head)
    assert report.missing == [LAST]
    assert any("its end is missing" in problem for problem in report.problems)


def test_a_day_that_nobody_archived_is_told(full: Place) -> None:
    report = verify_range(full.store, AUDIT_LOG, FIRST, LAST + timedelta(days=1))
    assert report.missing == [LAST + timedelta(days=1)]


def test_a_tenants_rows_of_some_days_are_read_where_they_lie(full: Place) -> None:
    tenant = full.tenants[1]
    answer = ask(full.store, AUDIT_LOG, Question(tenant=tenant, first=FIRST, last=FIRST, limit=1000))
    id_ = answer.columns.index("id")
    wanted = {row.id for row in full.rows if row.tenant == tenant and row.day == FIRST}
    assert ({row[id_] for row in answer.rows}, answer.objects) == (wanted, 1)


def test_filters_and_sql_agree(full: Place) -> None:
    login = ask(full.store, AUDIT_LOG, Question(action="login", limit=10_000))
    counted = ask(full.store, AUDIT_LOG, Question(sql="select count(*) from audit_log where action = 'login'"))
    assert counted.rows == [(len(login.rows),)] == [(len(full.rows),)]


@pytest.mark.parametrize(
    "sql", ["select * from read_text('/etc/passwd')", "copy audit_log to '/tmp/x.csv'", "nonsense"]
)
def test_sql_reaches_the_archive_and_no_other_file(full: Place, sql: str) -> None:
    with pytest.raises(QueryError):
        ask(full.store, AUDIT_LOG, Question(sql=sql))
    assert not Path("/tmp/x.csv").exists()
