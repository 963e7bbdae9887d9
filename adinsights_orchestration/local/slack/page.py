"""The channels as a person sees them: messages as they stand, their threads, and a button to react.

Belongs here: HTML for what Block Kit we use. Does not belong here: messages (`world`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from adinsights_orchestration.local.slack.world import Channel, Posted, SlackWorld

_EMOJI = {
    "red_circle": "\U0001f534",
    "large_yellow_circle": "\U0001f7e1",
    "eyes": "\U0001f440",
    "no_bell": "\U0001f515",
    "white_check_mark": "\u2705",
    "warning": "\u26a0\ufe0f",
}
_LINK = re.compile(r"&lt;(https?://[^|&]*(?:&amp;amp;[^|&]*)*)\|(.*?)&gt;")
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Slack of the local stack</title>
<meta http-equiv="refresh" content="5"><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 0; color: #1d1c1d; display: flex; flex-wrap: wrap }}
section {{ flex: 1 1 38rem; padding: 0 1.5rem 2rem; min-width: 0 }}
h1 {{ font-size: 1.1rem; border-bottom: 1px solid #ddd; padding: .9rem 0 .6rem; position: sticky; top: 0;
  background: #fff }}
article {{ padding: .6rem .8rem; border-left: 4px solid #ddd; margin: 0 0 1rem }}
h2 {{ font-size: 1.02rem; margin: .1rem 0 .3rem }}
.who {{ color: #616061; font-size: .82rem }} .who b {{ color: #1d1c1d }}
.context {{ color: #616061; font-size: .85rem; margin: .2rem 0 }}
.text {{ white-space: pre-wrap; margin: .35rem 0; overflow-wrap: anywhere }}
.thread {{ margin: .5rem 0 0 .4rem; padding-left: .8rem; border-left: 2px solid #e8e8e8; font-size: .92rem }}
.thread .text {{ margin: .1rem 0 .45rem }}
.reaction {{ display: inline-block; background: #e8f5fa; border: 1px solid #1d9bd1; border-radius: 1rem;
  padding: 0 .5rem; font-size: .85rem; margin-right: .4rem }}
form {{ display: inline }} button {{ font: inherit; font-size: .8rem; border: 1px solid #ccc; background: #fff;
  border-radius: 1rem; cursor: pointer }}
code {{ background: #f4f4f4; border: 1px solid #e3e3e3; border-radius: 3px; padding: 0 .25em; font-size: .88em }}
a {{ color: #1264a3 }} .nothing {{ color: #616061 }}
</style></head><body>{channels}</body></html>"""


def page_of(world: SlackWorld) -> str:
    """Returns the page with every channel, newest message first."""
    return _PAGE.format(channels="".join(map(_channel, world.channels.values())))


def _channel(channel: Channel) -> str:
    roots = [each for each in channel.messages if each.thread_ts in (None, each.ts)]
    shown = "".join(_root(channel, each) for each in reversed(roots))
    said = shown or '<p class="nothing">Nothing has been said here.</p>'
    return f"<section><h1>{html.escape(channel.name)}</h1>{said}</section>"


def _root(channel: Channel, message: Posted) -> str:
    reacted = "".join(
        f'<span class="reaction">{_EMOJI.get(name, name)} {len(users)}</span>'
        for name, users in message.reactions.items()
    )
    button = (
        f'<form method="post" action="react/{channel.id}/{message.ts}"><button>{_EMOJI["eyes"]} react</button></form>'
    )
    thread = "".join(
        f'<div class="who">{_time(each.ts)}</div>{_body(each)}'
        for each in channel.messages
        if each.thread_ts == message.ts and each.ts != message.ts
    )
    edited = " (edited)" if message.edits else ""
    return (
        f'<article><div class="who"><b>ADinsights</b> {_time(message.ts)}{edited}</div>{_body(message)}'
        f"{reacted}{button}{f'<div class=thread>{thread}</div>' if thread else ''}</article>"
    )


def _body(message: Posted) -> str:
    if not message.blocks:
        return f'<div class="text">{_mrkdwn(message.text)}</div>'
    return "".join(map(_block, message.blocks))


def _block(block: Mapping[str, Any]) -> str:
    if block["type"] == "header":
        return f"<h2>{_emoji(html.escape(block['text']['text']))}</h2>"
    if block["type"] == "context":
        return f'<div class="context">{" ".join(_mrkdwn(each["text"]) for each in block["elements"])}</div>'
    return f'<div class="text">{_mrkdwn(block["text"]["text"])}</div>'


def _mrkdwn(text: str) -> str:
    """Slack's markup as HTML; its own escapes are shown as what they stand for."""
    shown = _LINK.sub(_anchor, html.escape(text))
    shown = re.sub(r"\*([^*\n]+)\*", r"<b>\1</b>", shown)
    shown = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", shown)
    shown = re.sub(r"(^|\n)_([^_\n]+)_", r"\1<i>\2</i>", shown)
    for entity in ("amp", "lt", "gt"):
        shown = shown.replace(f"&amp;{entity};", f"&{entity};")
    return _emoji(shown)


def _anchor(found: re.Match[str]) -> str:
    return f'<a href="{found[1].replace("&amp;amp;", "&amp;")}">{found[2]}</a>'


def _emoji(text: str) -> str:
    return re.sub(r":([a-z_]+):", lambda found: _EMOJI.get(found[1], found[0]), text)


def _time(ts: str) -> str:
    return f"{datetime.fromtimestamp(float(ts), UTC):%H:%M}"
