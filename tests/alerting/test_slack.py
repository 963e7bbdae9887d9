"""The Slack sink against a Slack over real HTTP: what each answer means, and that nothing is said twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from adinsights_orchestration.alerting.channels.sinks import Absent, Found, Gone, Later, Refused, Sent, Uncertain
from adinsights_orchestration.alerting.message import Severity, Standing, moment
from adinsights_orchestration.clock import utc_now
from tests.alerting.slack_support import CHANNEL, NOON, LocalSlack, a_message, a_moment_ago, a_notice, local_slack
from tests.conftest import free_port


@pytest.fixture
def slack() -> Iterator[LocalSlack]:
    with local_slack() as found:
        yield found


def _sent(outcome: object) -> str:
    assert isinstance(outcome, Sent), outcome
    return outcome.ref


def test_a_message_is_posted_edited_in_place_and_answered_in_its_thread(slack: LocalSlack) -> None:
    sink = slack.sink()
    ref = _sent(sink.post(a_notice()))
    over = a_message(standing=Standing.RESOLVED, ended=NOON + timedelta(minutes=72))
    assert _sent(sink.update(a_notice(over), ref)) == ref
    _sent(sink.reply(a_notice(a_message(lines=("Resolved after 1 h 12 min.",))), ref))
    (root,) = slack.world.roots()
    assert root.edits == 1
    assert root.blocks[0]["text"]["text"].startswith(":white_check_mark: Acme")
    assert f"over {moment(NOON + timedelta(minutes=72))}" in root.blocks[1]["elements"][0]["text"]
    (line,) = slack.world.thread(root.ts)
    assert "Resolved after 1 h 12 min." in line.blocks[0]["text"]["text"]


@pytest.mark.parametrize("named", ["#adinsights-alerts", "C0LOCAL000"])
def test_a_post_whose_reply_was_lost_is_uncertain_and_found_by_its_id(slack: LocalSlack, named: str) -> None:
    sink, notice = slack.sink(named), a_notice()
    slack.set("replies_lost", 1)
    assert isinstance(sink.post(notice), Uncertain)
    assert len(slack.world.roots()) == 1, "no retry of the client posted it again"
    found = sink.lookup(notice, a_moment_ago())
    assert found == Found(f"C0LOCAL000/{slack.world.roots()[0].ts}")
    assert sink.lookup(a_notice(), a_moment_ago()) == Absent()


def test_a_reply_whose_answer_was_lost_is_found_in_its_thread_and_nowhere_else(slack: LocalSlack) -> None:
    sink, notice = slack.sink(), a_notice()
    ref = _sent(sink.post(a_notice()))
    slack.set("replies_lost", 1)
    assert isinstance(sink.reply(notice, ref), Uncertain)
    assert isinstance(sink.lookup(notice, a_moment_ago(ref)), Found)
    assert sink.lookup(notice, a_moment_ago()) == Absent()


def test_the_whole_time_is_searched_page_by_page(slack: LocalSlack) -> None:
    sink, notice = slack.sink(), a_notice()
    slack.world.knobs  # noqa: B018
    _sent(sink.post(notice))
    for _ in range(450):
        slack.world.methods["chat.postMessage"]({"channel": CHANNEL, "text": "somebody else"})
    assert isinstance(sink.lookup(notice, a_moment_ago()), Found)
    assert slack.world.calls.count("conversations.history") == 3


def test_a_request_that_was_lost_is_uncertain_and_not_there(slack: LocalSlack) -> None:
    sink, notice = slack.sink(), a_notice()
    slack.set("requests_lost", 1)
    assert isinstance(sink.post(notice), Uncertain)
    assert sink.lookup(notice, a_moment_ago()) == Absent()


def test_429_closes_the_channel_until_slack_s_own_moment_and_nobody_sleeps(slack: LocalSlack) -> None:
    slack.set("error_next", ["ratelimited"])
    slack.set("retry_after", 17)
    asked = utc_now()
    outcome = slack.sink().post(a_notice())
    assert isinstance(outcome, Later)
    assert asked <= outcome.not_before - timedelta(seconds=17) <= utc_now()
    assert slack.world.calls == ["chat.postMessage"]


@pytest.mark.parametrize(
    "word", ["token_revoked", "account_inactive", "is_archived", "channel_not_found", "not_in_channel", "missing_scope"]
)
def test_what_only_a_person_can_mend_is_refused_for_good(slack: LocalSlack, word: str) -> None:
    slack.set("error", word)
    assert slack.sink().post(a_notice()) == Refused(word, permanent=True)


def test_a_wrong_token_and_an_unknown_channel_are_refused_for_good_and_nothing_shows_the_token(
    slack: LocalSlack,
) -> None:
    outcome = slack.sink(token="xoxb-canary").post(a_notice())
    assert outcome == Refused("invalid_auth", permanent=True)
    assert "canary" not in repr(outcome)
    assert slack.sink("#nowhere").post(a_notice()) == Refused("channel_not_found", permanent=True)


def test_a_server_that_fails_leaves_it_uncertain(slack: LocalSlack) -> None:
    slack.set("down", True)
    assert isinstance(slack.sink().post(a_notice()), Uncertain)
    slack.set("down", False)
    slack.set("error", "internal_error")
    assert slack.sink().post(a_notice()) == Uncertain("internal_error")


def test_a_slack_that_nobody_listens_at_has_taken_nothing_for_certain(slack: LocalSlack) -> None:
    slack.settings = slack.settings.model_copy(update={"api_url": f"http://127.0.0.1:{free_port()}/api"})
    assert slack.sink().post(a_notice()) == Refused("Slack cannot be reached", permanent=False)


def test_an_answer_that_takes_longer_than_the_deadline_leaves_it_uncertain() -> None:
    with local_slack(timeout_seconds=1) as slow:
        slow.set("slow_ms", 2500)
        assert isinstance(slow.sink().post(a_notice()), Uncertain)


@pytest.mark.parametrize("word", ["msg_too_long", "msg_blocks_too_long", "invalid_blocks"])
def test_blocks_that_slack_does_not_take_are_said_in_plain_text_instead(slack: LocalSlack, word: str) -> None:
    slack.set("error_next", [word])
    _sent(slack.sink().post(a_notice()))
    (root,) = slack.world.roots()
    assert (root.blocks, "Acme: Meta Ads is stale" in root.text) == ([], True)
    slack.set("error_next", [word, word])
    assert slack.sink().post(a_notice()) == Refused(word, permanent=True)


def test_an_edit_of_a_message_that_somebody_deleted_says_so(slack: LocalSlack) -> None:
    sink = slack.sink()
    ref = _sent(sink.post(a_notice()))
    slack.world.channel(CHANNEL).messages.clear()
    assert sink.update(a_notice(), ref) == Gone("message_not_found")
    assert sink.reply(a_notice(), ref) == Gone("thread_not_found")


def test_only_what_got_worse_is_shown_outside_of_its_thread(slack: LocalSlack) -> None:
    sink = slack.sink()
    ref = _sent(sink.post(a_notice()))
    for broadcast in (False, True):
        line = replace(a_message(lines=("More.",)), broadcast=broadcast, severity=Severity.WARN)
        _sent(sink.reply(a_notice(line), ref))
    assert [each.broadcast for each in slack.world.thread(slack.world.roots()[0].ts)] == [False, True]
