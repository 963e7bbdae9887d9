"""Holds on restored rows in the tenants' own logs: whoever is held by one, or no more, reads it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.holds import ENDED, LONGEST
from adinsights_orchestration.audit_log.restore.run import Restore
from adinsights_orchestration.audit_log.restore.target import RestoreError
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.audit_tables import audit_hold
from tests.audit_log.conftest import Place
from tests.audit_log.living import register
from tests.audit_log.restoring import LATER, UNTIL, all_days, audit_rows, restore, restore_live, retention
from tests.audit_log.rows import TABLE
from tests.cli.conftest import Answer

Command = Callable[..., Answer]


@pytest.fixture
def there(place: Place) -> Place:
    """Archived, and all rows still in the table."""
    place.archive()
    retention(place)
    return place


def test_a_hold_of_a_restore_that_brings_nothing_is_in_the_log_of_everybody_whose_rows_it_holds(there: Place) -> None:
    assert restore_live(there).total.came == 0
    rows = audit_rows(there)
    assert sorted(row.tenant_id for row in rows) == there.tenants
    assert {(row.detail["rows"], row.detail["hold_until"]) for row in rows} == {(0, UNTIL.isoformat())}
    restore_live(there)
    assert len(audit_rows(there)) == 3, "nothing is held that was not before"
    restore(there, all_days(there.tenants[0]), live=True, hold_until=UNTIL + timedelta(days=1))
    assert [row.tenant_id for row in audit_rows(there)[3:]] == there.tenants[:1]


def test_a_restore_tells_each_tenant_once_whether_rows_came_or_are_held_alone(there: Place) -> None:
    there.backend.execute(f"delete from {TABLE} where tenant_id = %s", there.tenants[1])
    came = restore_live(there).total.came
    told = {row.tenant_id: row.detail["rows"] for row in audit_rows(there)}
    assert told == {there.tenants[0]: 0, there.tenants[1]: came, there.tenants[2]: 0}
    assert len(audit_rows(there)) == 3


def test_the_hold_of_a_restore_that_was_killed_is_told_by_whoever_comes_next(
    there: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def killed(*_: object) -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Restore, "_journalled", killed)
        with pytest.raises(KeyboardInterrupt):
            restore_live(there)
    assert audit_rows(there) == []
    restore(there)
    assert {(row.detail["rows"], row.detail.get("hold_until")) for row in audit_rows(there)[:3]} == {
        (0, UNTIL.isoformat())
    }


def test_the_end_of_a_hold_on_everybody_is_in_the_log_of_all_whose_rows_it_held(
    place: Place, audit_command: Command
) -> None:
    place.archive()
    newcomer = place.backend.add_tenant("Came later")
    register(place, now=utc_now(), retired=True)
    restore(place, live=True, hold_until=UNTIL)
    with place.ops.begin() as connection:
        connection.execute(sa.update(audit_hold).values(ends_at=utc_now() + timedelta(days=9)))
        hold = connection.execute(sa.select(audit_hold.c.id)).scalar_one()
    assert audit_command("holds", "end", str(hold), "--yes").code == 0
    rows = audit_rows(place, ENDED)
    left, *served = place.tenants
    assert {row.tenant_id for row in rows} == {None, *served}
    assert newcomer not in {row.tenant_id for row in rows}
    assert [UUID(row.detail["tenant"]) for row in rows if row.tenant_id is None] == [left]


def test_a_hold_that_would_last_longer_than_the_longest_contract_is_refused_before_it_is_set(there: Place) -> None:
    with pytest.raises(RestoreError, match="longer than the 2,555 days"):
        restore(there, live=True, hold_until=LATER + LONGEST + timedelta(seconds=1))
    with there.ops.begin() as connection:
        assert connection.execute(sa.select(audit_hold)).all() == []
    assert restore(there, live=True, hold_until=LATER + LONGEST).well
