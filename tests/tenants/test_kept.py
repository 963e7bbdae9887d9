"""What keeps audit rows goes on until somebody takes it back in writing, whatever becomes of names and entries."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.tenants.keys import FrozenKeys, assign_keys, with_keys
from adinsights_orchestration.tenants.model import MINIMUM_RETENTION_DAYS, Registry, ResourceHold
from adinsights_orchestration.tenants.overlay import parse_overlay
from adinsights_orchestration.tenants.raw import RawTenant
from adinsights_orchestration.tenants.rules import build_registry
from adinsights_orchestration.tenants.store import NEVER_READ
from tests.tenants.builders import ACME, GLOBEX, NOW, raw_registry, raw_tenant

NO_KEYS = FrozenKeys({}, {})
HELD = "{legal_hold: true, retention_days: 2555, legal_holds: [{resource_type: user}]}"
STATED = HELD.strip("{}")


def read(
    *tenants: RawTenant, overlay: str = "", before: Registry = NEVER_READ, archived: set[UUID] | None = None
) -> Registry:
    """One read of tenants without connections, as a refresh judges it: whoever left is kept by nothing else."""
    built = build_registry(
        raw_registry(*tenants),
        parse_overlay(overlay, "tenants.yaml"),
        before,
        default_timezone="America/Jamaica",
        read_at=NOW,
        archived=archived or (),
    )
    return with_keys(built, assign_keys((), {}, NO_KEYS), NO_KEYS, before)


def entry(of: str, says: str = STATED) -> str:
    return f"tenants:\n  - {{{of}, {says}}}\n"


def mended(registry: Registry) -> list[str]:
    """The problems that are about what keeps rows."""
    return [each.problem for each in registry.problems if "no connections" not in each.problem]


def kept(registry: Registry, tenant_id: UUID = ACME) -> tuple[bool, int, tuple[ResourceHold, ...]]:
    tenant = registry.tenant(tenant_id)
    return tenant.legal_hold, tenant.retention_days, tenant.legal_holds


ALL = (True, 2555, (ResourceHold("user"),))
NOTHING = (False, MINIMUM_RETENTION_DAYS, ())


@pytest.fixture
def served() -> Registry:
    """Acme, with everything that keeps rows."""
    registry = read(raw_tenant(name="Acme"), overlay=entry("name: Acme"))
    assert (kept(registry), mended(registry)) == (ALL, [])
    return registry


@pytest.mark.parametrize(
    ("tenants", "overlay"),
    [
        ([raw_tenant(name="Acme Ltd")], entry("name: Acme")),
        ([raw_tenant(name="Acme"), raw_tenant(GLOBEX, "Acme")], entry("name: Acme")),
        ([raw_tenant(name="Acme Ltd"), raw_tenant(GLOBEX, "Acme")], entry("name: Acme")),
        ([raw_tenant(name="Acme")], ""),
        ([raw_tenant(name="Acme")], "tenants: []\n"),
        ([raw_tenant(name="Acme")], entry("name: Acme", "owner: team")),
        ([raw_tenant(name="Acme")], entry("name: Akme")),
    ],
    ids=["renamed", "a namesake", "another has the name", "emptied", "no entries", "keys fell out", "a slip"],
)
def test_what_an_entry_stopped_to_say_stays_in_force_and_a_problem_says_how_to_end_it(
    served: Registry, tenants: list[RawTenant], overlay: str
) -> None:
    first = read(*tenants, overlay=overlay, before=served)
    again = read(*tenants, overlay=overlay + "# a comment\n", before=first)
    for registry in (first, again):
        assert kept(registry) == ALL
        (problem,) = [
            each for each in registry.problems if each.place == f"tenant {ACME}" and "overlay" in each.problem
        ]
        assert f"id {ACME} with legal_hold: false, legal_holds: [], retention_days: 365" in problem.problem


def test_a_hold_ends_where_an_entry_says_so_and_the_entry_may_go_then(served: Registry) -> None:
    lifted = read(
        raw_tenant(name="Acme"),
        overlay=entry("name: Acme", "legal_hold: false, legal_holds: [], retention_days: 365"),
        before=served,
    )
    assert (kept(lifted), mended(lifted)) == (NOTHING, [])
    without = read(raw_tenant(name="Acme"), before=lifted)
    assert (kept(without), mended(without)) == (NOTHING, [])


def test_a_shorter_list_of_held_resources_is_what_holds(served: Registry) -> None:
    says = "legal_hold: true, retention_days: 2555, legal_holds: [{resource_type: role}]"
    assert kept(read(raw_tenant(name="Acme"), overlay=entry("name: Acme", says), before=served)) == (
        True,
        2555,
        (ResourceHold("role"),),
    )


@pytest.mark.parametrize("of", ["name: Acme", f"id: {ACME}"])
def test_whoever_has_left_is_still_meant_by_an_entry_that_holds_and_by_one_that_lifts(of: str) -> None:
    plain = read(
        raw_tenant(name="Acme"), raw_tenant(GLOBEX, "Globex"), overlay=entry("name: Acme", "retention_days: 400")
    )
    left = read(raw_tenant(GLOBEX, "Globex"), overlay=entry("name: Acme", "retention_days: 400"), before=plain)
    assert left.tenant(ACME).retired
    held = read(raw_tenant(GLOBEX, "Globex"), overlay=entry(of), before=left)
    assert (kept(held), held.tenant(ACME).retired, mended(held)) == (ALL, True, [])
    silent = read(raw_tenant(GLOBEX, "Globex"), before=held)
    assert kept(silent) == ALL
    assert "legal_hold: false, legal_holds: []" in "".join(mended(silent))
    lifting = entry(of, "legal_hold: false, legal_holds: [], retention_days: 365")
    assert all(each.id != ACME for each in read(raw_tenant(GLOBEX, "Globex"), overlay=lifting, before=silent).tenants)


def test_a_tenant_that_only_the_archive_knows_is_held_by_its_id() -> None:
    globex, overlay = raw_tenant(GLOBEX, "Globex"), entry(f"id: {ACME}")
    held = read(globex, overlay=overlay, archived={ACME})
    assert (kept(held), held.tenant(ACME).retired, mended(held)) == (ALL, True, [])
    assert kept(read(globex, before=held)) == ALL


@pytest.mark.parametrize(
    ("of", "says", "keeps"),
    [
        ("name: Nobody", "legal_hold: true", True),
        ("name: Nobody", "legal_holds: [{resource_type: user}]", True),
        (f"id: {UUID(int=7)}", "retention_days: 400", True),
        ("name: Globex", "legal_hold: true", True),  # two are called so
        ("name: Nobody", "legal_hold: false, retention_days: 365, legal_holds: []", False),
        ("name: Nobody", "archive_retention_days: 400", False),
    ],
)
def test_an_entry_that_keeps_rows_of_nobody_is_told_apart_from_one_that_does_no_harm(
    of: str, says: str, keeps: bool
) -> None:
    twins = raw_tenant(name="Globex"), raw_tenant(GLOBEX, "Globex")
    found = [each for each in read(*twins, overlay=entry(of, says)).problems if each.place == "tenants.yaml:2"]
    assert [each.keeps_rows for each in found] == [keeps]


def test_a_second_entry_of_a_tenant_that_keeps_rows_is_not_passed_over_in_silence() -> None:
    overlay = f"tenants:\n  - {{id: {ACME}, owner: team}}\n  - {{name: Acme, legal_hold: true}}\n"
    assert [each.keeps_rows for each in read(raw_tenant(name="Acme"), overlay=overlay).problems] == [True, False]


def test_an_archive_never_forgets_before_a_window_that_is_still_in_force(served: Registry) -> None:
    registry = read(raw_tenant(name="Acme"), overlay=entry("name: Acme", "archive_retention_days: 400"), before=served)
    tenant = registry.tenant(ACME)
    assert (tenant.retention_days, tenant.archive_retention_days) == (2555, None)


_READS = st.lists(
    st.tuples(
        st.sampled_from([None, "Acme", "Acme Ltd"]),
        st.sampled_from([None, "Acme", "Globex"]),
        st.lists(
            st.tuples(
                st.sampled_from(["name: Acme", "name: Acme Ltd", f"id: {ACME}", "name: Globex"]),
                st.sampled_from(["owner: team", "legal_hold: true", "legal_hold: false", "retention_days: 500"]),
            ),
            max_size=3,
            unique_by=lambda pair: pair[0],
        ),
    ),
    max_size=8,
)


@given(_READS)
def test_no_history_of_reads_ends_a_hold_that_no_entry_lifts(history) -> None:  # type: ignore[no-untyped-def]
    registry = NEVER_READ
    for acme, globex, entries in history:
        tenants = [raw_tenant(each, name) for each, name in ((ACME, acme), (GLOBEX, globex)) if name]
        overlay = "tenants:\n" + "".join(f"  - {{{of}, {says}}}\n" for of, says in entries)
        before, registry = registry, read(*tenants, overlay=overlay, before=registry)
        held = {each.id for each in registry.tenants if each.legal_hold}
        lost = {each.id for each in before.tenants if each.legal_hold} - held
        assert len(lost) <= sum(says == "legal_hold: false" for _, says in entries)
        asked = [of for of, says in entries if says == "legal_hold: true"]
        refused = any(each.keeps_rows for each in registry.problems)
        assert refused or len(held) >= len(asked)
