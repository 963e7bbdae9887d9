"""Slack as a sink: one channel, spoken to with slack-sdk.

Belongs here: requests, and what each answer means for the outbox. Does not belong here: markup (`slack_blocks`),
reactions (`slack_acks`), repetition (`deliver`). The client's own retrying is off: after a lost reply it posts a second
time. A request whose end is not known is `Uncertain`; the outbox then has the channel's history searched for the
notification's id, which each message carries in its metadata.

Slack's history is asked for by a channel's id, and scopes that would list channels are not asked for. So a channel
named `#like-this` is turned into its id by the first answer that holds it: that of a message, or else of one that is
scheduled for far away and taken back at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from uuid import UUID

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from adinsights_orchestration.alerting.channels import slack_blocks
from adinsights_orchestration.alerting.channels.sinks import (
    Absent,
    Attempted,
    Found,
    Gone,
    Later,
    LookedUp,
    Notice,
    Outcome,
    Refused,
    Sent,
    Traits,
    Uncertain,
)
from adinsights_orchestration.alerting.channels.slack_blocks import Rendered
from adinsights_orchestration.alerting.message import Message
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.settings import SlackSettings

KIND = "slack"
EVENT_TYPE = "adinsights_alert"
SCOPES = frozenset(("chat:write", "reactions:read", "channels:history", "users:read"))
_PAGE = 200
_SKEW = timedelta(minutes=2)  # by which Slack's clock and ours may differ
_FAR_AWAY_SECONDS = 100 * 86400  # Slack schedules up to 120 days ahead
_SHORTEST_WAIT_SECONDS = 1.0
# Answers that say for certain that nothing was posted, and that a person must do something before anything is.
_PERMANENT = frozenset(
    (
        "access_denied", "account_inactive", "as_user_not_supported", "cant_update_message",
        "channel_not_found", "edit_window_closed", "ekm_access_denied", "invalid_auth", "is_archived",
        "messages_tab_disabled", "missing_scope", "no_permission", "not_allowed_token_type", "not_authed",
        "not_in_channel", "org_login_required", "restricted_action", "team_access_not_granted", "token_expired",
        "token_revoked",
    )
)  # fmt: skip
# A message that Slack does not take as it is: said again in fewer words.
TOO_MUCH = frozenset(
    ("msg_too_long", "msg_blocks_too_long", "invalid_blocks", "invalid_blocks_format", "metadata_too_large")
)
_RATE_LIMITED = frozenset(("ratelimited", "rate_limited", "message_limit_exceeded"))
_GONE = frozenset(("message_not_found", "thread_not_found", "cannot_reply_to_message"))
# What slack-sdk lets through when a server or a network fails; TimeoutError and resets are OSErrors.
ERRORS = (SlackClientError, OSError, HTTPException, ValueError)
_UNCERTAIN = frozenset(("fatal_error", "internal_error", "request_timeout", "service_unavailable"))


@dataclass(frozen=True, slots=True)
class Place:
    """A message in Slack: the channel's id and the message's timestamp, which is its id."""

    channel: str
    ts: str

    @classmethod
    def parse(cls, ref: str) -> Place:
        """Returns what a reference in the outbox stands for."""
        channel, _, ts = ref.partition("/")
        return cls(channel, ts)

    def __str__(self) -> str:
        return f"{self.channel}/{self.ts}"


def make_client(settings: SlackSettings) -> WebClient:
    """Returns a client that never sends a request a second time.

    Raises:
        ValueError: There is no token.
    """
    if settings.token is None:
        raise ValueError("Slack needs a token")
    return WebClient(
        token=settings.token.get_secret_value(),
        base_url=f"{settings.api_url.rstrip('/')}/",
        timeout=settings.timeout_seconds,
        retry_handlers=[],
    )


class SlackSink:
    """One channel.

    Args:
        channel: `#its-name` or its id.
        client: As `make_client` makes it.
        name: What routes and the outbox call it; `slack:` and the channel when None.
        timeout_seconds: The client's deadline of one request.
        clock: What time it is.
    """

    def __init__(
        self,
        channel: str,
        client: WebClient,
        *,
        name: str | None = None,
        timeout_seconds: float = 4.0,
        clock: Clock = utc_now,
    ) -> None:
        self.name = name or f"{KIND}:{channel}"
        # A call may be two requests: a message and its shorter form, or two pages of the history.
        self.traits = Traits(deadline_seconds=2 * timeout_seconds + 1)
        self._channel, self._client, self._timeout, self._clock = channel, client, timeout_seconds, clock
        self._id = "" if channel.startswith("#") else channel

    def post(self, notice: Notice) -> Outcome:
        """Posts a first message."""
        rendered = slack_blocks.first_message(notice.message)
        return self._said(
            rendered, lambda words: self._client.chat_postMessage(channel=self._target, **_body(words, notice))
        )

    def update(self, notice: Notice, ref: str) -> Outcome:
        """Edits a first message in place."""
        place, rendered = Place.parse(ref), slack_blocks.first_message(notice.message)
        sent = self._said(
            rendered,
            lambda words: self._client.chat_update(channel=place.channel, ts=place.ts, **_body(words, None)),
        )
        return Sent(ref) if isinstance(sent, Sent) else sent

    def reply(self, notice: Notice, root: str) -> Outcome:
        """Says a line of the story in the thread."""
        place, rendered = Place.parse(root), slack_blocks.story_line(notice.message)
        return self._said(
            rendered,
            lambda words: self._client.chat_postMessage(
                channel=place.channel,
                thread_ts=place.ts,
                reply_broadcast=notice.message.broadcast,
                **_body(words, notice),
            ),
        )

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:
        """Searches the channel, or the thread, around the attempts for the notification's id."""
        began = time.monotonic()
        oldest = f"{(attempted.first - _SKEW).timestamp():.6f}"
        latest = attempted.last + timedelta(seconds=self.traits.deadline_seconds + self.traits.settle_seconds) + _SKEW
        window: dict[str, Any] = {
            "oldest": oldest,
            "latest": f"{latest.timestamp():.6f}",
            "inclusive": True,
            "limit": _PAGE,
        }
        root = Place.parse(attempted.root) if attempted.root else None
        cursor: str | None = None
        try:
            channel = root.channel if root is not None else self._known_id()
            while True:
                ask: dict[str, Any] = {**window, "channel": channel, "include_all_metadata": True, "cursor": cursor}
                page = (
                    self._client.conversations_replies(ts=root.ts, **ask)
                    if root is not None
                    else self._client.conversations_history(**ask)
                )
                for each in page["messages"]:
                    if _notice_of(each) == notice.id:
                        return Found(str(Place(channel, str(each["ts"]))))
                cursor = (page.get("response_metadata") or {}).get("next_cursor") or None
                if cursor is None:
                    return Absent()
                if time.monotonic() - began > self._timeout:
                    return Uncertain("the channel's history is too long to be searched in time")
        except ERRORS as error:
            outcome = self._meaning(error)
            return outcome if isinstance(outcome, Refused | Later | Uncertain) else Absent()

    @property
    def _target(self) -> str:
        return self._id or self._channel

    def _known_id(self) -> str:
        if not self._id:
            self._id = channel_id(self._client, self._channel, self._clock())
        return self._id

    def _said(self, rendered: Rendered, call: Callable[[Rendered], Any]) -> Outcome:
        for words in (rendered, slack_blocks.shorter(rendered)):
            try:
                answer = call(words)
            except ERRORS as error:
                if _is_too_much(error) and words is rendered:
                    continue
                return self._meaning(error)
            self._id = str(answer["channel"])
            return Sent(str(Place(self._id, str(answer["ts"]))))
        raise AssertionError("the shorter form is the last")

    def _meaning(self, error: BaseException) -> Outcome:
        return meaning_of(error, self._clock())


