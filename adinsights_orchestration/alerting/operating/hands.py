"""What people do to alerts: look, acknowledge, silence.

Belongs here: each as one transaction that keeps evaluations out while it changes something. Does not belong here: how a
person asks for it (a command, a reaction in Slack).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.alerting.evaluation import incidents as machine
from adinsights_orchestration.alerting.evaluation.evaluate import hold
from adinsights_orchestration.alerting.matching import Matcher, Silence
from adinsights_orchestration.alerting.model import SHORT_ID, Incident, Transition
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.ops_store.store import OpsStore

SHORTEST_ID = 4
LONGEST_SILENCE = timedelta(days=30)


@dataclass(frozen=True)
class Story:
    """One incident, and what happened to it and its group."""

    incident: Incident
    history: Sequence[Event]


def open_incidents(store: OpsStore) -> list[Incident]:
    """Returns what is wrong now, the most urgent and oldest first."""
    with store.begin() as connection:
        found = rows.load_incidents(connection)
    firing = [each for each in found.values() if each.is_firing]
    return sorted(firing, key=lambda each: (-each.severity.rank, each.finding.since, each.fingerprint))


def story(store: OpsStore, incident_id: str, limit: int = 200) -> Story:
    """Returns an incident with the newest lines of its history, oldest first.

    Raises:
        ConfigurationError: No incident, or several, have such an id.
    """
    with store.begin() as connection:
        found = _one(connection, incident_id)
        history = rows.history(
            connection, fingerprint=found.fingerprint, group_key=found.finding.group_key, limit=limit
        )
    return Story(found, history)


def acknowledge(store: OpsStore, incident_id: str, who: str, now: datetime) -> list[Incident]:
    """Acknowledges an incident, or every one of a group that fires; returns those that were not before.

    Args:
        store: The ops store.
        incident_id: An incident's id, or a group's key.
        who: Who takes it on.
        now: The moment.

    Raises:
        ConfigurationError: No incident, or several, have such an id, or what has it does not fire.
    """
    with store.begin() as connection:
        hold(connection)
        meant = _told_of_group(connection, incident_id) or [_one(connection, incident_id)]
        if not any(each.is_firing for each in meant):
            raise ConfigurationError(f"{incident_id} does not fire", next_step="See adinsights alerts list.")
        return _acknowledge(connection, meant, who, now)


def acknowledge_group(connection: sa.Connection, group: str, episode: int, who: str, now: datetime) -> list[Incident]:
    """Acknowledges everything that a group's message tells, if it still has the message that somebody reacted to.

    Args:
        connection: A transaction that nothing else has been done in.
        group: The group's key.
        episode: Which of its messages.
        who: Who takes it on.
        now: The moment.
    """
    hold(connection)
    known = rows.load_groups(connection, [group]).get(group)
    if known is None or not known.is_open or known.episode != episode:
        return []
    return _acknowledge(connection, _told_of_group(connection, group), who, now)


def silence(
    store: OpsStore, matchers: Iterable[str], lasts: timedelta, who: str, reason: str, now: datetime
) -> Silence:
    """Keeps what matches quiet from now on, and returns the silence.

    Raises:
        ConfigurationError: A matcher is wrong, there is none, or it is to last for too long or no time.
    """
    parsed = tuple(Matcher.parse(text) for text in matchers)
    if not parsed:
        raise ConfigurationError("a silence needs a matcher", next_step="Write what to silence, such as tenant=acme.")
    if not timedelta() < lasts <= LONGEST_SILENCE:
        raise ConfigurationError(f"a silence lasts up to {LONGEST_SILENCE.days} days")
    if not reason.strip():
        raise ConfigurationError("a silence needs a reason", next_step="Say why: the next on-call will ask.")
    asked = Silence(0, parsed, now, now + lasts, who, reason.strip())
    with store.begin() as connection:
        number = rows.add_silence(connection, asked, now)
        words = ", ".join(map(str, parsed))
        rows.note(connection, [Event(now, "silenced", f"{number} by {who}: {words}, until {asked.ends_at:%F %R}")])
    return Silence(number, parsed, now, asked.ends_at, who, asked.reason)


def unsilence(store: OpsStore, number: int, who: str, now: datetime) -> bool:
    """Ends a silence now; returns whether there was one in force or to come."""
    with store.begin() as connection:
        ended = rows.end_silence(connection, number, now)
        if ended:
            rows.note(connection, [Event(now, "unsilenced", f"{number} by {who}")])
    return ended


def silences(store: OpsStore, now: datetime) -> list[Silence]:
    """Returns the silences that are in force or to come."""
    with store.begin() as connection:
        return rows.load_silences(connection, now)


def last_evaluation(store: OpsStore) -> datetime | None:
    """Returns when alerts were last evaluated; what is listed is as old. None before the first time."""
    with store.begin() as connection:
        return rows.last_evaluation(connection)


def _acknowledge(connection: sa.Connection, meant: Sequence[Incident], who: str, now: datetime) -> list[Incident]:
    changed: list[Incident] = []
    noted: list[Transition] = []
    for each in meant:
        after, transitions = machine.acknowledge(each, who, now)
        if transitions:
            changed.append(after)
            noted += transitions
    rows.save_incidents(connection, changed)
    rows.note(connection, rows.events_of(noted))
    return changed


def _of_group(connection: sa.Connection, key: str) -> list[Incident]:
    return [each for each in rows.load_incidents(connection).values() if each.finding.group_key == key]


def _told_of_group(connection: sa.Connection, key: str) -> list[Incident]:
    """What the readers of a group's message see: nothing that is kept quiet, or that joined and is not told yet."""
    return [each for each in _of_group(connection, key) if each.told and not each.suppressed_by]


def _one(connection: sa.Connection, incident_id: str) -> Incident:
    beginning = incident_id.strip().lower()
    if len(beginning) < SHORTEST_ID or not set(beginning) <= set("0123456789abcdef"):
        raise ConfigurationError(
            f"{incident_id!r} is no incident's id", next_step=f"It has {SHORT_ID} characters: adinsights alerts list."
        )
    found = rows.find_incidents(connection, beginning)
    if not found:
        raise ConfigurationError(f"no incident {incident_id}", next_step="See adinsights alerts list.")
    if len(found) > 1:
        raise ConfigurationError(f"several incidents begin with {incident_id}", next_step="Write more of the id.")
    return found[0]
