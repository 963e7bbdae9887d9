"""A registry and a ledger in an ops store, with a clock, for tests of evaluations over time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import sqlalchemy as sa

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness import states, tick
from adinsights_orchestration.freshness.model import ConnectionState, Freshness
from adinsights_orchestration.freshness.sla import SlaTable, load_sla
from adinsights_orchestration.freshness.tick import Evaluation
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import partition_key, sync_job
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from adinsights_orchestration.tenants.nights import Nightly

SPACE = UUID("5a0e8a52-0000-4000-8000-000000000000")
START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)  # 08:00 in Jamaica
ACME = Tenant(uuid5(SPACE, "acme"), "Acme", "acme")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
HOURLY = Schedule(ScheduleType.INTERVAL, interval=HOUR)
WORKDAY = Schedule(ScheduleType.CRON, cron="0 6-22 * * *")
_ids = itertools.count(1)


def connection(name: str, provider: Provider = Provider.META, schedule: Schedule = WORKDAY) -> Connection:
    """An active connection of Acme whose ids follow from its name."""
    row = uuid5(SPACE, f"{provider}/{name}")
    return Connection(row, ACME.id, provider, name, row, schedule, partition_key=f"acme/{name}-{str(row)[:8]}")


@dataclass
class World:
    """An ops store over time."""

    store: OpsStore
    now: datetime = START
    connections: list[Connection] = field(default_factory=list)
    tenants: tuple[Tenant, ...] = (ACME,)
    sla: SlaTable = field(default_factory=lambda: load_sla(Environment.PRODUCTION))
    nights: Nightly | None = None

    def clock(self) -> datetime:
        """Now."""
        return self.now

    def serve(self, *connections: Connection, seen_at: datetime | None = None) -> None:
        """Makes these the registry's connections."""
        self.connections = list(connections)
        registry = Registry(self.tenants, tuple(connections), "test", self.now)
        with self.store.begin() as transaction:
            for one in connections:
                known = transaction.execute(
                    sa.select(partition_key.c.key).where(partition_key.c.key == one.partition_key)
                )
                if known.first() is None:
                    self._see(transaction, one, seen_at or self.now)
            last = registry_store.last_snapshot(self.store, transaction)
            snapshot = registry_store.write_snapshot(transaction, str(next(_ids)), registry, last)
            registry_store.write_success(transaction, snapshot, self.now)

    def change(self, one: Connection, **changes: object) -> Connection:
        """Serves the connection changed."""
        changed = replace(one, **changes)  # type: ignore[arg-type]
        self.serve(*(changed if each.row_id == one.row_id else each for each in self.connections))
        return changed

    def sync(
        self,
        of: Connection,
        status: str = "succeeded",
        *,
        ended: datetime | None = None,
        seconds: float = 120,
        observed: datetime | None = None,
        reported: bool = True,
        job_type: str = "sync",
    ) -> int:
        """Writes a job that is over into the ledger; by default it ended, was observed and was reported just now."""
        ended = ended or self.now
        observed = observed or self.now
        job_id = next(_ids)
        row = {
            **_row(of, job_id, status, job_type, ended - timedelta(seconds=seconds), observed),
            "ended_at": ended,
            "end_observed_at": observed,
            "duration_seconds": seconds,
            "failure_message": "the token was revoked" if status == "failed" else None,
            "report_state": "reported" if reported else "pending",
            "reported_at": observed if reported else None,
        }
        with self.store.begin() as transaction:
            transaction.execute(sa.insert(sync_job).values(row))
        return job_id

    def start(self, of: Connection, started: datetime | None = None) -> int:
        """Writes a job that runs into the ledger."""
        job_id = next(_ids)
        with self.store.begin() as transaction:
            row = _row(of, job_id, "running", "sync", started or self.now, self.now)
            transaction.execute(sa.insert(sync_job).values(row))
        return job_id

    def report(self, job_id: int) -> None:
        """Notes that Dagster was told of the job."""
        with self.store.begin() as transaction:
            told = {"report_state": "reported", "reported_at": self.now}
            transaction.execute(sa.update(sync_job).where(sync_job.c.job_id == job_id).values(told))

    def evaluate(self, after: timedelta = timedelta()) -> Evaluation:
        """Lets time pass and evaluates."""
        self.now += after
        return tick.run(self.store, self.sla, self.now, self.nights)

    def states(self) -> dict[str, ConnectionState]:
        """What is kept."""
        with self.store.begin() as transaction:
            return states.load_states(transaction)

    def state(self, of: Connection) -> Freshness:
        """The connection's state."""
        return self.states()[of.partition_key].verdict.state

    @staticmethod
    def _see(transaction: sa.Connection, one: Connection, at: datetime) -> None:
        row = {"key": one.partition_key, "provider": one.provider.value, "row_id": one.row_id}
        row |= {"tenant_id": one.tenant_id, "connection_name": one.name}
        transaction.execute(sa.insert(partition_key).values(**row, first_seen_at=at))


def became(evaluation: Evaluation) -> dict[str, Freshness]:
    """The evaluation's transitions, by partition."""
    return {each.after.facts.partition_key: each.after.verdict.state for each in evaluation.transitions}


def names(connections: Iterable[Connection]) -> list[str]:
    """The partition keys."""
    return [one.partition_key for one in connections]


def _row(
    of: Connection, job_id: int, status: str, job_type: str, started: datetime, observed: datetime
) -> dict[str, object]:
    return {
        "job_id": job_id,
        "connection_id": of.connection_id,
        "partition_key": of.partition_key,
        "provider": of.provider.value,
        "tenant_id": of.tenant_id,
        "job_type": job_type,
        "status": status,
        "started_by": "external",
        "started_at": started,
        "first_observed_at": observed,
        "observed_at": observed,
    }
