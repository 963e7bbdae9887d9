"""The ops store as the other domains leave it, evaluated and delivered to a channel in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.alerting.channels.sinks import Sinks
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.evaluation.evaluate import Evaluation
from adinsights_orchestration.alerting.gathering.standing import Standing
from adinsights_orchestration.alerting.message import plain_text
from adinsights_orchestration.alerting.running.alerter import build_alerter, default_policies, evaluate_once
from adinsights_orchestration.alerting.running.automation import build_alerting
from adinsights_orchestration.clock import Clock, TickClock
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import component_health, connection_freshness, cursor, sync_job
from adinsights_orchestration.settings import Settings
from tests.alerting.channel import Channel
from tests.alerting.support import NOON

PRODUCTION = Settings(environment=Environment.PRODUCTION)
SLA = load_sla(Environment.PRODUCTION)
MINUTE = timedelta(minutes=1)


class Plant:
    """The ops store as the other domains leave it, evaluated and delivered."""

    def __init__(self, store: OpsStore, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.store, self.now, self.channel = store, NOON, Channel()
        self.sinks = Sinks({"main": self.channel}, ("main",))
        self.policies = default_policies(self.sinks)
        self.standing: Standing | None = Standing()
        self._mark, self.marks = uuid4().hex, True

    def connection(self, key: str, state: str, provider: str = "meta", tenant: UUID | None = None, **more: Any) -> None:
        row: dict[str, Any] = {
            "partition_key": key,
            "provider": provider,
            "tenant_id": tenant or uuid4(),
            "state": state,
            "detail": f"{key} is {state}",
            "since": self.now,
            "expected_since": NOON,
            "expectation": "x",
            "deadline": self.now,
            "evaluated_at": self.now,
            **more,
        }
        self.forget(key)
        with self.store.begin() as connection:
            connection.execute(sa.insert(connection_freshness).values(row))

    def forget(self, key: str) -> None:
        """Freshness drops a connection, and says that its rows are others now."""
        self._mark = uuid4().hex
        with self.store.begin() as connection:
            connection.execute(sa.delete(connection_freshness).where(connection_freshness.c.partition_key == key))

    def failed_sync(self, number: int, observed_at: datetime) -> None:
        row: dict[str, Any] = {"job_id": number, "connection_id": UUID(int=1), "partition_key": "acme-meta"}
        row |= {"provider": "meta", "tenant_id": UUID(int=1), "job_type": "sync", "status": "failed"}
        row |= {"started_by": "external", "started_at": observed_at - MINUTE, "ended_at": observed_at}
        row |= {"first_observed_at": observed_at, "observed_at": observed_at}
        with self.store.begin() as connection:
            connection.execute(sa.insert(sync_job).values(row))

    def component(self, name: str, health: str, state: str = "x", *, last_ok_at: datetime | None = None) -> None:
        row: dict[str, Any] = {"component": name, "health": health, "state": state, "detail": "it says so", "facts": {}}
        row |= {"since": self.now, "checked_at": self.now, "last_ok_at": last_ok_at}
        with self.store.begin() as connection:
            connection.execute(sa.delete(component_health).where(component_health.c.component == name))
            connection.execute(sa.insert(component_health).values(row))

    def tick(self, after: timedelta = MINUTE, *, evaluated: bool = True, probed: bool = True) -> Evaluation:
        self.now += after
        if evaluated:
            self.judge()
        with self.store.begin() as connection:
            if probed:
                connection.execute(sa.update(component_health).values(checked_at=self.now))
        done = evaluate_once(PRODUCTION, self.store, SLA, self.policies, self.now, self.instance, self.standing)
        self.deliver()
        return done

    def judge(self) -> None:
        """Freshness says up to when it looked, and whether its rows are others now."""
        value = {"read_at": self.now.isoformat(), "snapshot_id": 1, "rules": "x"}
        value |= {"mark": self._mark} if self.marks else {}
        with self.store.begin() as connection:
            connection.execute(sa.delete(cursor).where(cursor.c.name == "freshness"))
            connection.execute(sa.insert(cursor).values(name="freshness", value=value, updated_at=self.now))

    def deliver(self) -> None:
        self.channel.advance(self.now)
        deliver.run(self.store, self.sinks, TickClock(self.now, 40.0, lambda: 0.0))

    def shown(self) -> dict[str, str]:
        return {each.message.group: plain_text(each.message) for each in self.channel.posts}


def alerting_of(settings: Settings, store: OpsStore, sinks: Sinks, clock: Clock) -> dg.Definitions:
    """Alerting as a code location has it, with sinks of a test."""
    return build_alerting(settings, store, build_alerter(settings, store, sinks=sinks, clock=clock), clock=clock)
