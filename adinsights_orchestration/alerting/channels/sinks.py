"""Where messages go: what a sink must be able to do, what may come of it, and the log as a sink.

Belongs here: the interface between delivery and a channel, and the sink that always exists. Does not belong here: a
channel's protocol (a module each), leases, order and repetition (`deliver`). A sink's methods return what happened as a
value and never raise for what a server, a network or a message's text may do. Each keeps to `deadline_seconds`, never
sleeps, and never sends a request a second time by itself: only the outbox knows whether that would be one too many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias
from uuid import UUID

from adinsights_orchestration.alerting.contacts import MAIN_CHANNEL
from adinsights_orchestration.alerting.message import Message, plain_text
from adinsights_orchestration.logs import get_logger

FALLBACK_AFTER = timedelta(minutes=10)
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """It arrived; `ref` is how the sink finds the message again (a text of its own making, kept as it is)."""

    ref: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It did not arrive, for certain.

    Attributes:
        reason: The sink's word for why, without secrets: `channel_archived`, `invalid_blocks`.
        permanent: Whether trying again is of no use until a person did something. Else it is tried again with growing
            pauses.
    """

    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Later:
    """It did not arrive, for certain, and the whole sink takes nothing before a moment (429 with Retry-After)."""

    not_before: datetime
    reason: str = "rate limited"


@dataclass(frozen=True, slots=True)
class Uncertain:
    """It may have arrived, or may still arrive: a timeout, a lost reply, a 5xx."""

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The message that was to be edited or answered does not exist any more; it is posted anew."""

    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """A look-up found the notification."""

    ref: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A look-up searched the whole time given and the notification is not there."""


Outcome: TypeAlias = Sent | Refused | Later | Uncertain | Gone
LookedUp: TypeAlias = Found | Absent | Refused | Later | Uncertain


@dataclass(frozen=True, slots=True)
class Notice:
    """A message on its way.

    Attributes:
        id: The notification id: the same whenever it is tried again. Slack carries it in the message's metadata, mail
            in the Message-ID.
        message: What to say.
        attempt: Which try it is, from 1.
    """

    id: UUID
    message: Message
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Attempted:
    """When a notice whose arrival is uncertain may have been taken: what a look-up has to search.

    Attributes:
        first: Before the first attempt.
        last: Before the last one.
        root: The message in whose thread it would be; None where it is a first message.
    """

    first: datetime
    last: datetime
    root: str | None


@dataclass(frozen=True, slots=True)
class Traits:
    """What delivery must know of a sink.

    Attributes:
        deadline_seconds: The longest that any one call takes.
        settle_seconds: How long after that the server may still apply a request whose reply was lost.
        every: The least time between two messages on average.
        burst: How many may go at once.
        can_look_up: Whether it can be asked for a notification. What cannot be asked is sent again when in doubt, under
            the same id.
        edits: Whether messages can be edited in place.
        threads: Whether it takes the lines of the story one by one.
    """

    deadline_seconds: float = 10.0
    settle_seconds: float = 20.0
    every: timedelta = timedelta(seconds=1)
    burst: int = 5
    can_look_up: bool = True
    edits: bool = True
    threads: bool = True


class Sink(Protocol):
    """One channel: `slack:#adinsights-alerts`, `mail:data-eng@example.com`, `log`."""

    @property
    def name(self) -> str:
        """Its name in routes and in the outbox; never changes while messages are open in it."""

    @property
    def traits(self) -> Traits:
        """How it is to be treated."""

    def post(self, notice: Notice) -> Outcome:
        """Says something new."""

    def update(self, notice: Notice, ref: str) -> Outcome:
        """Makes the message `ref` say this instead; `Sent` holds the same reference. Doing it twice does no harm."""

    def reply(self, notice: Notice, root: str) -> Outcome:
        """Says something in the thread of the message `root`."""

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:
        """Searches for a post or reply by its notification id."""


@dataclass(frozen=True)
class Sinks:
    """The sinks of a deployment.

    Attributes:
        by_name: Each by its name.
        default: Where a message goes that no route names a sink for.
        fallback: Which sink takes over for which: after a permanent refusal at once, else after `fallback_after`.
        fallback_after: How long a sink may not have taken a message before its fallback says it.
        origin: The environment that messages name; empty for production.
        main: Where the main channel really is: another place makes it another sink.
        former: Makes a sink of a channel that is not configured any more, so that its messages can say where they are
            told now; None where that cannot be.
    """

    by_name: Mapping[str, Sink]
    default: tuple[str, ...]
    fallback: Mapping[str, str] = field(default_factory=dict)
    fallback_after: timedelta = FALLBACK_AFTER
    origin: str = ""
    main: str = MAIN_CHANNEL
    former: Callable[[str], Sink | None] = field(default=lambda _: None, compare=False)

    def real(self, name: str) -> str:
        """The name of the sink that the alert file names so."""
        return self.main if name == MAIN_CHANNEL else name


class LogSink:
    """Alerts as lines of the log: what there is without a token, and never refuses."""

    name = "log"
    traits = Traits(every=timedelta(0), burst=1000, can_look_up=False)

    def post(self, notice: Notice) -> Outcome:
        """Writes the whole message."""
        return self._write("alert", notice, str(notice.id))

    def update(self, notice: Notice, ref: str) -> Outcome:
        """Writes that the message changed."""
        return self._write("alert changed", notice, ref)

    def reply(self, notice: Notice, root: str) -> Outcome:  # noqa: ARG002
        """Writes a line of the story."""
        return self._write("alert story", notice, str(notice.id))

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:  # noqa: ARG002
        """A log cannot be asked."""
        return Absent()

    def _write(self, what: str, notice: Notice, ref: str) -> Outcome:
        message = notice.message
        _log.warning(
            what,
            alert_group=message.group,
            episode=message.episode,
            standing=message.standing.value,
            severity=message.severity.value,
            notice=str(notice.id),
            text=plain_text(message),
        )
        return Sent(ref)
