"""A message as Slack shows it: Block Kit, and the plain text that stands in notifications and in a pinch for all of it.

Belongs here: markup, escaping and Slack's limits, pure. Does not belong here: what is said (`wording`), Slack's API
(`slack`). Everything in a message is data: `&`, `<` and `>` are escaped, so that no tenant's name can mention a channel
or make a link, and every text is bounded. Slack documents 50 blocks and 3,000 characters a text, and refuses messages
of about 13,000 characters in blocks besides (`msg_blocks_too_long`): ours stay below 9,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from adinsights_orchestration.alerting.message import (
    LONGEST_TITLE,
    Item,
    Link,
    Message,
    Severity,
    Standing,
    clean,
    moment,
)

MOST_BLOCKS = 45
LONGEST_TEXT = 2900  # characters of one text object, escaped
LONGEST_BLOCKS = 9000  # characters of all texts together, escaped
LONGEST_FALLBACK = 2900
_LONGEST_URL = 700
_SIGNS = {
    Standing.ACKNOWLEDGED: ":eyes:",
    Standing.SUPPRESSED: ":no_bell:",
    Standing.RESOLVED: ":white_check_mark:",
}
_FIRING = {Severity.PAGE: ":red_circle:", Severity.WARN: ":large_yellow_circle:"}
_HINT = "React to this message to acknowledge it."

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message for Slack.

    Attributes:
        text: What a notification shows, and what is left when blocks are refused; escaped.
        blocks: Block Kit.
    """

    text: str
    blocks: tuple[Block, ...]


def escape(text: str) -> str:
    """Returns a text that Slack shows as it is: no mention, no link, no entity comes of it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def safe(text: str, longest: int = LONGEST_TEXT) -> str:
    """Returns the text clean, escaped and bounded; no entity is cut in two."""
    shown = clean(text, longest)
    while len(escape(shown)) > longest:
        shown = clean(shown, max(1, len(shown) - (len(escape(shown)) - longest)))
    return escape(shown)


def first_message(message: Message) -> Rendered:
    """Returns a group's first message, as it stands."""
    room = _Room()
    title = f"{sign(message.standing, message.severity)} {clean(message.prefix + message.title, LONGEST_TITLE - 25)}"
    room.add({"type": "header", "text": {"type": "plain_text", "text": title, "emoji": True}}, len(title))
    room.context(_about(message))
    if note := safe(message.note, 600):
        room.section(f":warning: {note}")
    lines = "\n".join(safe(line, 700) for line in message.lines)
    if lines.strip():
        room.section(_bounded(lines))
    shown = 0
    for item in message.items:
        if not room.section(_item(item), reserve=400):
            break
        shown += 1
    more = message.more + len(message.items) - shown
    if more:
        room.section(f"and {more:,} more: `adinsights alerts list`", reserve=200)
    if message.standing is Standing.FIRING:
        room.context(_HINT)
    return Rendered(fallback(message), tuple(room.blocks))


def story_line(message: Message) -> Rendered:
    """Returns one message of a thread."""
    room = _Room()
    text = "\n".join(safe(line, 700) for line in message.lines).strip() or safe(message.title)
    origin = escape(message.prefix) if message.broadcast else ""  # a thread stands below its message, which says it
    room.section(f"{sign(message.standing, message.severity)} {origin}{_bounded(text, LONGEST_TEXT - 60)}")
    if note := safe(message.note, 600):
        room.context(note)
    return Rendered(fallback(message), tuple(room.blocks))


def shorter(rendered: Rendered) -> Rendered:
    """Returns what is sent where Slack refuses the blocks: the text alone, well inside every limit."""
    text = rendered.text if len(rendered.text) <= LONGEST_FALLBACK // 2 else _bounded(rendered.text, 1400)
    return Rendered(text, ())


def fallback(message: Message) -> str:
    """Returns the message in plain text, escaped."""
    head = f"[{message.standing.upper()} {message.severity.upper()}] {safe(message.prefix + message.title, 400)}"
    parts = [message.note, *message.lines, *(f"{item.title}: {item.detail}" for item in message.items)]
    return _bounded("\n".join([head, *(safe(part, 700) for part in parts if part)]), LONGEST_FALLBACK)


def sign(standing: Standing, severity: Severity) -> str:
    """The emoji that says how it stands."""
    return _SIGNS.get(standing) or _FIRING[severity]


class _Room:
    """Blocks in the making, and how much room is left for more."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._left = LONGEST_BLOCKS

    def add(self, block: Block, size: int, reserve: int = 0) -> bool:
        if len(self.blocks) >= MOST_BLOCKS or size > self._left - reserve:
            return False
        self.blocks.append(block)
        self._left -= size
        return True

    def section(self, text: str, reserve: int = 0) -> bool:
        block = {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
        return self.add(block, len(text), reserve)

    def context(self, text: str) -> bool:
        return self.add(
            {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}, len(text)
        )


def _about(message: Message) -> str:
    parts = [f"*{message.standing.value}*", message.severity.value, f"since {moment(message.since)}"]
    if message.ended is not None:
        parts.append(f"over {moment(message.ended)}")
    if message.owner:
        parts.append(safe(message.owner, 100))
    return " · ".join(parts)


def _item(item: Item) -> str:
    head = f"{sign(item.standing, item.severity)} *{_unstarred(safe(item.title, 300))}*"
    began = f"since {moment(item.since)}" + (f", over {moment(item.ended)}" if item.ended else "")
    lines = [head, safe(item.detail, 650), f"{began} · `{safe(item.incident, 40)}`"]
    lines += [f"_{safe(name, 60)}:_ {safe(value, 300)}" for name, value in item.facts]
    text = _bounded("\n".join(line for line in lines if line), LONGEST_TEXT - 1000)
    links = _within(map(_link, item.links), 990)
    return f"{text}\n{links}" if links else text


def _link(link: Link) -> str:
    # What has a meaning in Slack's own link syntax must not stand in an address.
    url = quote(link.url[: _LONGEST_URL + 1], safe="%/:=&?~#+!$,;'@()*[]-._").replace("&", "&amp;")
    label = safe(link.label, 80).replace("|", "/")
    is_one = url.startswith(("https://", "http://")) and len(url) <= _LONGEST_URL and label
    return f"<{url}|{label}>" if is_one else ""


def _within(parts: Iterable[str], longest: int) -> str:
    """The parts in one line, as many as fit whole: half a link is none."""

    def fitting() -> Iterator[str]:
        left = longest
        for part in filter(None, parts):
            left -= len(part) + 3
            if left < 0:
                return
            yield part

    return " · ".join(fitting())


def _unstarred(text: str) -> str:
    return text.replace("*", "\u2217")  # a star would end the bold type of the title


def _bounded(text: str, longest: int = LONGEST_TEXT) -> str:
    """An escaped text of several lines, cut between lines, or else never inside an entity."""
    if len(text) <= longest:
        return text
    head = text[: longest - 1]
    cut = head.rfind("\n")
    if cut > longest // 2:
        return head[:cut] + "\n…"
    ampersand = head.rfind("&")
    return (head[:ampersand] if ampersand >= 0 and ";" not in head[ampersand:] else head) + "…"
