"""A channel in memory: what its readers see, and every way in which a request to it can go wrong.

The server applies a request at once, or when its time has come: `advance` lets time pass. What a sender is told is
decided apart from what the server does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

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
from adinsights_orchestration.alerting.message import Message


class Fault(StrEnum):
    """What goes wrong with a request."""

    NONE = "none"
    REQUEST_LOST = "request_lost"  # never applied, no answer
    REPLY_LOST = "reply_lost"  # applied, no answer
    APPLIED_LATE = "applied_late"  # no answer, applied within the settling time
    BUSY = "busy"  # 429: not applied, come back later
    REFUSED = "refused"  # not applied, for now
    REJECTED = "rejected"  # not applied, for good
    GONE = "gone"  # the message is not there any more


@dataclass
class Shown:
    """A message in the channel."""

    ref: str
    notice: UUID
    message: Message
    at: datetime
    replies: list[tuple[UUID, Message]] = field(default_factory=list)


class Channel:
    """The channel, as a sink and as its readers see it."""

    def __init__(self, name: str = "main", traits: Traits | None = None) -> None:
        self.name = name
        self.traits = traits or Traits(every=timedelta(0), burst=1000)
        self.now = datetime.min.replace(tzinfo=UTC)
        self.posts: list[Shown] = []
        self.calls = 0
        self.fault: Callable[[], Fault] = lambda: Fault.NONE
        self.late: list[tuple[datetime, Callable[[], object]]] = []

    def advance(self, now: datetime) -> None:
        """Lets time pass: what was to be applied late is."""
        self.now = now
        due = [apply for at, apply in self.late if at <= now]
        self.late = [(at, apply) for at, apply in self.late if at > now]
        for apply in due:
            apply()

    def post(self, notice: Notice) -> Outcome:
        def apply() -> str:
            self.posts.append(Shown(f"{self.name}-{len(self.posts)}", notice.id, notice.message, self.now))
            return self.posts[-1].ref

        return self._request(apply)

    def update(self, notice: Notice, ref: str) -> Outcome:
        def apply() -> str:
            self._shown(ref).message = notice.message
            return ref

        return self._request(apply)

    def reply(self, notice: Notice, root: str) -> Outcome:
        def apply() -> str:
            self._shown(root).replies.append((notice.id, notice.message))
            return f"{root}/{len(self._shown(root).replies)}"

        return self._request(apply)

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:
        self.calls += 1
        match self.fault():
            case Fault.REQUEST_LOST | Fault.REPLY_LOST | Fault.APPLIED_LATE:
                return Uncertain("timeout")
            case Fault.BUSY:
                return Later(self.now + timedelta(seconds=7))
            case Fault.REFUSED:
                return Refused("busy", permanent=False)
        if attempted.root is not None:
            ids = [known for known, _ in self._shown(attempted.root).replies]
            return Found(f"{attempted.root}/{ids.index(notice.id) + 1}") if notice.id in ids else Absent()
        found = next((shown.ref for shown in self.posts if shown.notice == notice.id), None)
        return Found(found) if found else Absent()

    def _request(self, apply: Callable[[], str]) -> Outcome:  # noqa: PLR0911
        self.calls += 1
        match self.fault():
            case Fault.NONE:
                return Sent(apply())
            case Fault.REQUEST_LOST:
                return Uncertain("timeout")
            case Fault.REPLY_LOST:
                apply()
                return Uncertain("reply lost")
            case Fault.APPLIED_LATE:
                settled = timedelta(seconds=self.traits.settle_seconds)
                self.late.append((self.now + settled, apply))
                return Uncertain("timeout")
            case Fault.BUSY:
                return Later(self.now + timedelta(seconds=7))
            case Fault.REFUSED:
                return Refused("busy", permanent=False)
            case Fault.REJECTED:
                return Refused("channel_archived", permanent=True)
            case Fault.GONE:
                return Gone("message_not_found")

    def _shown(self, ref: str) -> Shown:
        return next(shown for shown in self.posts if shown.ref == ref)
