"""Answers that are not Slack's words: whether the message arrived is not known, and nothing of the page is kept."""

from __future__ import annotations

from uuid import UUID

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from adinsights_orchestration.alerting.channels.sinks import Notice, Uncertain
from adinsights_orchestration.alerting.channels.slack import SlackSink, make_client
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.settings import SlackSettings
from tests.alerting.support import World, finding


@pytest.mark.parametrize("status", [200, 403, 503])
def test_an_answer_that_is_no_json_leaves_it_uncertain(status: int) -> None:
    async def cut_off(_: Request) -> Response:
        return PlainTextResponse('{"ok": true, "channel": "C1", "ts": "17', status)

    (order,) = World().tick(finding())
    with running(Starlette(routes=[Route("/{method}", cut_off, methods=["POST"])])) as url:
        client = make_client(SlackSettings(token=SecretStr("xoxb-1"), api_url=url))
        outcome = SlackSink("#alerts", client).post(Notice(UUID(int=1), order.message))
    assert outcome == Uncertain(f"HTTP {status}")
