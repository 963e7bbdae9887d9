"""Sessions that hold locks: what they hold, that their end is noticed, and that a vanished host's end is too."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.store import OpsStore
from tests.transformation.support import end_sessions


def test_a_session_holds_what_it_took_until_it_is_closed(ops_store: OpsStore) -> None:
    session = ops_store.session()
    session.open()
    assert session.take("one")
    assert session.take("two")
    assert ops_store.held(["one", "two", "three"]) == {"one", "two"}
    session.close()
    assert ops_store.held(["one", "two", "three"]) == set()


def test_asking_who_holds_a_lock_takes_none(ops_store: OpsStore) -> None:
    with ops_store.begin() as connection:
        ops_store.held(["one"])
        held = (  # pg_locks shows those of all databases
            "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database"
            " where locktype = 'advisory' and datname = current_database()"
        )
        assert connection.exec_driver_sql(held).scalar() == 0


def test_a_lock_that_is_held_is_refused_to_another_session_and_seen_whatever_its_number(ops_store: OpsStore) -> None:
    names = [f"lock {number}" for number in range(40)]  # numbers of either sign, and with the halves' upper bits set
    session, other = ops_store.session(), ops_store.session()
    session.open()
    other.open()
    assert all(session.take(name) for name in names)
    assert not any(other.take(name) for name in names)
    assert ops_store.held(names) == set(names)
    session.close()
    other.close()


def test_a_session_that_ended_says_so_and_is_never_replaced_behind_the_callers_back(ops_store: OpsStore) -> None:
    session = ops_store.session()
    session.open()
    session.take("one")
    end_sessions(ops_store)
    for _ in range(2):
        with pytest.raises(OpsStoreError):
            session.take("one")
        assert not session.is_open
    session.open()
    assert session.take("one")
    session.close()


def test_the_server_looks_after_sessions_whose_host_may_have_lost_its_power(ops_store: OpsStore) -> None:
    session = ops_store.session()
    session.open()
    shown = "select current_setting('tcp_keepalives_idle')::int + 3 * current_setting('tcp_keepalives_interval')::int"
    assert session.run(sa.text(shown)).scalar_one() == 30
    session.close()
    with ops_store.begin() as connection:
        assert connection.exec_driver_sql(shown).scalar_one() == 30
