"""All checks at once: nothing that hangs, raises or is missing keeps the others from being told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from adinsights_orchestration.doctor.catalog import CHECKS
from adinsights_orchestration.doctor.model import Check, Result, Status, exit_code, ok, some, warn
from adinsights_orchestration.doctor.runner import examine
from adinsights_orchestration.doctor.world import Once, World
from adinsights_orchestration.errors import AdinsightsError, ConfigurationError
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Registry

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def world() -> World:
    return World(Settings(), {}, NOW)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield int(listener.getsockname()[1])


def test_results_come_in_the_order_of_the_checks_however_they_end(world: World) -> None:
    first_done = threading.Event()

    def slow(_: World) -> object:
        first_done.wait(30)
        return ok("slow")

    def quick(_: World) -> object:
        first_done.set()
        return ok("quick")

    told: list[str] = []
    checks = (Check("slow", slow), Check("quick", quick))  # type: ignore[arg-type]
    results = examine(world, checks, deadline_seconds=60, told=lambda result: told.append(result.name))
    assert [result.name for result in results] == ["slow", "quick"]
    assert told == ["quick", "slow"]


def test_a_check_that_hangs_fails_alone(world: World) -> None:
    never = threading.Event()
    checks = (Check("hangs", lambda _: never.wait() and ok("")), Check("fine", lambda _: ok("fine")))  # type: ignore[arg-type, return-value]
    hangs, fine = examine(world, checks, deadline_seconds=3)
    assert (hangs.status, fine.status) == (Status.FAIL, Status.OK)
    assert "no answer" in hangs.detail


def test_a_failure_with_a_next_step_keeps_it(world: World) -> None:
    def look(_: World) -> None:
        raise ConfigurationError("it is wrong", place="SETTING", next_step="Mend it; `adinsights doctor` shows more.")

    (result,) = examine(world, [Check("x", look)])  # type: ignore[arg-type]
    assert (result.status, result.detail, result.next_step) == (Status.FAIL, "SETTING: it is wrong", "Mend it.")


def test_a_defect_of_a_check_is_one_line_without_secrets(world: World) -> None:
    def look(_: World) -> None:
        raise RuntimeError("password=canary-in-a-defect\nsecond line")

    (result,) = examine(world, [Check("x", look)])  # type: ignore[arg-type]
    assert result.status is Status.FAIL
    assert result.detail == "RuntimeError: password=[redacted]"


def test_what_a_failed_fact_explains_is_skipped(world: World) -> None:
    world.registry = Once(_unreadable)
    (result,) = examine(world, [Check("x", lambda _: ok("never"), needs=("registry",))])
    assert (result.status, result.detail) == (Status.SKIPPED, "cannot be told without: registry")


def test_a_fact_is_found_out_once_and_its_failure_is_everybodys() -> None:
    calls: list[int] = []

    def find() -> str:
        calls.append(1)
        raise AdinsightsError("no")

    fact = Once(find)
    for _ in range(3):
        with pytest.raises(AdinsightsError, match="no"):
            fact.get()
    assert len(calls) == 1
    assert fact.settled


def test_servers_that_take_connections_and_never_answer_do_not_hang_the_doctor(silent_server: int) -> None:
    dsn = SecretStr(f"postgresql://user:canary-dsn-password@127.0.0.1:{silent_server}/db")
    url = f"http://127.0.0.1:{silent_server}"
    default = Settings()
    settings = default.model_copy(
        update={
            "ops_store": default.ops_store.model_copy(update={"dsn": dsn}),
            "backend": default.backend.model_copy(update={"dsn": dsn, "url": url}),
            "airbyte": default.airbyte.model_copy(update={"public_api_url": url, "config_api_url": url}),
            "warehouse": default.warehouse.model_copy(update={"port": silent_server}),
            "dagster": default.dagster.model_copy(update={"ui_url": url}),
        }
    )
    # That this ends at all is the point; pytest's own limit would end it otherwise.
    results = {result.name: result for result in examine(World(settings, {}, NOW), CHECKS)}
    assert len(results) == len(CHECKS)
    silent = ("ops store", "backend database", "backend api", "airbyte public api", "warehouse", "dagster ui")
    assert {results[name].status for name in silent} == {Status.FAIL}
    assert "canary" not in str(results)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ((), 0),
        ((Status.OK, Status.SKIPPED), 0),
        ((Status.OK, Status.WARN), 1),
        ((Status.WARN, Status.FAIL, Status.OK), 2),
    ],
)
def test_the_worst_status_decides_the_exit_code(statuses: tuple[Status, ...], code: int) -> None:
    assert exit_code(Result("x", status, "") for status in statuses) == code


def test_many_names_are_shortened() -> None:
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert some(["a"]) == "a"


def test_every_check_has_a_name_of_its_own_and_needs_that_exist(world: World) -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for check in CHECKS:
        assert (check.look.__doc__ or "").strip()
        assert all(isinstance(getattr(world, need), Once) for need in check.needs)


def test_a_warning_always_comes_with_a_next_step() -> None:
    assert warn("slow", "Look at it.").next_step


def _unreadable() -> Registry:
    raise AdinsightsError("unreadable")
