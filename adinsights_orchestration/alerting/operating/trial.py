"""A test message through every channel, and what came of each.

Belongs here: the message and asking the sinks at once. Does not belong here: the outbox, which a test has no business
in: whoever tests a channel wants its answer now, and a channel that is closed for a while is asked all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.channels.sinks import (
    Gone,
    Later,
    Notice,
    Outcome,
    Refused,
    Sent,
    Sink,
    Sinks,
    Uncertain,
)
from adinsights_orchestration.alerting.message import TEST_GROUP, Message, Severity, Standing, moment
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ops_store.findings import clear_finding
from adinsights_orchestration.ops_store.store import OpsStore


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a test message to one sink."""

    sink: str
    arrived: bool
    said: str


def trial_message(environment: Environment, who: str, now: datetime) -> Message:
    """Returns a message that nobody can take for an alert."""
    return Message(
        group=TEST_GROUP,
        episode=1,
        standing=Standing.RESOLVED,
        severity=Severity.WARN,
        title=f"TEST from {environment.value}: nothing is wrong",
        since=now,
        lines=(f"{who} tests this channel with `adinsights alerts test`, {moment(now)}. Alerts would come here.",),
        ended=now,
    )


def try_sinks(sinks: Sinks, message: Message, names: Sequence[str] = ()) -> list[Tried]:
    """Sends the message through each sink once, and returns what came of it.

    Args:
        sinks: All that are configured.
        message: What to say.
        names: Only these; all when there are none.
    """
    names = [sinks.real(name) for name in names]
    wanted = {name: sink for name, sink in sinks.by_name.items() if not names or name in names}
    missing = [Tried(name, arrived=False, said="no such channel is configured") for name in names if name not in wanted]
    return [_try(sink, message) for sink in wanted.values()] + missing


def clear_mended(store: OpsStore, tried: Sequence[Tried], now: datetime) -> None:
    """Clears what a person was told of channels that take messages again.

    Args:
        store: The ops store.
        tried: What came of the test.
        now: The moment.

    Raises:
        OpsStoreError: The ops store does not answer.
    """
    with store.begin() as connection:
        for each in tried:
            if each.arrived:
                clear_finding(connection, UNDELIVERABLE, each.sink, now)


def _try(sink: Sink, message: Message) -> Tried:
    outcome = sink.post(Notice(uuid4(), message))
    return Tried(sink.name, isinstance(outcome, Sent), _words(outcome))


def _words(outcome: Outcome) -> str:
    match outcome:
        case Sent():
            return "it arrived"
        case Refused(reason, permanent=True):
            return f"refused: {reason}; it will be until somebody mends that"
        case Refused(reason) | Gone(reason):
            return f"refused for now: {reason}"
        case Later(not_before, reason):
            return f"not before {moment(not_before)}: {reason}"
        case Uncertain(reason):
            return f"no answer: {reason}; look in the channel"
