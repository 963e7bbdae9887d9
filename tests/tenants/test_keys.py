"""Partition keys: whatever happens to a connection, its key is never changed, never shared, never lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adinsights_orchestration.tenants.keys import Assignment, FrozenKey, FrozenKeys, assign_keys, with_keys
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from adinsights_orchestration.tenants.store import NEVER_READ
from tests.tenants.builders import ACME, GLOBEX, HOURLY, NOW, connection

SLUGS = {ACME: "acme", GLOBEX: "globex"}
NO_KEYS = FrozenKeys({}, {})


def _id(number: int) -> UUID:
    return UUID(f"1f0c2a9b-0000-4000-8000-{number:012x}")


def _after(frozen: FrozenKeys, assignment: Assignment) -> FrozenKeys:
    """The keys as a store that wrote the assignment would return them."""
    keys = dict(frozen.keys) | {key.key: key for key in (*assignment.created, *assignment.changed)}
    connections = {each: key for each, key in frozen.connections.items() if each not in assignment.connections}
    return FrozenKeys(keys, connections | dict(assignment.connections))


@dataclass
class _Reads:
    """A history of reads."""

    frozen: FrozenKeys = NO_KEYS
    last: Assignment | None = None
    registry: Registry = NEVER_READ

    def read(self, *connections: Connection) -> dict[UUID, str]:
        self.last = assign_keys(connections, SLUGS, self.frozen)
        tenants = tuple(Tenant(each, slug, slug) for each, slug in SLUGS.items())
        built = Registry(tenants, connections, "test", NOW)
        self.registry = with_keys(built, self.last, self.frozen, self.registry)
        self.frozen = _after(self.frozen, self.last)
        return dict(self.last.key_of)


def test_a_new_key_is_made_of_tenant_connection_and_the_start_of_airbytes_id() -> None:
    assert assign_keys([connection(_id(1), _id(2))], SLUGS, NO_KEYS).key_of == {_id(1): "acme/meta-ads-1f0c2a9b"}


def test_a_connection_whose_name_has_no_ascii_is_called_after_its_provider() -> None:
    nameless = replace(connection(_id(1), _id(2), name="広告"), provider=Provider.GOOGLE_ADS)
    assert assign_keys([nameless], SLUGS, NO_KEYS).key_of == {_id(1): "acme/google-ads-1f0c2a9b"}


def test_keys_that_would_be_equal_take_more_of_the_id() -> None:
    keys = assign_keys([connection(_id(1), _id(2)), connection(_id(3), _id(4))], SLUGS, NO_KEYS).key_of
    assert keys == {_id(1): "acme/meta-ads-1f0c2a9b", _id(3): "acme/meta-ads-1f0c2a9b0000"}


def test_the_same_airbyte_connection_may_need_a_key_more_than_twice() -> None:
    taken = {
        key: FrozenKey(key, Provider.META, _id(90 + number), GLOBEX, "Other", retired=True)
        for number, key in enumerate(
            [
                *(f"acme/meta-ads-{_id(2).hex[:length]}" for length in (8, 12, 16, 20, 24, 28, 32)),
                f"acme/meta-ads-{_id(2).hex}-2",
            ]
        )
    }
    keys = assign_keys([connection(_id(1), _id(2))], SLUGS, FrozenKeys(taken, {_id(50): next(iter(taken))})).key_of
    assert keys == {_id(1): f"acme/meta-ads-{_id(2).hex}-3"}


def test_a_row_keeps_its_key_through_a_rename_a_move_and_a_new_airbyte_connection() -> None:
    reads = _Reads()
    row = connection(_id(1), _id(2))
    key = reads.read(row)[_id(1)]
    for changed in (
        replace(row, name="Something else"),
        replace(row, tenant_id=GLOBEX),
        replace(row, workspace_id=_id(9)),
        replace(row, connection_id=_id(3)),
        replace(row, provider=Provider.GA4),
    ):
        assert reads.read(changed) == {_id(1): key}
    assert {each for each, its in reads.frozen.connections.items() if its == key} == {_id(2), _id(3)}


def test_a_row_that_was_made_again_for_the_same_airbyte_connection_keeps_the_key_even_in_another_tenant() -> None:
    reads = _Reads()
    key = reads.read(connection(_id(1), _id(2)))[_id(1)]
    assert reads.read(connection(_id(5), _id(2), GLOBEX, "New name")) == {_id(5): key}


def test_a_row_and_an_airbyte_connection_that_were_both_made_again_keep_the_key_by_their_name() -> None:
    reads = _Reads()
    key = reads.read(connection(_id(1), _id(2), name="Meta Ads"))[_id(1)]
    assert reads.read(connection(_id(5), _id(6), name=" meta  ADS ")) == {_id(5): key}


def test_a_second_connection_with_a_name_that_is_in_use_gets_a_key_of_its_own() -> None:
    reads = _Reads()
    key = reads.read(connection(_id(1), _id(2)))[_id(1)]
    keys = reads.read(connection(_id(1), _id(2)), connection(_id(5), _id(6)))
    assert keys[_id(1)] == key
    assert keys[_id(5)] != key


def test_of_two_vanished_connections_with_one_name_the_one_in_use_until_now_goes_on() -> None:
    reads = _Reads()
    long_gone = reads.read(connection(_id(1), _id(2)))[_id(1)]
    in_use = reads.read(replace(connection(_id(1), _id(2)), name="Renamed"), connection(_id(3), _id(4)))[_id(3)]
    reads.read(connection(_id(1), _id(2)), connection(_id(3), _id(4)))
    reads.read(connection(_id(3), _id(4)))
    assert reads.read(connection(_id(5), _id(6))) == {_id(5): in_use}
    assert reads.frozen.keys[long_gone].retired


def test_an_old_airbyte_id_that_comes_back_in_a_second_row_does_not_take_the_key_with_it() -> None:
    reads = _Reads()
    key = reads.read(connection(_id(1), _id(2)))[_id(1)]
    reads.read(connection(_id(1), _id(3)))
    keys = reads.read(connection(_id(1), _id(3)), connection(_id(5), _id(2), name="Restored"))
    assert keys[_id(1)] == key
    assert reads.frozen.connections == {_id(3): key, _id(2): keys[_id(5)]}


def test_of_two_rows_with_two_ids_of_one_key_the_younger_id_goes_on() -> None:
    reads = _Reads()
    key = reads.read(connection(_id(1), _id(2)))[_id(1)]
    reads.read(connection(_id(1), _id(3)))
    keys = reads.read(connection(_id(5), _id(2), name="A"), connection(_id(6), _id(3), name="B"))
    assert keys[_id(6)] == key
    assert keys[_id(5)] != key


def test_leaving_and_coming_back_is_reported_once_each() -> None:
    reads = _Reads()
    row = connection(_id(1), _id(2))
    key = reads.read(row)[_id(1)]
    seen = []
    for present in ((), (), (row,), (row,)):
        reads.read(*present)
        assert reads.last is not None
        seen.append((reads.last.retired, reads.last.returned))
    assert seen == [((key,), ()), ((), ()), ((), (key,)), ((), ())]


def test_a_retired_connection_stays_in_the_registry_as_it_was_last_seen() -> None:
    reads = _Reads()
    row = replace(connection(_id(1), _id(2)), schedule=HOURLY, workspace_id=_id(8))
    key = reads.read(row)[_id(1)]
    reads.read()
    assert reads.registry.connections == (replace(row, retired=True, partition_key=key),)
    assert reads.registry.partitions()[Provider.META] == ()


def test_a_key_whose_snapshot_was_lost_is_remembered_by_the_key_alone() -> None:
    reads = _Reads()
    key = reads.read(connection(_id(1), _id(2)))[_id(1)]
    reads.read(connection(_id(1), _id(3)))
    built = Registry((), (), "test", NOW)
    registry = with_keys(built, assign_keys((), SLUGS, reads.frozen), reads.frozen, NEVER_READ)
    (remembered,) = registry.connections
    assert (remembered.partition_key, remembered.retired, remembered.connection_id) == (key, True, _id(3))
    assert remembered.schedule == Schedule(ScheduleType.MANUAL)
    assert registry.tenant(ACME).retired


# Names and ids from small sets, so that everything collides: equal names, equal starts of ids, ids that come back.
_NAMES = st.sampled_from(["Meta Ads", "meta ads", "Meta-Ads", "Other"])
_TENANT_IDS = st.sampled_from([ACME, GLOBEX])


@dataclass
class _World:
    """What the backend holds: the source of truth that reads are taken from."""

    rows: dict[UUID, Connection] = field(default_factory=dict)
    deleted: list[Connection] = field(default_factory=list)
    numbers: int = 100

    def fresh_id(self) -> UUID:
        self.numbers += 1
        return _id(self.numbers)


class KeyHistories(RuleBasedStateMachine):
    """Any history of sign-ups, renames, moves, re-creations, departures and returns, read after every few changes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = _World()
        self.reads = _Reads()
        self.known: dict[UUID, str] = {}
        self.every_key: set[str] = set()

    def _pick(self, data: st.DataObject) -> Connection:
        return self.world.rows[data.draw(st.sampled_from(sorted(self.world.rows)))]

    def _one_change_later(self, before: Connection, after: Connection) -> None:
        """Reads, makes one change, reads: the connection goes on under the key that it had."""
        self.read()
        key = self.known[before.row_id]
        del self.world.rows[before.row_id]
        self.world.rows[after.row_id] = after
        self.read()
        assert self.known[after.row_id] == key

    @rule(tenant=_TENANT_IDS, name=_NAMES)
    def sign_up(self, tenant: UUID, name: str) -> None:
        row = connection(self.world.fresh_id(), self.world.fresh_id(), tenant, name)
        self.world.rows[row.row_id] = row

    @precondition(lambda self: self.world.rows)
    @rule(data=st.data(), name=_NAMES)
    def rename(self, data: st.DataObject, name: str) -> None:
        row = self._pick(data)
        self._one_change_later(row, replace(row, name=name))

    @precondition(lambda self: self.world.rows)
    @rule(data=st.data(), tenant=_TENANT_IDS)
    def move_the_row(self, data: st.DataObject, tenant: UUID) -> None:
        row = self._pick(data)
        self._one_change_later(row, replace(row, tenant_id=tenant))

    @precondition(lambda self: self.world.rows)
    @rule(data=st.data(), tenant=_TENANT_IDS, name=_NAMES)
    def move_the_airbyte_connection_to_a_new_row(self, data: st.DataObject, tenant: UUID, name: str) -> None:
        row = self._pick(data)
        self._one_change_later(row, replace(row, row_id=self.world.fresh_id(), tenant_id=tenant, name=name))

    @precondition(lambda self: self.world.rows)
    @rule(data=st.data())
    def create_the_airbyte_connection_again(self, data: st.DataObject) -> None:
        row = self._pick(data)
        self._one_change_later(row, replace(row, connection_id=self.world.fresh_id()))

    @precondition(lambda self: self.world.rows)
    @rule(data=st.data())
    def create_row_and_airbyte_connection_again(self, data: st.DataObject) -> None:
        row = self._pick(data)
        again = replace(row, row_id=self.world.fresh_id(), connection_id=self.world.fresh_id())
        self._one_change_later(row, again)

    @precondition(lambda self: self.world.rows)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        row = self._pick(data)
        self.world.deleted.append(self.world.rows.pop(row.row_id))

    @precondition(lambda self: self.world.deleted)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.world.deleted))
        in_use = {each.connection_id for each in self.world.rows.values()}
        if row.row_id not in self.world.rows and row.connection_id not in in_use:
            self.world.rows[row.row_id] = row

    @precondition(lambda self: len(self.world.rows) > 1)
    @rule(data=st.data())
    def swap_two_airbyte_connections(self, data: st.DataObject) -> None:
        one, two = self._pick(data), self._pick(data)
        self.world.rows[one.row_id] = replace(one, connection_id=two.connection_id)
        if one.row_id != two.row_id:
            self.world.rows[two.row_id] = replace(two, connection_id=one.connection_id)

    @rule()
    def read(self) -> None:
        before = self.known
        self.known = self.reads.read(*self.world.rows.values())
        assert self.known.keys() == self.world.rows.keys()
        assert all(self.known[row_id] == key for row_id, key in before.items() if row_id in self.known)

    @invariant()
    def no_key_is_shared(self) -> None:
        assert len(set(self.known.values())) == len(self.known)
        rows = [key.row_id for key in self.reads.frozen.keys.values()]
        assert len(set(rows)) == len(rows)

    @invariant()
    def no_key_is_lost(self) -> None:
        assert self.every_key <= self.reads.frozen.keys.keys()
        self.every_key |= self.reads.frozen.keys.keys()
        in_registry = [each.partition_key for each in self.reads.registry.connections]
        assert sorted(in_registry) == sorted(self.every_key)

    @invariant()
    def exactly_the_present_ones_are_not_retired(self) -> None:
        live = {each.partition_key for each in self.reads.registry.connections if not each.retired}
        assert live == set(self.known.values())
        assert live == {key.key for key in self.reads.frozen.keys.values() if not key.retired}

    @invariant()
    def every_airbyte_id_points_to_the_key_of_the_row_that_has_it(self) -> None:
        for each in self.reads.registry.connections:
            if not each.retired:
                assert self.reads.frozen.connections[each.connection_id] == each.partition_key


TestKeyHistories = KeyHistories.TestCase
TestKeyHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
