"""Incidents, an outbox in Postgres and channels in one hand, for tests of delivery."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping import outbox
from adinsights_orchestration.alerting.bookkeeping.rows import load_groups, save_groups
from adinsights_orchestration.alerting.channels.sinks import Sink, Sinks
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.delivery.deliver import Delivered
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.telling.grouping import Group, Options, Order
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ops_store.alert_tables import alert_outbox
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.channel import Channel
from tests.alerting.support import World, finding

MINUTE = timedelta(minutes=1)


class Office:
    """A world of incidents, an outbox in Postgres, and channels."""

    def __init__(self, store: OpsStore, *channels: Channel, fallback: dict[str, str] | None = None) -> None:
        self.store, self.channels = store, channels
        by_name: dict[str, Sink] = {channel.name: channel for channel in channels}
        self.sinks = Sinks(by_name, (channels[0].name,), fallback or {})
        self.world = World(Options(Routes((channels[0].name,))))

    def tick(
        self, *resources: str | Finding, after: timedelta = MINUTE, severity: Severity = Severity.WARN
    ) -> list[Order]:
        self.world.groups = self._groups()
        findings = (each if isinstance(each, Finding) else finding(each, severity) for each in resources)
        orders = self.world.tick(*findings, after=after)
        with self.store.begin() as connection:
            save_groups(connection, list(self.world.groups.values()))
            outbox.enqueue(connection, orders, self.world.now)
        return orders

    def _groups(self) -> dict[str, Group]:
        with self.store.begin() as connection:
            return {**self.world.groups, **load_groups(connection, list(self.world.groups))}

    def deliver(self, after: timedelta = timedelta(0), *, budget: float = 40.0) -> Delivered:
        self.world.now += after
        for channel in self.channels:
            channel.advance(self.world.now)
        return deliver.run(self.store, self.sinks, TickClock(self.world.now, budget, lambda: 0.0))

    def states(self) -> list[tuple[str, str]]:
        with self.store.begin() as connection:
            rows = connection.execute(sa.select(alert_outbox.c.op, alert_outbox.c.state).order_by(alert_outbox.c.seq))
            return [(row.op, row.state) for row in rows]
