"""Every message names the environment that it is from, but for production's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adinsights_orchestration.alerting.channels import slack_blocks
from adinsights_orchestration.alerting.channels.mail_message import subject
from adinsights_orchestration.alerting.configuration.alert_file import load_alerts
from adinsights_orchestration.alerting.delivery.opening import build_sinks
from adinsights_orchestration.alerting.message import plain_text
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from tests.alerting.channel import Channel
from tests.alerting.office import Office
from tests.alerting.slack_support import a_message

STAGING = replace(a_message(), origin="staging")


@pytest.mark.parametrize("environment", list(Environment))
def test_a_deployment_s_messages_say_where_they_are_from_unless_that_is_production(environment: Environment) -> None:
    origin = build_sinks(Settings(environment=environment), load_alerts()).origin
    assert origin == ("" if environment is Environment.PRODUCTION else environment.value)


def test_what_is_sent_names_it(ops_store: OpsStore) -> None:
    channel = Channel()
    office = Office(ops_store, channel)
    office.sinks = replace(office.sinks, origin="staging")
    office.tick("acme-meta")
    office.deliver()
    (shown,) = channel.posts
    assert plain_text(shown.message).startswith("[FIRING WARN] staging: acme-meta is late")


def test_titles_subjects_and_what_a_notification_shows_name_it() -> None:
    rendered = slack_blocks.first_message(STAGING)
    assert rendered.blocks[0]["text"]["text"] == ":red_circle: staging: Acme: Meta Ads is stale"
    assert rendered.text.startswith("[FIRING PAGE] staging: Acme")
    assert subject(STAGING) == "[PAGE] staging: Acme: Meta Ads is stale"
    noticed = replace(STAGING, items=(replace(STAGING.items[0], impact="Meta figures may come late."),))
    assert subject(noticed, for_customers=True) == "[CUSTOMERS] staging: Meta figures may come late."


def test_a_line_that_is_shown_outside_its_thread_names_it_and_one_inside_does_not() -> None:
    for broadcast in (True, False):
        line = slack_blocks.story_line(replace(STAGING, broadcast=broadcast)).blocks[0]["text"]["text"]
        assert ("staging: " in line) is broadcast
