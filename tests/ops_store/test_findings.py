"""Findings: one open row per kind and subject, however often it is seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.ops_store import findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import finding

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def test_a_finding_seen_twice_is_one_row_with_the_newest_detail(ops_store: OpsStore) -> None:
    with ops_store.begin() as connection:
        assert findings.open_finding(connection, "kind", "subject", {"reason": "first"}, NOW)
        assert not findings.open_finding(connection, "kind", "subject", {"reason": "same moment"}, NOW)
        assert not findings.open_finding(connection, "kind", "subject", {"reason": "second"}, LATER)
        (only,) = findings.open_findings(connection)
    assert only == findings.Finding("kind", "subject", {"reason": "second"}, NOW, LATER)


def test_a_cleared_finding_that_comes_back_is_a_new_one_and_the_old_one_stays_on_record(ops_store: OpsStore) -> None:
    with ops_store.begin() as connection:
        findings.open_finding(connection, "kind", "subject", {}, NOW)
        assert findings.clear_finding(connection, "kind", "subject", NOW)
        assert not findings.clear_finding(connection, "kind", "subject", NOW)
        assert findings.open_finding(connection, "kind", "subject", {}, LATER)
        assert findings.open_findings(connection)[0].first_seen_at == LATER
        assert connection.execute(sa.select(sa.func.count()).select_from(finding)).scalar_one() == 2


def test_replacing_findings_opens_the_new_clears_the_gone_and_leaves_other_kinds_alone(ops_store: OpsStore) -> None:
    with ops_store.begin() as connection:
        findings.open_finding(connection, "other", "x", {}, NOW)
        findings.replace_findings(connection, "kind", {"a": {"n": 1}, "b": {"n": 1}}, NOW)
        findings.replace_findings(connection, "kind", {"b": {"n": 2}, "c": {"n": 2}}, LATER)
        seen = {
            each.subject: (each.detail["n"], each.first_seen_at) for each in findings.open_findings(connection, "kind")
        }
        assert seen == {"b": (2, NOW), "c": (2, LATER)}
        findings.replace_findings(connection, "kind", {}, LATER)
        assert [each.kind for each in findings.open_findings(connection)] == ["other"]
