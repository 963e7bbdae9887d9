"""What the doctor finds out about Slack, from the local stack's Slack in several states."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from adinsights_orchestration.doctor.catalog import CHECKS
from adinsights_orchestration.doctor.model import Result, Status
from adinsights_orchestration.doctor.runner import examine
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.settings import AlertingSettings, Settings, SlackSettings
from tests.alerting.slack_support import LocalSlack, local_slack


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalSlack]:
    with local_slack() as slack:
        yield slack


@pytest.fixture
def slack(shared: LocalSlack) -> Iterator[LocalSlack]:
    yield shared
    for knob, value in (
        ("down", False),
        ("error", ""),
        ("scopes", "chat:write,reactions:read,channels:history,users:read"),
        ("private", []),
    ):
        shared.set(knob, value)


def look(settings: SlackSettings, alerting: AlertingSettings | None = None) -> Result:
    world = World(Settings(slack=settings, alerting=alerting or AlertingSettings()), {}, datetime.now(UTC))
    (result,) = examine(world, [each for each in CHECKS if each.name == "Slack"], deadline_seconds=60.0)
    return result


def test_a_token_with_its_scopes_and_a_channel_that_it_may_read_is_all_well(slack: LocalSlack) -> None:
    found = look(slack.settings)
    assert (found.status, found.detail) == (
        Status.OK,
        "adinsights in ADinsights local, reads and writes #adinsights-alerts",
    )


def test_a_scope_that_the_token_lacks_is_named(slack: LocalSlack) -> None:
    slack.set("scopes", "chat:write,users:read")
    found = look(slack.settings)
    assert found.status is Status.FAIL
    assert "lacks channels:history, reactions:read" in found.detail
    assert "manifest" in found.next_step


def test_a_channel_that_is_not_there_or_not_ours_is_named_with_what_to_do(slack: LocalSlack) -> None:
    found = look(slack.settings.model_copy(update={"channel": "#nowhere"}))
    assert found.status is Status.FAIL
    assert "#nowhere: channel_not_found" in found.detail
    assert "/invite" in found.next_step


def test_a_private_channel_is_named_and_to_be_made_public(slack: LocalSlack) -> None:
    slack.set("private", ["adinsights-alerts"])
    found = look(slack.settings)
    assert (found.status, found.detail) == (
        Status.FAIL,
        "#adinsights-alerts is private (missing_scope): whether an alert arrived cannot be looked up there",
    )
    assert found.next_step == "In Slack, make #adinsights-alerts public, or name a public one: docs/alerts.md."


def test_a_second_channel_that_is_private_is_named_and_to_be_made_public(slack: LocalSlack, tmp_path: Path) -> None:
    slack.set("private", ["adinsights-data"])
    path = tmp_path / "alerts.yaml"
    path.write_text('routes:\n  - to: ["slack:#adinsights-data", "slack:#not-made"]\n')
    found = look(slack.settings, AlertingSettings(alerts_path=path))
    assert found.status is Status.WARN
    assert "#adinsights-data: missing_scope" in found.detail
    assert "/invite the bot to #not-made. Make #adinsights-data public" in found.next_step


def test_a_second_channel_of_the_alert_file_that_is_not_there_is_named_and_fails_nothing(
    slack: LocalSlack, tmp_path: Path
) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text('routes:\n  - to: ["slack:#adinsights-alerts", "slack:#not-made"]\n')
    found = look(slack.settings, AlertingSettings(alerts_path=path))
    assert found.status is Status.WARN
    assert "reads and writes #adinsights-alerts; not #not-made: channel_not_found" in found.detail
    assert "/invite the bot to #not-made" in found.next_step


def test_a_wrong_token_and_a_slack_that_is_down_are_told_and_no_token_is_shown(slack: LocalSlack) -> None:
    wrong = look(slack.settings.model_copy(update={"token": SecretStr("xoxb-canary")}))
    slack.set("down", True)
    down = look(slack.settings)
    assert (wrong.status, down.status) == (Status.FAIL, Status.FAIL)
    assert "invalid_auth" in wrong.detail
    assert "503" in down.detail
    assert "canary" not in f"{wrong}{down}"


def test_without_a_token_there_is_nothing_to_look_at() -> None:
    assert look(SlackSettings(token=None)).status is Status.SKIPPED
