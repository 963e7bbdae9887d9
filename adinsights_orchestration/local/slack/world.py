"""Slack's workspace, as far as alerts need it: channels, and what each method of the Web API does to them.

Belongs here: messages, threads, edits, reactions, metadata, limits, and the declarations of the fault knobs. Does not
belong here: HTTP (`app`), the page (`page`), what our alerts look like.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.local.knobs import Knob, KnobArea

AREA = "slack"
TOKEN = "xoxb-local-stack"  # noqa: S105  (opens nothing but this service)
BOT, PERSON = "U0BOT", "U0ONCALL"
SCOPES = "chat:write,reactions:read,channels:history,users:read"
CHANNELS = ("#adinsights-alerts", "#adinsights-data")
SLACK_KNOBS = (
    Knob("down", False, "Every request is answered 503."),
    Knob("slow_ms", 0, "Delay before every reply, in milliseconds."),
    Knob("error", "", "Every method that writes answers with this error of Slack's, `token_revoked` for instance."),
    Knob("error_next", [], "The next writes answer with these errors, one each."),
    Knob("replies_lost", 0, "So many writes are applied, and their connection cut without an answer."),
    Knob("requests_lost", 0, "So many writes are not applied, and their connection cut."),
    Knob("applied_late_ms", 0, "Writes are cut off at once, and applied so much later."),
    Knob("rate_limit", True, "Whether more than one message a second and channel is answered 429."),
    Knob("retry_after", 1, "Seconds that a 429 asks to wait."),
    Knob("longest_blocks", 13200, "Characters in blocks beyond which a message is `msg_blocks_too_long`."),
    Knob("scopes", SCOPES, "The scopes that the token has."),
    Knob("private", [], "Names of channels that are private: their history wants a scope that the token lacks."),
)
_BURST = 4  # messages that Slack takes at once before it counts seconds
WRITES = frozenset(("chat.postMessage", "chat.update", "chat.scheduleMessage"))


@dataclass
class Posted:
    """A message as the channel shows it."""

    ts: str
    text: str
    blocks: list[dict[str, Any]]
    metadata: dict[str, Any] | None
    thread_ts: str | None
    broadcast: bool
    edits: int = 0
    reactions: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Channel:
    """One channel and what stands in it, in the order it was posted."""

    id: str
    name: str
    messages: list[Posted] = field(default_factory=list)
    is_archived: bool = False
    taken: list[float] = field(default_factory=list)

    def find(self, ts: str) -> Posted | None:
        """The message with this timestamp."""
        return next((each for each in self.messages if each.ts == ts), None)


class SlackError(Exception):
    """An answer that is not ok."""

    def __init__(self, word: str, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(word)
        self.word, self.status, self.headers = word, status, dict(headers or {})


class SlackWorld:
    """The workspace: its channels, and what every method does to them."""

    def __init__(self, knobs: KnobArea, clock: Clock = utc_now) -> None:
        self.knobs, self._clock, self._count = knobs, clock, 0
        self.channels = {f"C0LOCAL{n:03}": Channel(f"C0LOCAL{n:03}", name) for n, name in enumerate(CHANNELS)}
        self.calls: list[str] = []
        self.methods: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "auth.test": lambda _: {"user_id": BOT, "team": "ADinsights local", "user": "adinsights"},
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "chat.scheduleMessage": self._schedule,
            "chat.deleteScheduledMessage": lambda _: {},
            "conversations.history": self._history,
            "conversations.replies": self._replies,
            "reactions.get": self._reactions,
            "users.info": self._user,
        }

    def channel(self, named: str) -> Channel:
        """The channel of an id or a name; Slack's error where there is none."""
        found = self.channels.get(named) or next((c for c in self.channels.values() if c.name == named), None)
        if found is None:
            raise SlackError("channel_not_found")
        return found

    def react(self, channel: str, ts: str, user: str = PERSON, name: str = "eyes") -> None:
        """A person reacts to a message."""
        message = self.channel(channel).find(ts)
        if message is not None and user not in message.reactions.setdefault(name, []):
            message.reactions[name].append(user)

    def take_back(self, channel: str, ts: str, user: str = PERSON, name: str = "eyes") -> None:
        """A person takes a reaction away."""
        message = self.channel(channel).find(ts)
        users = message.reactions.get(name, []) if message is not None else []
        if user in users:
            users.remove(user)

    def roots(self, channel: str = CHANNELS[0]) -> list[Posted]:
        """The first messages of a channel, oldest first."""
        return [each for each in self.channel(channel).messages if each.thread_ts in (None, each.ts)]

    def thread(self, ts: str, channel: str = CHANNELS[0]) -> list[Posted]:
        """The answers to a message, oldest first."""
        return [each for each in self.channel(channel).messages if each.thread_ts == ts and each.ts != ts]

    def _post(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._writable(asked)
        thread = asked.get("thread_ts") or None
        if thread is not None and channel.find(str(thread)) is None:
            raise SlackError("thread_not_found")
        message = Posted(
            self._ts(),
            str(asked.get("text", "")),
            _json(asked.get("blocks"), []),
            _json(asked.get("metadata"), None),
            thread,
            str(asked.get("reply_broadcast", "")).lower() in ("1", "true"),
        )
        channel.messages.append(message)
        return {"channel": channel.id, "ts": message.ts, "message": _shown(message)}

    def _update(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._writable(asked, by_id=True)
        message = channel.find(str(asked.get("ts")))
        if message is None:
            raise SlackError("message_not_found")
        message.text, message.blocks = str(asked.get("text", "")), _json(asked.get("blocks"), [])
        message.edits += 1
        return {"channel": channel.id, "ts": message.ts, "text": message.text}

    def _schedule(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        channel = self.channel(str(asked.get("channel")))
        return {"channel": channel.id, "scheduled_message_id": "Q0LOCAL", "post_at": asked.get("post_at")}

    def _writable(self, asked: Mapping[str, Any], *, by_id: bool = False) -> Channel:
        named = str(asked.get("channel"))
        if by_id and named not in self.channels:
            raise SlackError("channel_not_found")
        channel = self.channel(named)
        if channel.is_archived:
            raise SlackError("is_archived")
        text, blocks = str(asked.get("text", "")), _json(asked.get("blocks"), [])
        if len(text) > 40_000:
            raise SlackError("msg_too_long")
        if len(blocks) > 50 or any(len(each) > 3000 for each in _texts(blocks)):
            raise SlackError("invalid_blocks")
        if sum(map(len, _texts(blocks))) > self.knobs.get("longest_blocks"):
            raise SlackError("msg_blocks_too_long")
        self._allow(channel)
        return channel

    def _allow(self, channel: Channel) -> None:
        if not self.knobs.get("rate_limit"):
            return
        now = self._clock().timestamp()
        channel.taken = [at for at in channel.taken if now - at < _BURST]
        if len(channel.taken) >= _BURST:
            raise SlackError("ratelimited", 429, {"Retry-After": str(self.knobs.get("retry_after"))})
        channel.taken.append(now)

    def _history(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._by_id(asked)
        if channel.name.removeprefix("#") in self.knobs.get("private"):
            raise SlackError("missing_scope")
        shown = [each for each in channel.messages if each.thread_ts in (None, each.ts) or each.broadcast]
        return _page([each for each in reversed(shown) if _within(each, asked)], asked)

    def _replies(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        channel, root = self._by_id(asked), str(asked.get("ts"))
        if channel.find(root) is None:
            raise SlackError("thread_not_found")
        thread = [each for each in channel.messages if root in (each.ts, each.thread_ts)]
        return _page([each for each in thread if each.ts == root or _within(each, asked)], asked)

    def _reactions(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        message = self._by_id(asked).find(str(asked.get("timestamp")))
        if message is None:
            raise SlackError("message_not_found")
        return {"type": "message", "message": _shown(message)}

    def _by_id(self, asked: Mapping[str, Any]) -> Channel:
        if str(asked.get("channel")) not in self.channels:
            raise SlackError("channel_not_found")  # these methods know no names
        return self.channels[str(asked.get("channel"))]

    def _user(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        known = {BOT: ("adinsights", True), PERSON: ("Olivia Oncall", False)}
        if asked.get("user") not in known:
            raise SlackError("user_not_found")
        name, is_bot = known[str(asked["user"])]
        return {"user": {"id": asked["user"], "name": name, "is_bot": is_bot, "profile": {"display_name": name}}}

    def _ts(self) -> str:
        self._count += 1
        return f"{int(self._clock().timestamp())}.{self._count:06}"


def _json(value: Any, otherwise: Any) -> Any:
    if value is None or value == "":
        return otherwise
    return json.loads(value) if isinstance(value, str) else value


def _texts(blocks: list[dict[str, Any]]) -> list[str]:
    found = [each["text"]["text"] for each in blocks if "text" in each]
    return found + [one["text"] for each in blocks for one in each.get("elements", ())]


def _within(message: Posted, asked: Mapping[str, Any]) -> bool:
    return float(asked.get("oldest") or 0) <= float(message.ts) <= float(asked.get("latest") or "inf")


def _page(messages: list[Posted], asked: Mapping[str, Any]) -> dict[str, Any]:
    begin, size = int(asked.get("cursor") or 0), int(asked.get("limit") or 100)
    end = begin + size
    more = str(end) if end < len(messages) else ""
    with_metadata = str(asked.get("include_all_metadata", "")).lower() in ("1", "true")
    shown = [_shown(each, with_metadata) for each in messages[begin:end]]
    return {"messages": shown, "has_more": bool(more), "response_metadata": {"next_cursor": more}}


def _shown(message: Posted, with_metadata: bool = True) -> dict[str, Any]:
    shown: dict[str, Any] = {"ts": message.ts, "text": message.text, "blocks": message.blocks, "user": BOT}
    if message.thread_ts:
        shown["thread_ts"] = message.thread_ts
    if with_metadata and message.metadata:
        shown["metadata"] = message.metadata
    if message.reactions:
        shown["reactions"] = [
            {"name": name, "users": users, "count": len(users)} for name, users in message.reactions.items()
        ]
    return shown
