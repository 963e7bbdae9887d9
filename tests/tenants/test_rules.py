"""The rules: one bad row is a problem with a place, and never costs another row."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.tenants.model import Provider, Registry, RegistryProblem, ScheduleType, Standing
from adinsights_orchestration.tenants.raw import RawConnection, RawRegistry, RawTenant, digest_of
from adinsights_orchestration.tenants.rules import build_registry
from adinsights_orchestration.tenants.store import NEVER_READ
from tests.tenants.builders import ACME, GLOBEX, NOW, built, raw_connection, raw_registry, raw_tenant


def _only_problem(registry: Registry) -> str:
    (problem,) = registry.problems
    return problem.problem


@pytest.mark.parametrize(
    ("columns", "standing"),
    [
        ({}, Standing.ACTIVE),
        ({"schedule_type": "cron", "cron_expression": " 0 6-22 * * * "}, Standing.ACTIVE),
        ({"schedule_type": "manual"}, Standing.MANUAL),
        ({"is_active": False}, Standing.PAUSED),
        ({"is_active": False, "schedule_type": "cron", "cron_expression": "rubbish"}, Standing.PAUSED),
        ({"is_active": False, "interval_minutes": None}, Standing.PAUSED),
        ({"schedule_type": "manual", "interval_minutes": None, "cron_expression": None}, Standing.MANUAL),
    ],
)
def test_a_sound_row_has_the_standing_that_its_columns_say(columns: dict[str, Any], standing: Standing) -> None:
    registry = built(raw_tenant(), raw_connection(**columns))
    assert [connection.standing for connection in registry.connections] == [standing]
    assert registry.problems == ()


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"interval_minutes": None}, "an interval schedule without interval_minutes"),
        ({"interval_minutes": 0}, "an interval of 0 minutes"),
        ({"interval_minutes": -15}, "an interval of -15 minutes"),
        ({"interval_minutes": 2**31 - 1}, "an interval of 2147483647 minutes"),
        ({"schedule_type": "cron", "cron_expression": ""}, "a cron schedule without an expression"),
        ({"schedule_type": "cron", "cron_expression": None}, "a cron schedule without an expression"),
        (
            {"schedule_type": "cron", "cron_expression": "99 * * * *"},
            "cron expression '99 * * * *': bad minute",
        ),
        ({"schedule_type": "sometimes"}, "unknown schedule type 'sometimes'; known: manual, interval, cron"),
    ],
)
def test_a_bad_schedule_makes_its_connection_misconfigured_and_says_why(columns: dict[str, Any], problem: str) -> None:
    registry = built(raw_tenant(), raw_connection(**columns), raw_connection(name="Sound"))
    broken, sound = registry.connections
    assert (broken.standing, sound.standing) == (Standing.MISCONFIGURED, Standing.ACTIVE)
    assert problem in (broken.problem or "")
    assert problem in _only_problem(registry)
    assert registry.problems[0].place == "row Meta Ads"
    assert _only_problem(registry).startswith("Acme Jamaica Ltd / Meta Ads: ")


@pytest.mark.parametrize("expression", ["0 6-22 * * *", "0 0 6-22 * * ?", "0 15 2 ? * MON-FRI 2026"])
def test_unix_and_quartz_expressions_are_both_taken(expression: str) -> None:
    row = raw_connection(schedule_type="cron", cron_expression=expression)
    registry = build_registry(raw_registry(raw_tenant(), row), (), NEVER_READ, default_timezone="UTC", read_at=NOW)
    assert registry.problems == ()
    assert registry.connections[0].schedule.cron == expression


@pytest.mark.parametrize(
    ("code", "words"), [("SNAPCHAT", "unknown provider 'SNAPCHAT'"), (None, "no provider"), ("", "no")]
)
def test_a_new_row_without_a_known_provider_is_left_out_with_a_problem(code: str | None, words: str) -> None:
    registry = built(raw_tenant(), raw_connection(provider=code), raw_connection(name="Sound"))
    assert [connection.name for connection in registry.connections] == ["Sound"]
    assert words in _only_problem(registry)


def test_a_row_that_lost_its_provider_stays_misconfigured_under_the_one_it_had() -> None:
    row = raw_connection(provider="TIKTOK")
    before = built(raw_tenant(), row)
    after = built(raw_tenant(), replace(row, provider="TICKTOCK"), previous=before)
    (connection,) = after.connections
    assert (connection.provider, connection.standing) == (Provider.TIKTOK_ADS, Standing.MISCONFIGURED)
    assert "unknown provider 'TICKTOCK'" in _only_problem(after)


@pytest.mark.parametrize("code", ["META", "GOOGLE", "LINKEDIN", "TIKTOK", "GOOGLE_ANALYTICS", "SEARCH_CONSOLE"])
def test_every_code_of_the_backend_is_a_provider(code: str) -> None:
    registry = built(raw_tenant(), raw_connection(provider=code))
    assert registry.connections[0].provider.backend_code == code


def test_a_tenant_without_connections_is_a_problem_and_is_served_all_the_same() -> None:
    registry = built(raw_tenant(), raw_connection(), raw_tenant(GLOBEX, "Globex"))
    assert [tenant.name for tenant in registry.tenants] == ["Acme Jamaica Ltd", "Globex"]
    assert registry.problems == (RegistryProblem(f"tenant {GLOBEX}", "the tenant 'Globex' has no connections"),)


def test_a_connection_of_an_unknown_tenant_is_left_out() -> None:
    registry = built(raw_tenant(), raw_connection(), raw_connection(GLOBEX))
    assert len(registry.connections) == 1
    assert f"unknown tenant {GLOBEX}" in _only_problem(registry)


def test_a_tenant_that_is_there_twice_is_used_once() -> None:
    registry = built(raw_tenant(), raw_tenant(name="Acme again"), raw_connection())
    assert [tenant.name for tenant in registry.tenants] == ["Acme Jamaica Ltd"]
    assert "is there twice" in _only_problem(registry)


AIRBYTE_ID = UUID("c0000000-0000-4000-8000-000000000003")


def test_one_airbyte_connection_in_two_tenants_is_used_for_the_first_and_said_of_the_second() -> None:
    rows = [raw_connection(each, connection_id=AIRBYTE_ID, place=f"row of {each}") for each in (ACME, GLOBEX)]
    registry = built(raw_tenant(), raw_tenant(GLOBEX, "Globex"), *rows)
    assert [connection.tenant_id for connection in registry.connections] == [ACME]
    assert registry.problems == (
        RegistryProblem(
            f"row of {GLOBEX}",
            f"the Airbyte connection {AIRBYTE_ID} is also of the tenant 'Acme Jamaica Ltd'; row of {ACME} is used",
        ),
    )


def test_a_duplicate_that_came_later_does_not_take_the_connection_from_the_row_that_has_it() -> None:
    old = raw_connection(ACME, connection_id=AIRBYTE_ID)
    before = built(raw_tenant(), old)
    usurper = raw_connection(GLOBEX, connection_id=AIRBYTE_ID)
    after = built(raw_tenant(GLOBEX, "Globex"), raw_tenant(), usurper, old, previous=before)
    assert [connection.row_id for connection in after.connections] == [old.row_id]


def test_a_tenant_that_hands_its_connection_over_pauses_its_row_and_the_other_is_used() -> None:
    old = raw_connection(ACME, connection_id=AIRBYTE_ID)
    before = built(raw_tenant(), old)
    new = raw_connection(GLOBEX, connection_id=AIRBYTE_ID)
    after = built(raw_tenant(), raw_tenant(GLOBEX, "Globex"), replace(old, is_active=False), new, previous=before)
    assert [connection.row_id for connection in after.connections] == [new.row_id]


def test_the_same_connection_twice_in_one_tenant_and_a_row_id_twice_are_each_used_once() -> None:
    row = raw_connection(name="First")
    registry = built(
        raw_tenant(),
        row,
        raw_connection(name="Same connection", connection_id=row.connection_id),
        raw_connection(name="Same row", row_id=row.row_id),
    )
    assert [connection.name for connection in registry.connections] == ["First"]
    texts = [problem.problem for problem in registry.problems]
    assert texts[0].startswith(f"the Airbyte connection {row.connection_id} is there twice")
    assert texts[1].startswith(f"the connection id {row.row_id} is there twice")


def test_a_tenant_that_left_is_kept_as_retired_under_its_slug_and_takes_it_up_again() -> None:
    before = built(raw_tenant(), raw_connection())
    without = built(raw_tenant(GLOBEX, "Acme Jamaica Ltd"), raw_connection(GLOBEX), previous=before)
    assert {tenant.id: (tenant.slug, tenant.retired) for tenant in without.tenants} == {
        ACME: ("acme-jamaica-ltd", True),
        GLOBEX: ("acme-jamaica-ltd-b0000000", False),
    }
    back = built(raw_tenant(name="Renamed"), raw_connection(), previous=without)
    assert (back.tenant(ACME).slug, back.tenant(ACME).retired) == ("acme-jamaica-ltd", False)


_SMALL_IDS = st.integers(1, 4).map(lambda number: UUID(int=number))
_TENANTS = st.builds(RawTenant, id=_SMALL_IDS, name=st.text(max_size=8), place=st.just("t"))
_ROWS = st.builds(
    RawConnection,
    row_id=st.integers(1, 6).map(lambda number: UUID(int=number)),
    tenant_id=_SMALL_IDS,
    provider=st.sampled_from(["META", "GOOGLE", "meta", "SNAPCHAT", "", None]),
    name=st.text(max_size=8),
    connection_id=st.integers(1, 6).map(lambda number: UUID(int=number)),
    workspace_id=st.none(),
    schedule_type=st.sampled_from(["manual", "interval", "cron", "", "Cron"]),
    interval_minutes=st.none() | st.integers(-5, 2**31 - 1),
    cron_expression=st.none() | st.text(max_size=12) | st.just("0 6-22 * * *"),
    is_active=st.booleans(),
    place=st.just("r"),
)


@given(st.lists(_TENANTS, max_size=5), st.lists(_ROWS, max_size=8), st.lists(_ROWS, max_size=8))
def test_whatever_a_source_holds_the_rules_return_a_registry_of_unique_usable_parts(
    tenants: list[RawTenant], rows: list[RawConnection], earlier_rows: list[RawConnection]
) -> None:
    earlier = _judged(RawRegistry("test", tuple(tenants[:3]), tuple(earlier_rows)), NEVER_READ)
    registry = _judged(RawRegistry("test", tuple(tenants), tuple(rows)), earlier)
    for values in (
        [tenant.id for tenant in registry.tenants],
        [tenant.slug for tenant in registry.tenants],
        [connection.row_id for connection in registry.connections],
        [connection.connection_id for connection in registry.connections],
    ):
        assert len(set(values)) == len(values)
    live = {tenant.id for tenant in registry.tenants if not tenant.retired}
    assert live == {tenant.id for tenant in tenants}
    for connection in registry.connections:
        assert connection.tenant_id in live
        if connection.standing is Standing.ACTIVE and connection.schedule.type is ScheduleType.INTERVAL:
            assert connection.schedule.interval is not None
            assert connection.schedule.interval >= timedelta(minutes=1)


def _judged(raw: RawRegistry, previous: Registry) -> Registry:
    return build_registry(raw, (), previous, default_timezone="America/Jamaica", read_at=NOW)


def test_the_digest_changes_with_every_column_and_with_nothing_else() -> None:
    row = raw_connection(row_id=uuid.UUID(int=1), connection_id=uuid.UUID(int=2))
    base = raw_registry(raw_tenant(), row)
    assert digest_of(base, "overlay") == digest_of(raw_registry(raw_tenant(), replace(row)), "overlay")
    columns: dict[str, Any] = {
        "provider": None,
        "name": "Meta",
        "connection_id": uuid.UUID(int=3),
        "workspace_id": uuid.UUID(int=3),
        "schedule_type": "manual",
        "interval_minutes": 61,
        "cron_expression": None,
        "is_active": False,
        "tenant_id": GLOBEX,
    }
    others = [
        raw_registry(raw_tenant(name="Acme"), row),
        raw_registry(raw_tenant()),
        *(raw_registry(raw_tenant(), replace(row, **{column: value})) for column, value in columns.items()),
    ]
    digests = {digest_of(each, "overlay") for each in [base, *others]} | {digest_of(base, "another overlay")}
    assert len(digests) == len(others) + 2
