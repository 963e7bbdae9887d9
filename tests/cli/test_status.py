"""`adinsights status`: what it prints, and the exit code that says the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from tests.cli.conftest import Answer, Served
from tests.conftest import PostgresServer
from tests.status.world import HOUR, World, state_of


@dataclass
class Console:
    """The command, on an ops store of this test's own."""

    command: Callable[..., Answer]
    environment: pytest.MonkeyPatch
    dsn: str
    world: World

    def status(self, *arguments: str, dsn: str | None = None) -> Answer:
        """Runs `adinsights status`."""
        self.environment.setenv("ADINSIGHTS_OPS_STORE__DSN", dsn or self.dsn)
        return self.command("status", *arguments)


@pytest.fixture
def console(
    command: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: PostgresServer,
    migrated_ops_store: str,
) -> Iterator[Console]:
    dsn = postgres_server.copy_database(migrated_ops_store)
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(dsn)))
    yield Console(command, monkeypatch, dsn, World(store, utc_now()).well())
    store.dispose()


def test_all_well_is_exit_code_0_of_the_process_too(console: Console, served: Served) -> None:
    answer = served.as_process("status", ADINSIGHTS_OPS_STORE__DSN=console.dsn)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("OK  as of ")
    assert all(component.value in answer.out for component in Component)


def test_a_late_connection_is_exit_code_1_and_named_with_age_deadline_and_reason(console: Console) -> None:
    now = console.world.now
    late = state_of("acme/meta-1", Freshness.STALE, last_success_at=now - 3 * HOUR, detail="Nothing was started.")
    console.world.evaluated([late, state_of("globex/meta-2", last_success_at=now, valid_until=now + HOUR)])
    answer = console.status()
    assert answer.code == 1
    assert "connections: 1 stale of 2" in answer.out
    assert any(all(word in line for word in ("acme/meta-1", "3 h ago", "Nothing")) for line in answer.out.splitlines())
    assert console.status("--tenant", "globex").code == 0
    assert "acme/meta-1" not in console.status("--tenant", "globex").out
    assert console.status("--tenant", "acme", "--json").json["freshness"]["stalest"][0]["state"] == "stale"


def test_an_essential_component_that_is_down_is_exit_code_2(console: Console) -> None:
    console.world.read({Component.BACKEND: Health.DOWN})
    answer = console.status("--json")
    assert answer.code == 2
    assert (answer.json["overall"], answer.json["components"][0]["component"]) == ("down", "backend")


def test_a_tenant_that_is_nobody_is_named_with_those_there_are(console: Console) -> None:
    answer = console.status("--tenant", "initech")
    assert answer.code == 64
    assert answer.err.splitlines() == ["no tenant is 'initech'.", "  Known: acme, globex."]


def test_wrong_use_and_a_wrong_setting_do_not_say_that_anything_is_down(console: Console) -> None:
    assert console.status("--no-such-option").code == 64
    assert console.status("--limit", "many").code == 64
    console.environment.setenv("ADINSIGHTS_ENVIRONMENT", "produktion")
    assert console.status().code == 78
    assert console.command("runs", "--no-such-option").code == 2


def test_an_ops_store_that_does_not_answer_is_exit_code_2_and_a_clear_line(console: Console) -> None:
    away = "postgresql://nobody:hunter2@127.0.0.1:1/ops"
    answer = console.status(dsn=away)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("ADINSIGHTS_OPS_STORE__DSN: the ops store does not answer (")
    machine = console.status("--json", dsn=away)
    assert (machine.code, machine.json["overall"]) == (2, "down")
    assert "the ops store does not answer" in machine.json["reasons"][0]
    assert "hunter2" not in answer.err + machine.out + machine.err


def test_ten_thousand_connections_are_counted_exactly(console: Console) -> None:
    now = console.world.now
    console.world.evaluated(
        state_of(
            f"acme/meta-{number}",
            Freshness.STALE if number % 10 == 0 else Freshness.OK,
            last_success_at=now - HOUR,
            valid_until=now + HOUR,
        )
        for number in range(10_000)
    )

    freshness = console.status("--json").json["freshness"]
    assert (freshness["by_state"]["stale"], freshness["by_state"]["ok"]) == (1_000, 9_000)
    assert len(freshness["stalest"]) == 20
