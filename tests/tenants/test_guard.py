"""A read that lacks most of what is served: when it is believed, and what happens while it is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adinsights_orchestration.ops_store.findings import Finding, open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import BackendSettings, RegistrySettings, RegistrySource, Settings
from adinsights_orchestration.tenants.guard import unbelievable_loss
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from adinsights_orchestration.tenants.refresh import RefreshReport, refresh
from adinsights_orchestration.tenants.store import load_registry, registry_health
from tests.backend.backend_tables import Backend, backend_settings
from tests.tenants.builders import HOURLY, NOW

# ------------------------------------------------------------------------------------------------------------ the rule

Shape = dict[int, dict[int, bool]]  # tenant -> connection -> whether it is active


def _registry(shape: Shape) -> Registry:
    tenants = tuple(Tenant(UUID(int=number + 1), f"T{number}", f"t{number}") for number in shape)
    connections = tuple(
        Connection(
            row_id=UUID(int=1000 * tenant + number + 1),
            tenant_id=UUID(int=tenant + 1),
            provider=Provider.META,
            name=str(number),
            connection_id=UUID(int=1000 * tenant + number + 1),
            schedule=HOURLY if number % 3 else Schedule(ScheduleType.MANUAL),
            is_active=active,
            partition_key=f"t{tenant}/{number}",
        )
        for tenant, of_it in shape.items()
        for number, active in of_it.items()
    )
    return Registry(tenants, connections, "a test", NOW)


_CONNECTIONS = st.dictionaries(st.integers(0, 11), st.booleans(), max_size=12)
_SHAPES = st.dictionaries(st.integers(0, 7), _CONNECTIONS, max_size=8)


@st.composite
def _losses(draw: st.DrawFn) -> tuple[Shape, Shape]:
    """A registry, and what of it a later read still has: some tenants are gone, and some connections of the others."""
    before = draw(_SHAPES)
    kept = {tenant for tenant in before if draw(st.booleans())}
    after = {
        tenant: {number: active for number, active in before[tenant].items() if draw(st.booleans())} for tenant in kept
    }
    return before, after


def _active(shape: Shape) -> set[tuple[int, int]]:
    return {(tenant, number) for tenant, of_it in shape.items() for number, active in of_it.items() if active}


def _held(before: Shape, after: Shape) -> bool:
    return unbelievable_loss(_registry(before), _registry(after)) is not None


@given(_losses())
def test_where_at_most_half_of_everything_is_gone_a_read_is_believed(shapes: tuple[Shape, Shape]) -> None:
    before, after = shapes
    had, has = _active(before), _active(after)
    of_those_here = {pair for pair in had if pair[0] in after}
    halves = (
        2 * len(after) >= len(before)
        and 2 * len(has) >= len(had)
        and 2 * len(has) >= len(of_those_here)
        and (any(after.values()) or not any(before.values()))
    )
    if halves:
        assert not _held(before, after)


@given(_losses())
def test_where_more_than_half_of_many_are_gone_a_read_is_not_believed(shapes: tuple[Shape, Shape]) -> None:
    before, after = shapes
    gone_tenants = len(before) - len(after)
    had, has = _active(before), _active(after)
    here = {pair for pair in had if pair[0] in after}
    if 2 * gone_tenants > len(before) and gone_tenants >= 3:
        assert _held(before, after)
    if 2 * len(had - has) > len(had) and len(had - has) >= 10:
        assert _held(before, after)
    if 2 * len(here - has) > len(here) and len(here - has) >= 3:
        assert _held(before, after)


@given(_SHAPES, st.booleans())
def test_where_nothing_is_left_a_read_is_never_believed(before: Shape, tenants_stay: bool) -> None:
    after: Shape = {tenant: {} for tenant in before} if tenants_stay else {}
    assert _held(before, after) == (any(before.values()) if tenants_stay else bool(before))


@given(st.dictionaries(st.integers(0, 8), st.booleans(), max_size=9), st.dictionaries(st.integers(0, 8), st.booleans()))
def test_one_of_two_tenants_of_a_small_registry_may_always_leave(
    leaving: dict[int, bool], staying: dict[int, bool]
) -> None:
    after = {1: staying}
    if staying or not leaving:
        assert not _held({0: leaving, 1: staying}, after)


@given(_losses(), _SHAPES)
def test_what_is_new_in_a_read_vouches_for_nothing_that_it_lacks(shapes: tuple[Shape, Shape], new: Shape) -> None:
    before, after = shapes
    elsewhere = {tenant + 100: of_it for tenant, of_it in new.items()}
    if any(after.values()):
        assert _held(before, after) == _held(before, after | elsewhere)


@given(_losses())
def test_a_paused_connection_counts_only_where_nothing_is_left(shapes: tuple[Shape, Shape]) -> None:
    before, after = shapes
    without = {tenant: {number: True for number, active in of_it.items() if active} for tenant, of_it in before.items()}
    kept = {tenant: {number: True for number, active in of_it.items() if active} for tenant, of_it in after.items()}
    if any(kept.values()):
        assert _held(before, after) == _held(without, kept)


def test_pausing_every_connection_is_no_loss() -> None:
    before = {0: dict.fromkeys(range(12), True)}
    assert not _held(before, {0: dict.fromkeys(range(12), False)})


# --------------------------------------------------------------------------------------------------------- the refresh


class _Platform:
    """Twenty tenants with two connections each, read once; a clock that goes on a minute with each refresh."""

    def __init__(self, backend: Backend, store: OpsStore) -> None:
        self.backend, self.store, self.minutes = backend, store, 0
        backend.execute(
            "insert into accounts_tenant"
            " select ('a0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Tenant ' || n, now()"
            " from generate_series(1, 20) n"
        )
        backend.execute(
            "insert into integrations_airbyteconnection"
            " (id, tenant_id, provider, name, connection_id, schedule_type, interval_minutes, created_at, updated_at)"
            " select gen_random_uuid(), id, 'META', kind, gen_random_uuid(), 'interval', 60, now(), now()"
            " from accounts_tenant, unnest(array['One', 'Two']) kind"
        )
        self.dsn = backend.dsn
        assert self.refresh().error is None

    def refresh(self, *, accept_loss: bool = False) -> RefreshReport:
        self.minutes += 1
        settings = Settings(backend=backend_settings(self.dsn))
        return refresh(settings, self.store, NOW + timedelta(minutes=self.minutes), accept_loss=accept_loss)

    def served(self) -> int:
        return sum(not connection.retired for connection in load_registry(self.store).connections)

    def findings(self) -> list[Finding]:
        with self.store.begin() as connection:
            return [each for each in open_findings(connection) if each.kind != "registry_problem"]


@pytest.fixture
def platform(backend: Backend, ops_store: OpsStore) -> _Platform:
    """Forty connections that are served."""
    return _Platform(backend, ops_store)


def _policy_hides_most(platform: _Platform) -> None:
    platform.dsn = platform.backend.role()
    platform.backend.execute(
        "create policy only_one on integrations_airbyteconnection as restrictive"
        " using (tenant_id = 'a0000000-0000-4000-8000-000000000001')"
    )


def _half_restored_connections(platform: _Platform) -> None:
    platform.backend.execute(
        "delete from integrations_airbyteconnection where id in"
        " (select id from integrations_airbyteconnection order by id limit 25)"
    )


def _half_restored_tenants(platform: _Platform) -> None:
    platform.backend.execute(
        "delete from accounts_tenant where id in (select id from accounts_tenant order by id limit 11)"
    )


@pytest.mark.parametrize("misfortune", [_policy_hides_most, _half_restored_connections, _half_restored_tenants])
def test_a_read_that_lacks_most_keeps_the_last_good_registry_and_says_what_to_do(
    platform: _Platform, misfortune: Callable[[_Platform], None]
) -> None:
    misfortune(platform)
    for report in (platform.refresh(), platform.refresh()):
        assert platform.served() == 40
        assert (report.changed, report.retired) == (False, ())
        assert "suddenly lacks" in (report.error or "")
        assert "--accept-loss" in (report.error or "")
        (finding,) = platform.findings()
        assert (finding.kind, finding.subject) == ("registry_shrunk", "backend")
        assert 2 * finding.detail["lost"] > finding.detail["had"]
        assert len(finding.detail["among_them"]) == min(finding.detail["lost"], 20)
        assert "--accept-loss" in finding.detail["next_step"]
    health = registry_health(platform.store, NOW + timedelta(minutes=platform.minutes))
    assert health.age == timedelta(minutes=2)
    assert "suddenly lacks" in (health.error or "")


def test_once_a_person_vouches_for_the_loss_it_is_taken_and_the_guard_stands_for_the_next_one(
    platform: _Platform,
) -> None:
    _half_restored_tenants(platform)
    platform.refresh()
    taken = platform.refresh(accept_loss=True)
    assert (taken.error, len(taken.retired), platform.served()) == (None, 22, 18)
    assert platform.findings() == []
    assert platform.refresh().error is None
    platform.backend.execute(
        "delete from accounts_tenant where id in (select id from accounts_tenant order by id limit 5)"
    )
    assert platform.refresh().error is not None
    assert platform.served() == 18


def test_a_source_that_is_whole_again_is_served_without_anybody_doing_anything(platform: _Platform) -> None:
    _policy_hides_most(platform)
    platform.refresh()
    platform.backend.execute("drop policy only_one on integrations_airbyteconnection")
    assert platform.refresh().error is None
    assert platform.findings() == []
    assert registry_health(platform.store, NOW).error is None


def test_a_source_that_cannot_be_read_any_more_leaves_what_was_found_before(platform: _Platform) -> None:
    _half_restored_connections(platform)
    platform.refresh()
    platform.dsn = "postgresql://u@127.0.0.1:1/x"
    platform.refresh()
    assert {each.kind for each in platform.findings()} == {"registry_shrunk", "registry_unreadable"}
    platform.dsn = platform.backend.dsn
    platform.refresh()
    assert {each.kind for each in platform.findings()} == {"registry_shrunk"}


def test_a_policy_that_names_another_setting_is_an_error_and_retires_nobody(platform: _Platform) -> None:
    platform.dsn = platform.backend.role()
    platform.backend.execute(
        "alter policy tenant_isolation on integrations_airbyteconnection"
        " using (tenant_id = current_setting('app.other', true)::uuid)"
    )
    assert platform.refresh().error is not None
    assert platform.served() == 40


def _file(tenants: int) -> str:
    lines = ["tenants:"]
    for number in range(1, tenants + 1):
        lines += [
            f"  - id: a0000000-0000-4000-8000-{number:012d}",
            f"    name: Tenant {number}",
            "    connections:",
            f"      - {{provider: meta, name: Meta, connection_id: {UUID(int=number << 96)}}}",
        ]
    return "\n".join(lines) + "\n"


def test_a_file_that_was_cut_off_after_a_few_tenants_is_not_believed(ops_store: OpsStore, tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    nowhere = BackendSettings(dsn=SecretStr("postgresql://u@127.0.0.1:1/x"))
    settings = Settings(backend=nowhere, registry=RegistrySettings(source=RegistrySource.YAML, yaml_path=file))
    whole = _file(10)
    file.write_text(whole)
    assert refresh(settings, ops_store, NOW).error is None
    file.write_text(whole[: whole.index("  - id: a0000000-0000-4000-8000-000000000005")])
    report = refresh(settings, ops_store, NOW)
    assert "the file registry.yaml suddenly lacks 6 of 10 tenants (tenant-10, tenant-5, tenant-6, ...)" in (
        report.error or ""
    )
    assert len(load_registry(ops_store).connections) == 10
    file.write_text(_file(6))  # four of ten may leave without anybody's word
    assert refresh(settings, ops_store, NOW).error is None
