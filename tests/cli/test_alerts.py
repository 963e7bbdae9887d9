"""`adinsights alerts`: what it prints, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.evaluation.incidents import new, step
from adinsights_orchestration.alerting.model import Policy, Present
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from tests.alerting.support import finding
from tests.cli.conftest import Answer, Served
from tests.conftest import PostgresServer


@pytest.fixture
def dsn(
    command: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: PostgresServer,
    migrated_ops_store: str,
) -> Iterator[str]:
    """The address of an ops store in which an alert fires, and which commands of this process are given."""
    address = postgres_server.copy_database(migrated_ops_store)
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(address)))
    now = utc_now()
    fired, _ = step(new(finding(tenant="acme"), now), Present(finding(tenant="acme")), Policy(), now)
    with store.begin() as connection:
        rows.save_incidents(connection, [fired])
        rows.save_memory(connection, {}, now)
    monkeypatch.setenv("ADINSIGHTS_OPS_STORE__DSN", address)
    yield address
    store.dispose()


def test_an_alert_is_listed_shown_acknowledged_and_silenced(
    served: Served, command: Callable[..., Answer], dsn: str
) -> None:
    def alerts(*arguments: str) -> str:
        answer = command("alerts", *arguments)
        assert answer.code == 0, answer.err
        return answer.out + answer.err

    listing = served.as_process("alerts", "list", "--json", ADINSIGHTS_OPS_STORE__DSN=dsn)
    (listed,) = listing.json["alerts"]
    assert (listed["state"], listed["title"]) == ("firing", "acme-meta is late")
    assert "acme-meta is late" in alerts("show", listed["id"])
    assert "1 acknowledged" in alerts("ack", listed["id"], "--by", "ann")
    assert "it covers 1 that fire now" in alerts("silence", "tenant=acme", "--for", "2h", "--reason", "known")
    assert "ann" in alerts("list")
    assert "silence 1 ended" in alerts("unsilence", "1")
    refused = command("alerts", "silence", "colour=red", "--for", "2h", "--reason", "x")
    assert (refused.code, "no alert has a label 'colour'" in refused.err) == (2, True)


def test_a_report_is_printed_channels_are_tried_and_nothing_is_replayed_where_nothing_was_refused(
    command: Callable[..., Answer], dsn: str
) -> None:
    listing = command("alerts", "list", "--json")
    (listed,) = listing.json["alerts"]
    report = command("incidents", "report", listed["id"])
    assert (report.code, "nothing is kept of episode 1" in report.err) == (2, True), "the fixture wrote no history"
    tried = command("alerts", "test", "--by", "ann", "--json")
    assert (tried.code, [each["arrived"] for each in tried.json]) == (0, [True])
    replayed = command("alerts", "replay")
    assert (replayed.code, "no channel refused anything for good that still fires" in replayed.err) == (0, True)


def test_the_healthcheck_says_by_its_exit_code_whether_alerting_is_alive(
    command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    monkeypatch.setenv("ADINSIGHTS_LOCAL_STACK", "true")

    def check() -> tuple[int, list[bool]]:
        answer = command("healthcheck", "--json")
        return answer.code, [each["alive"] for each in answer.json] if answer.out else []

    assert check() == (1, [True, False]), "it never delivered"
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(dsn)))
    with store.begin() as connection:
        rows.note_delivery(connection, utc_now())
    assert check() == (0, [True, True])
    store.dispose()
    monkeypatch.setenv("ADINSIGHTS_OPS_STORE__DSN", "postgresql://nobody@127.0.0.1:1/none")
    assert check() == (2, [])
