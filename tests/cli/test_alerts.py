"""`adinsights alerts`: what it prints, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.evaluation.incidents import new, step
from adinsights_orchestration.alerting.model import Policy, Present
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.findings import open_finding, open_findings
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
    late = finding(tenant="acme", owner="data-eng@example.com")
    fired, _ = step(new(late, now), Present(late), Policy(), now)
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
    assert listed["group"] == "connection_stale", "as `ack` takes it"
    shown = alerts("show", listed["id"])
    assert "acme-meta is late" in shown
    assert "Group connection_stale" in " ".join(shown.replace("│", " ").split())
    assert "1 acknowledged" in alerts("ack", listed["id"], "--by", "ann")
    assert "it covers 1 that fire now" in alerts("silence", "tenant=acme", "--for", "2h", "--reason", "known")
    assert "ann" in alerts("list")
    assert "silence 1 ended" in alerts("unsilence", "1")
    refused = command("alerts", "silence", "colour=red", "--for", "2h", "--reason", "x")
    assert (refused.code, "no alert has a label 'colour'" in refused.err) == (2, True)


def test_quiet_times_are_listed_wherever_they_come_from_with_their_kind_and_their_beginning(
    command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text(
        "maintenance:\n"
        "  - {name: upgrade, match: [component=airbyte], from: '2999-01-01', to: '2999-01-02', reason: v17}\n"
        "  - {name: past, match: [component=airbyte], from: '2020-01-01 22:00', to: '2020-01-02 02:00'}\n"
        "  - {name: vacuum, match: [component=warehouse], cron: '0 2 * * 0', lasts: 2h}\n"
        "silences:\n"
        "  - {match: [tenant=acme], to: '2999-03-08 08:00', author: ann, reason: moving}\n"
    )
    monkeypatch.setenv("ADINSIGHTS_ALERTING__ALERTS_PATH", str(file))
    monkeypatch.setenv("ADINSIGHTS_HOME_TIMEZONE", "UTC")
    assert command("alerts", "silence", "rule=dbt_stale", "--for", "2h", "--reason", "known", "--by", "bob").code == 0
    asked, upgrade, vacuum, moving = command("alerts", "list", "--json").json["silences"]
    assert (asked["silence"], asked["kind"], asked["by"]) == (1, "silenced", "bob")
    assert upgrade == {
        "silence": None,
        "kind": "maintenance",
        "what": "component=airbyte",
        "from": "2999-01-01T00:00:00+00:00",
        "until": "2999-01-02T00:00:00+00:00",
        "by": "alerts.yaml (alert file)",
        "reason": "upgrade: v17",
    }
    begin, end = (datetime.fromisoformat(vacuum[each]) for each in ("from", "until"))
    assert (begin.isoweekday(), begin.hour, end - begin) == (7, 2, timedelta(hours=2))
    assert utc_now() < end
    assert begin <= utc_now() + timedelta(days=7)
    assert (moving["kind"], moving["from"], moving["by"]) == ("silenced", None, "ann (alert file)")
    shown = command("alerts", "list")
    assert shown.code == 0
    assert {"Quiet", "kind", "from", "maintenance"} <= set(shown.out.split())


def test_alerts_are_listed_where_the_alert_file_cannot_be_read(
    command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text("route: []\n")
    monkeypatch.setenv("ADINSIGHTS_ALERTING__ALERTS_PATH", str(file))
    answer = command("alerts", "list", "--json")
    assert (answer.code, len(answer.json["alerts"])) == (0, 1)
    assert "Quiet times of the alert file are left out" in answer.err
    assert "unknown key 'route'" in answer.err


def test_an_owner_is_a_team_and_its_name_in_the_alert_file(command: Callable[..., Answer], dsn: str) -> None:
    (listed,) = command("alerts", "list", "--json").json["alerts"]
    assert listed["owner"] == "Data Engineering (data-eng)"


def test_a_report_is_printed_channels_are_tried_and_nothing_is_replayed_where_nothing_was_refused(
    command: Callable[..., Answer], dsn: str
) -> None:
    listing = command("alerts", "list", "--json")
    (listed,) = listing.json["alerts"]
    report = command("incidents", "report", listed["id"])
    assert (report.code, "nothing is kept of episode 1" in report.err) == (2, True), "the fixture wrote no history"
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(dsn)))
    with store.begin() as connection:
        open_finding(connection, UNDELIVERABLE, "log", {"reason": "is_archived"}, utc_now())
    tried = command("alerts", "test", "--by", "ann", "--json")
    assert (tried.code, [each["arrived"] for each in tried.json]) == (0, [True])
    with store.begin() as connection:
        assert open_findings(connection, UNDELIVERABLE) == (), "it takes messages"
    store.dispose()
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
