"""What Slack is given stays within its limits, and no text of a tenant or a server becomes markup of Slack's."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.alerting.channels import slack_blocks
from adinsights_orchestration.alerting.channels.slack_blocks import Rendered, escape, first_message, safe, story_line
from adinsights_orchestration.alerting.message import Item, Link, Message, Severity, Standing
from tests.alerting.slack_support import NOON, a_message

_NASTY = st.sampled_from(
    (
        "<!channel>",
        "<@U0BOT>",
        "<https://evil.example|here>",
        "&amp;lt;!here&amp;gt;",
        "\u202e",
        "\x00\x1b[31m",
        "*_`~",
        "\N{ZEBRA FACE}\u200d\N{ZEBRA FACE}",
    )
)
_TEXT = st.one_of(
    st.text(max_size=60),
    _NASTY,
    st.builds(lambda a, b, n: (a + b) * n, _NASTY, st.text(max_size=20), st.integers(1, 200)),
)
_LINKS = st.lists(st.builds(Link, _TEXT, st.one_of(st.just("http://ui/assets?a=b&c=<d>|e"), _TEXT)), max_size=6)
_ITEM = st.builds(
    Item,
    incident=st.just("4f2a90b1cc"),
    standing=st.sampled_from(Standing),
    severity=st.sampled_from(Severity),
    title=_TEXT,
    detail=_TEXT,
    tenant=st.none(),
    since=st.just(NOON),
    ended=st.sampled_from((None, NOON + timedelta(hours=1))),
    facts=st.lists(st.tuples(_TEXT, _TEXT), max_size=6).map(tuple),
    links=_LINKS.map(tuple),
)
_MESSAGE = st.builds(
    Message,
    group=_TEXT,
    episode=st.just(1),
    standing=st.sampled_from(Standing),
    severity=st.sampled_from(Severity),
    title=_TEXT,
    since=st.just(NOON),
    lines=st.lists(_TEXT, max_size=6).map(tuple),
    items=st.lists(_ITEM, max_size=12).map(tuple),
    more=st.integers(0, 5000),
    ended=st.sampled_from((None, NOON + timedelta(hours=2))),
    owner=_TEXT,
    note=_TEXT,
)
_ENTITY = re.compile(r"&(amp|lt|gt);")
_OUR_LINK = re.compile(r"<https?://[^<>|\s]+\|[^<>|]*>")


def texts(rendered: Rendered) -> list[tuple[str, str]]:
    """Every text with its type."""
    found: list[dict[str, Any]] = []
    for block in rendered.blocks:
        found += [block["text"]] if "text" in block else []
        found += block.get("elements", ())
    return [(each["type"], each["text"]) for each in found]


@settings(max_examples=60)
@given(message=_MESSAGE)
def test_whatever_a_message_holds_it_stays_within_slack_s_limits(message: Message) -> None:
    for rendered in (first_message(message), story_line(message)):
        shown = texts(rendered)
        assert len(rendered.blocks) <= 50
        assert all(0 < len(text) <= (150 if kind == "plain_text" else 3000) for kind, text in shown)
        assert sum(len(text) for _, text in shown) < 10_000
        assert 0 < len(rendered.text) <= 3000
        assert slack_blocks.shorter(rendered).blocks == ()


@settings(max_examples=60)
@given(message=_MESSAGE)
def test_nothing_but_our_own_links_has_a_meaning_for_slack(message: Message) -> None:
    for rendered in (first_message(message), story_line(message)):
        for kind, text in [*texts(rendered), ("mrkdwn", rendered.text)]:
            if kind == "plain_text":
                continue  # Slack finds no mentions and links there
            rest = _OUR_LINK.sub("", text)
            assert not set("<>") & set(rest), rest
            assert "&" not in _ENTITY.sub("", rest), rest
            assert "\u202e" not in text
            assert "\x00" not in text


@given(text=_TEXT, longest=st.integers(20, 300))
def test_an_escaped_text_is_bounded_and_no_entity_is_cut(text: str, longest: int) -> None:
    shown = safe(text, longest)
    assert len(shown) <= longest
    assert "&" not in _ENTITY.sub("", shown)


def test_a_megabyte_and_five_thousand_incidents_are_a_message_of_a_readable_size() -> None:
    item = replace(a_message().items[0], detail="x" * 1_000_000, facts=(("why", "<!channel>" * 5000),) * 8)
    huge = a_message(items=(item,) * 10, more=4990, lines=("y" * 1_000_000,) * 3)
    shown = texts(first_message(huge))
    assert sum(len(text) for _, text in shown) < 10_000
    said = next(text for _, text in shown if "more: " in text)
    assert "adinsights alerts list" in said
    assert int(re.sub(r"\D", "", said)) > 4990, "those that found no room are counted"


def test_a_message_says_what_since_when_who_owns_it_what_to_do_and_where_to_look() -> None:
    shown = "\n".join(text for _, text in texts(first_message(a_message())))
    for part in (
        ":red_circle: Acme: Meta Ads is stale",
        "*firing* · page · since 2026-03-10 12:00 UTC · Data Engineering",
        "stale after 60 min (runbook 3)",
        "Re-materialise the partition.",
        "<http://127.0.0.1:3000/assets/airbyte/meta?partition=acme%2Fmeta&amp;view=x|partition>",
        "`4f2a90b1cc`",
        "React to this message",
    ):
        assert part in shown
    assert escape("a<b>&c") == "a&lt;b&gt;&amp;c"


def test_a_matter_that_is_taken_on_or_over_asks_for_no_reaction() -> None:
    for standing in (Standing.ACKNOWLEDGED, Standing.RESOLVED):
        shown = texts(first_message(a_message(standing=standing)))
        assert not [text for _, text in shown if "React" in text]