def channel_id(client: WebClient, channel: str, now: datetime) -> str:
    """Returns the id of a channel that is known by its name, with no further scope than that of writing there.

    Raises:
        SlackApiError: Slack knows no such channel, or does not let us write there.
    """
    if not channel.startswith("#"):
        return channel
    at = int(now.timestamp()) + _FAR_AWAY_SECONDS
    planned = client.chat_scheduleMessage(channel=channel, post_at=at, text="adinsights looks for this channel's id")
    found = str(planned["channel"])
    client.chat_deleteScheduledMessage(channel=found, scheduled_message_id=str(planned["scheduled_message_id"]))
    return found


def meaning_of(error: BaseException, now: datetime) -> Outcome:
    """Returns what an error of the client means for the outbox.

    Args:
        error: One of `ERRORS`.
        now: The moment.
    """
    if isinstance(error, SlackApiError):
        return meaning(int(error.response.status_code), error.response.headers, _word(error), now)
    if isinstance(error, URLError) and isinstance(error.reason, ConnectionRefusedError | socket.gaierror):
        return Refused("Slack cannot be reached", permanent=False)
    return Uncertain(f"no answer from Slack ({type(error).__name__})")


def meaning(status: int, headers: Mapping[str, Any], word: str, now: datetime) -> Outcome:
    """Returns what an answer that is not ok means for the outbox.

    Args:
        status: HTTP status.
        headers: The answer's headers.
        word: Slack's word for the error.
        now: The moment.
    """
    if status == 429 or word in _RATE_LIMITED:
        return Later(now + timedelta(seconds=_retry_after(headers)))
    if word in _GONE:
        return Gone(word)
    if word in _PERMANENT or word in TOO_MUCH:
        return Refused(word, permanent=True)
    if status >= 500 or word in _UNCERTAIN or not word:
        return Uncertain(word or f"HTTP {status}")
    return Refused(word, permanent=False)


def _retry_after(headers: Mapping[str, Any]) -> float:
    found = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        seconds = float(found[0] if isinstance(found, list) else found)
    except (TypeError, ValueError, IndexError):
        return 30.0
    return min(max(seconds, _SHORTEST_WAIT_SECONDS), 3600.0)


def _word(error: SlackApiError) -> str:
    """Slack's own word; an answer that is not Slack's (a proxy's page) has none."""
    data = error.response.data
    word = str(data.get("error", "")) if isinstance(data, dict) else ""
    # Where an answer is no JSON, slack-sdk puts a sentence there, with the beginning of what came.
    return word if word.replace("_", "").isalnum() else ""


def _is_too_much(error: BaseException) -> bool:
    return isinstance(error, SlackApiError) and _word(error) in TOO_MUCH


def _body(words: Rendered, notice: Notice | None) -> dict[str, Any]:
    body: dict[str, Any] = {"text": words.text, "unfurl_links": False, "unfurl_media": False}
    body["blocks"] = list(words.blocks)
    if notice is not None:
        body["metadata"] = {"event_type": EVENT_TYPE, "event_payload": _payload(notice.id, notice.message)}
    else:
        del body["unfurl_links"], body["unfurl_media"]
    return body


def _payload(notice_id: UUID, message: Message) -> dict[str, Any]:
    return {"notice_id": str(notice_id), "group": message.group[:200], "episode": message.episode}


def _notice_of(message: Mapping[str, Any]) -> UUID | None:
    payload = (message.get("metadata") or {}).get("event_payload") or {}
    try:
        return UUID(str(payload.get("notice_id")))
    except ValueError:
        return None
