"""A tenant that has left: handed over, then removed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.leaving.offboarding import Offboarding, OffboardingPlan
from adinsights_orchestration.audit_log.leaving.removing import RemovalError
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.retention.policy import RetentionRefusedError
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.ops_store.tables import registry_status
from adinsights_orchestration.plan_digest import PlanChangedError
from adinsights_orchestration.settings import RegistrySettings
from adinsights_orchestration.tenants.refresh import refresh
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.living import (
    MUCH_LATER,
    archive_of,
    expired,
    leave_the_table,
    objects,
    register,
    rows_by_day,
    verified,
)
from tests.audit_log.restoring import audit_rows
from tests.audit_log.rows import FIRST, moment


@pytest.fixture
def left(place: Place) -> Place:
    """Archived and out of the table; the first tenant has left."""
    place.archive()
    leave_the_table(place)
    register(place, retired=True)
    return place


def offboarding(place: Place, **more: Any) -> Offboarding:
    return Offboarding(archive_of(place), place.tenants[0], "contract ended", **more)


def mine(place: Place) -> set[str]:
    return {key for key in objects(place) if chain.tenant_of_key(key) == place.tenants[0]}


def total(plan: OffboardingPlan) -> int:
    return sum(plan.rows.values())


def test_all_of_the_tenant_leaves_and_nothing_of_another(left: Place) -> None:
    others = objects(left) - mine(left)
    plan = offboarding(left).apply()
    assert plan.rows == rows_by_day(left, left.tenants[0])
    assert objects(left) == others
    found = verified(left)
    assert (found.problems, found.missing, found.rows) == ([], [], len(left.rows) - total(plan))
    assert [(each.cause.value, each.reason, each.tenants) for each in found.removed] == [
        ("offboarded", "contract ended", (left.tenants[0],))
    ]


def test_the_plan_changes_nothing_and_only_the_plan_that_was_read_is_done(left: Place) -> None:
    before = objects(left)
    read = offboarding(left).plan()
    assert objects(left) == before
    with pytest.raises(PlanChangedError):
        offboarding(left).apply("another")
    assert objects(left) == before
    assert total(offboarding(left).apply(read.digest)) == total(read)


def test_what_was_handed_over_is_all_of_it_for_any_reader(left: Place, tmp_path: Path) -> None:
    folder = tmp_path / "handed over"
    plan = offboarding(left, export=folder).apply()
    assert plan.exported == (total(plan), str(folder))
    files = sorted(folder.glob("*.parquet"))
    found = duckdb.execute(f"select id from read_parquet({[str(path) for path in files]})").fetchall()
    assert {row[0] for row in found} == {row.id for row in left.rows if row.tenant == left.tenants[0]}
    contents = json.loads((folder / "contents.json").read_text())
    assert (contents["rows"], set(contents["files"])) == (total(plan), {path.name for path in files})
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_nothing_is_removed_when_the_hand_over_fails(left: Place, tmp_path: Path) -> None:
    (tmp_path / "something").write_text("is here")
    before = objects(left)
    with pytest.raises(RemovalError, match="in this folder already"):
        offboarding(left, export=tmp_path).apply()
    path = left.store.path(min(mine(left)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ContentError):
        offboarding(left, export=tmp_path / "new").apply()
    assert objects(left) == before


@pytest.mark.parametrize(
    ("tenant", "said"),
    [({"retired": False}, "still serves"), ({"retired": True, "legal_hold": True}, "legal hold")],
)
def test_who_is_served_or_held_by_the_law_does_not_leave(left: Place, tenant: dict[str, Any], said: str) -> None:
    register(left, **tenant)
    assert said in " ".join(offboarding(left).plan().obstacles)
    with pytest.raises(RemovalError, match=said):
        offboarding(left).apply()
    assert mine(left)


@pytest.fixture
def read(left: Place, tmp_path: Path) -> Callable[[str], list[str]]:
    """Reads the registry with this overlay, as the sensor does, and returns what is in the way of the first tenant."""
    overlay = tmp_path / "tenants.yaml"
    settings = left.settings.model_copy(update={"registry": RegistrySettings(overlay_path=overlay)})

    def now(text: str) -> list[str]:
        overlay.write_text(text)
        assert refresh(settings, left.ops, MUCH_LATER).error is None
        return offboarding(left).plan().obstacles

    with left.ops.begin() as connection:  # nothing was read yet
        connection.execute(sa.delete(registry_status))
    assert now("") == ["the backend still serves this tenant: it must be removed there first"]
    left.backend.execute("delete from accounts_tenant where id = %s", left.tenants[0])
    return now


def test_a_hold_that_is_written_down_after_a_tenant_left_keeps_its_archive_until_it_is_lifted(
    left: Place, read: Callable[[str], list[str]]
) -> None:
    one = f"id: {left.tenants[0]}"
    assert read("") == []
    for overlay in (f"tenants: [{{{one}, legal_hold: true}}]", f"tenants: [{{{one}, owner: team}}]", ""):
        assert "a legal hold is on this tenant" in " ".join(read(overlay))
        with pytest.raises(RemovalError, match="legal hold"):
            offboarding(left, younger=True).apply()
    assert mine(left)
    assert read(f"tenants: [{{{one}, legal_hold: false}}]") == []
    assert total(offboarding(left).apply()) > 0


def test_a_hold_by_the_name_of_who_left_goes_on_and_ends_in_writing(
    left: Place, read: Callable[[str], list[str]]
) -> None:
    left.backend.execute("insert into accounts_tenant values (%s, 'Acme', now())", left.tenants[0])
    held = "tenants: [{name: Acme, legal_hold: true}]"
    assert "a legal hold is on this tenant" in " ".join(read(held))
    left.backend.execute("delete from accounts_tenant where id = %s", left.tenants[0])
    assert "a legal hold is on this tenant" in " ".join(read(held + "  # it left"))
    assert read("tenants: [{name: Acme, legal_hold: false}]") == []


def test_a_hold_on_somebody_who_cannot_be_found_lets_nobody_leave(
    left: Place, read: Callable[[str], list[str]]
) -> None:
    with pytest.raises(RetentionRefusedError, match="no tenant is 'Tenant Nought'; name it by its id"):
        read("tenants: [{name: Tenant Nought, legal_hold: true}]")
    with pytest.raises(RetentionRefusedError, match="Tenant Nought"):
        expired(left)
    assert mine(left)


def test_while_rows_are_in_the_table_nothing_leaves(place: Place) -> None:
    place.archive()
    register(place, retired=True)
    with pytest.raises(RemovalError, match="in the table"):
        offboarding(place).apply()


def test_what_is_younger_than_a_year_stays_unless_it_is_said(left: Place) -> None:
    now = moment(FIRST + timedelta(days=367), 7 * 3600)
    register(left, now=now, retired=True)
    archive = archive_of(left, now=now)
    plan = Offboarding(archive, left.tenants[0]).apply()
    assert set(plan.rows) | set(plan.kept) == set(rows_by_day(left, left.tenants[0]))
    assert max(plan.rows) == FIRST + timedelta(days=1)
    assert verified(left).problems == []
    rest = Offboarding(archive, left.tenants[0], younger=True).apply()
    assert (set(rest.rows), mine(left)) == (set(plan.kept), set())


def test_objects_that_a_run_that_died_left_behind_go_too(left: Place) -> None:
    key = chain.data_key(AUDIT_LOG.name, left.tenants[0], "2024-01-01", uuid.uuid4().hex)
    left.store.create(key, left.store.get(min(mine(left))))
    assert key in offboarding(left).plan().removed
    offboarding(left).apply()
    assert mine(left) == set()
    assert verified(left).problems == []


def test_what_a_run_that_died_left_goes_also_when_nothing_else_is_left(left: Place) -> None:
    content = left.store.get(min(mine(left)))
    offboarding(left).apply()
    assert offboarding(left).plan().removed == {}
    key = chain.data_key(AUDIT_LOG.name, left.tenants[0], "2024-01-01", uuid.uuid4().hex)
    left.store.create(key, content)
    plan = offboarding(left).apply()
    assert (set(plan.removed), plan.rows, mine(left)) == ({key}, {}, set())
    assert verified(left).problems == []


def test_the_audit_row_of_who_has_left_stays_in_the_journal(left: Place) -> None:
    plan = offboarding(left).apply()
    (row,) = audit_rows(left, "audit_log_archive_offboarded")
    assert (row.tenant_id, row.detail["tenant"]) == (None, str(left.tenants[0]))
    assert (row.detail["rows"], row.detail["reason"]) == (total(plan), "contract ended")
    assert (row.detail["first_day"], row.detail["last_day"]) == (str(FIRST), str(LAST))
    assert row.created_at == MUCH_LATER
