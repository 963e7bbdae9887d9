"""A local Slack over real HTTP, and messages to send there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from pydantic import SecretStr

from adinsights_orchestration.alerting.channels.sinks import Attempted, Notice
from adinsights_orchestration.alerting.channels.slack import SlackSink, make_client
from adinsights_orchestration.alerting.message import Item, Link, Message, Severity, Standing
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.local.slack.app import create_slack_app
from adinsights_orchestration.local.slack.world import AREA, SLACK_KNOBS, TOKEN, SlackWorld
from adinsights_orchestration.settings import SlackSettings
from tests.conftest import HANG_SECONDS

CHANNEL = "#adinsights-alerts"
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@dataclass
class LocalSlack:
    """The workspace, its knobs, and a sink that speaks to it."""

    world: SlackWorld
    knobs: Knobs
    settings: SlackSettings

    def sink(self, channel: str = CHANNEL, token: str = TOKEN) -> SlackSink:
        settings = self.settings.model_copy(update={"token": SecretStr(token)})
        return SlackSink(channel, make_client(settings), timeout_seconds=settings.timeout_seconds)

    def set(self, name: str, value: object) -> None:
        self.knobs.set(AREA, name, value)  # type: ignore[arg-type]


@contextmanager
def local_slack(*, timeout_seconds: int = 8) -> Iterator[LocalSlack]:
    knobs = Knobs()
    world = SlackWorld(knobs.declare(AREA, SLACK_KNOBS))
    with running(create_slack_app(world)) as url:
        settings = SlackSettings(token=SecretStr(TOKEN), api_url=f"{url}/api", timeout_seconds=timeout_seconds)
        slack = LocalSlack(world, knobs, settings)
        slack.set("rate_limit", False)
        yield slack


def a_message(title: str = "Acme: Meta Ads is stale", **changes: object) -> Message:
    item = Item(
        "4f2a90b1cc",
        Standing.FIRING,
        Severity.PAGE,
        title,
        "No success since 11:00, due 11:20.",
        "acme",
        NOON,
        facts=(("SLA", "stale after 60 min (runbook 3)"), ("next", "Re-materialise the partition.")),
        links=(Link("partition", "http://127.0.0.1:3000/assets/airbyte/meta?partition=acme%2Fmeta&view=x"),),
    )
    fields: dict[str, object] = {
        "group": "stale/acme",
        "episode": 1,
        "standing": Standing.FIRING,
        "severity": Severity.PAGE,
        "title": title,
        "since": NOON,
        "lines": ("1 connection of acme is stale.",),
        "items": (item,),
        "owner": "Data Engineering",
    }
    return Message(**{**fields, **changes})  # type: ignore[arg-type]


def a_notice(message: Message | None = None, notice_id: UUID | None = None) -> Notice:
    return Notice(notice_id or uuid4(), message or a_message())


def a_moment_ago(root: str | None = None) -> Attempted:
    return Attempted(utc_now() - timedelta(seconds=HANG_SECONDS), utc_now(), root)
