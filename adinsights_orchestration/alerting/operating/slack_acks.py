"""Acknowledging by a reaction: who reacted to the message of something that fires takes it on.

Belongs here: which messages are looked at, and what a reaction is worth. Does not belong here: what acknowledging does
(`hands`). Slack is asked, so no address of ours has to be public: a bounded number of messages a tick, the ones that
were looked at longest ago first. One's own reactions and those of other bots count for nothing. Slack keeps a reaction
and does not say when it was made, so each counts once: on what got worse since, somebody has to react anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from adinsights_orchestration.alerting.bookkeeping.outbox import LONGEST_WAIT
from adinsights_orchestration.alerting.channels.sinks import Later, Refused
from adinsights_orchestration.alerting.channels.slack import ERRORS, KIND, Place, make_client, meaning_of
from adinsights_orchestration.alerting.model import Incident, State
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.alerting.telling.grouping import Op
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.alert_tables import alert_group, alert_incident, alert_outbox
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

MOST_A_TICK = 15  # Slack allows about fifty `reactions.get` a minute; a tick is every 15 s
_NAMES_KEPT = 1000
_NEVER = datetime.min.replace(tzinfo=UTC)
_log = get_logger(__name__)
Reaction = tuple[str, str]  # emoji, user


@dataclass(frozen=True, slots=True)
class Open:
    """A message of something that fires.

    Attributes:
        notice: Its notification id.
        group: The group.
        episode: Which of its messages.
        place: Where it is.
        waits: Whether somebody is to take its matter on.
        counted: The reactions that were seen on it before.
    """

    notice: UUID
    group: str
    episode: int
    place: Place
    waits: bool
    counted: frozenset[Reaction]


class Acknowledgements:
    """Looks for reactions; remembers between ticks whom an id names, and which messages come next.

    Args:
        client: As `slack.make_client` makes it.
        timeout_seconds: The client's deadline of one request.
    """

    def __init__(self, client: WebClient, timeout_seconds: float) -> None:
        self._client, self._timeout = client, timeout_seconds
        self._people: dict[str, str | None] = {}  # None: not a person
        self._looked: dict[str, datetime] = {}
        self._not_before: datetime | None = None

    def collect(self, store: OpsStore, clock: TickClock) -> int:
        """Acknowledges what people reacted to; returns how many incidents that were.

        Args:
            store: The ops store.
            clock: The tick, with its budget: nothing is begun that could outlast it.

        Raises:
            OpsStoreError: The ops store does not answer.
        """
        # Further away than Slack may ask for: the clock was ahead, and has been set back.
        if self._not_before is not None and self._not_before - LONGEST_WAIT <= clock.now() < self._not_before:
            return 0
        with store.begin() as connection:
            waiting = open_messages(connection)
        self._looked = {str(each.place): self._looked[str(each.place)] for each in waiting if self._seen(each)}
        taken_on = 0
        for each in sorted(waiting, key=self._turn)[:MOST_A_TICK]:
            if clock.left() < 3 * self._timeout:
                break
            self._looked[str(each.place)] = clock.now()
            try:
                reactions = self._reactions(each.place)
                who = self._somebody(reactions, each.counted, clock.now()) if each.waits else None
            except ERRORS as error:
                outcome = meaning_of(error, clock.now())
                if isinstance(outcome, Later):
                    self._not_before = outcome.not_before
                    break
                _log.warning("Slack does not say who reacted", group=each.group, reason=getattr(outcome, "reason", ""))
                continue
            if who is not None or each.counted != set(reactions):
                taken_on += _count(store, each, reactions, who, clock.now())
        return taken_on

    def _turn(self, message: Open) -> tuple[bool, datetime]:
        return not message.waits, self._looked.get(str(message.place), _NEVER)

    def _seen(self, message: Open) -> bool:
        return str(message.place) in self._looked

    def _reactions(self, place: Place) -> list[Reaction]:
        answer = self._client.reactions_get(channel=place.channel, timestamp=place.ts, full=True)
        found: list[Mapping[str, Any]] = answer["message"].get("reactions") or []
        return [(str(each["name"]), str(user)) for each in found for user in each.get("users", ())]

    def _somebody(self, reactions: Collection[Reaction], counted: Collection[Reaction], now: datetime) -> str | None:
        users = dict.fromkeys(user for emoji, user in reactions if (emoji, user) not in counted)
        return next((name for user in users if (name := self._name(user, now)) is not None), None)

    def _name(self, user: str, now: datetime) -> str | None:
        if user not in self._people:
            try:
                found = self._client.users_info(user=user)["user"]
            except SlackApiError as error:
                match meaning_of(error, now):
                    case Refused(permanent=False):  # a guest of another workspace, say: a person whom it does not show
                        return user
                raise
            profile = found.get("profile") or {}
            name = profile.get("display_name") or found.get("real_name") or found.get("name") or user
            if len(self._people) >= _NAMES_KEPT:
                self._people.clear()
            self._people[user] = None if found.get("is_bot") else str(name)
        return self._people[user]


def acknowledgements(settings: Settings) -> Acknowledgements | None:
    """Returns what looks for reactions; None without a token."""
    if settings.slack.token is None:
        return None
    return Acknowledgements(make_client(settings.slack), settings.slack.timeout_seconds)


def _count(store: OpsStore, message: Open, reactions: Collection[Reaction], who: str | None, now: datetime) -> int:
    """Takes the matter on where somebody reacted, and keeps which reactions were seen; one that was taken away is not.

    Returns:
        How many incidents were taken on.
    """
    with store.begin() as connection:
        taken_on: list[Incident] = []
        if who is not None:
            taken_on = hands.acknowledge_group(connection, message.group, message.episode, f"{who} (Slack)", now)
        this = alert_outbox.c.notice_id == message.notice
        connection.execute(sa.update(alert_outbox).where(this).values(reactions=[list(each) for each in reactions]))
        return len(taken_on)


def open_messages(connection: sa.Connection) -> list[Open]:
    """Returns the messages in Slack of every group in which something fires, those that are taken on too.

    Its first message, and the newest line of its story that was shown in the channel, where people see the alarm. Of
    those that are taken on it is kept who reacted, so that this does not count when the matter gets worse.
    """
    fires = sa.and_(
        alert_incident.c.group_key == alert_group.c.key,
        alert_incident.c.state.in_([state.value for state in State if state.is_firing]),
        alert_incident.c.suppressed_by == "",
    )
    untaken = sa.and_(alert_incident.c.state != State.ACKNOWLEDGED.value, alert_incident.c.acked_at.is_(None))
    waits = sa.exists().where(fires, untaken)
    row, line = alert_outbox.c, alert_outbox.alias("line")
    same = (line.c[name] == row[name] for name in ("group_key", "episode", "sink"))
    shown = sa.and_(line.c.op == Op.REPLY.value, line.c.state == "sent", line.c.message["broadcast"].as_boolean())
    newest = sa.select(sa.func.max(line.c.seq)).where(*same, shown).scalar_subquery()
    query = (
        sa.select(row.notice_id, row.group_key, row.episode, row.ref, row.reactions, waits.label("waits"))
        .join(
            alert_group,
            sa.and_(alert_group.c.key == alert_outbox.c.group_key, alert_group.c.episode == alert_outbox.c.episode),
        )
        .where(
            sa.or_(row.op == Op.POST.value, sa.and_(row.op == Op.REPLY.value, row.seq == newest)),
            alert_outbox.c.state == "sent",
            alert_outbox.c.sink.startswith(f"{KIND}:"),
            alert_group.c.shown != "",
            sa.exists().where(fires),
        )
        .order_by(alert_outbox.c.created_at)
    )
    return [
        Open(
            each.notice_id,
            each.group_key,
            each.episode,
            Place.parse(each.ref),
            each.waits,
            frozenset((emoji, user) for emoji, user in each.reactions or ()),
        )
        for each in connection.execute(query)
        if each.ref
    ]
