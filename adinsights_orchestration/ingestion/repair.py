"""What on-call does besides syncing: read all history again, clear it, approve a changed schema.

Belongs here: for each, a plan that changes nothing and says what would happen, and its execution with an audit row.
Does not belong here: the Dagster jobs and commands that ask for them. A plan is a value that people read first and that
is then carried out as read: it has a digest, and what has changed since is a refusal, not a surprise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi, AirbyteConnectionRead
from adinsights_orchestration.ingestion.airbyte_errors import AirbyteError
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobType
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ingestion.manual import SCHEMA_APPROVED, audit
from adinsights_orchestration.ingestion.outcomes import Progress, SyncOutcome
from adinsights_orchestration.ingestion.schema_change import (
    Adapted,
    SchemaDiff,
    adapted,
    difference,
    digest,
    read_digest,
    selected_streams,
)
from adinsights_orchestration.ingestion.wait import POLL_SECONDS, sync_and_wait
from adinsights_orchestration.plan_digest import plan_digest, require
from adinsights_orchestration.tenants.model import Connection

_T = TypeVar("_T")


class RepairError(AdinsightsError):
    """A repair that cannot be carried out."""


class Repair(StrEnum):
    """What is done to history."""

    REFRESH = "refresh"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """What a repair would do to one connection.

    Attributes:
        connection: Which one.
        streams: What it reads.
        does: The steps, for people.
        warnings: What else a person should know.
        obstacle: Why it cannot be done, or empty.
        reads: Names how it reads them: their fields, modes, cursors and keys.
    """

    connection: Connection
    streams: tuple[str, ...]
    does: tuple[str, ...]
    warnings: tuple[str, ...]
    obstacle: str = ""
    reads: str = ""


@dataclass(frozen=True, slots=True)
class HistoryPlan:
    """A full refresh or a clear of some connections. `native_refresh`: the server can refresh by itself."""

    repair: Repair
    steps: tuple[HistoryStep, ...]
    native_refresh: bool

    @property
    def possible(self) -> tuple[Connection, ...]:
        """The connections for which nothing stands in the way."""
        return tuple(step.connection for step in self.steps if not step.obstacle)

    @property
    def executable(self) -> bool:
        """Whether there is anything to carry out."""
        return bool(self.possible)

    @property
    def digest(self) -> str:
        """Names everything that carrying the plan out would do."""
        steps = [
            (str(step.connection.connection_id), step.connection.partition_key, step.reads, step.does, step.obstacle)
            for step in self.steps
        ]
        return plan_digest(self.repair, self.native_refresh, steps)

    def describe(self) -> str:
        """The plan for people: a paragraph per connection."""
        return "\n".join(_described(self.repair, step) for step in self.steps)


@dataclass(frozen=True, slots=True)
class SchemaPlan:
    """The approval of a changed schema of one connection.

    Attributes:
        connection: Which one.
        status: Its status in Airbyte now, with the reason where it is not active.
        diff: What changed.
        adapted: The catalog that would be applied.
        catalog_id: Airbyte's id of the discovery.
    """

    connection: Connection
    status: str
    diff: SchemaDiff
    adapted: Adapted
    catalog_id: str | None

    @property
    def obstacle(self) -> str:
        """Why it cannot be approved from here, or empty."""
        return "; ".join(self.adapted.problems)

    @property
    def needed(self) -> bool:
        """Whether approving would change anything."""
        return not self.diff.empty or self.status != "active"

    @property
    def executable(self) -> bool:
        """Whether there is anything to carry out, and nothing stands in the way."""
        return self.needed and not self.obstacle

    @property
    def digest(self) -> str:
        """Names everything that approving would do. Airbyte's id of the discovery is no part: its content is."""
        connection, catalog = self.connection, digest(self.adapted.catalog)
        where = (str(connection.connection_id), connection.partition_key)
        return plan_digest("schema", where, self.status, self.diff.describe(), catalog, self.adapted.problems)

    def describe(self) -> str:
        """The plan for people."""
        lines = [f"{self.connection.partition_key}: {self.status} in Airbyte", self.diff.describe()]
        lines += [f"chosen anew: {choice}" for choice in self.adapted.choices]
        if self.obstacle:
            lines.append(f"cannot be approved from here: {self.obstacle}")
        elif self.needed:
            lines.append("would apply this and switch the connection on; no rows are cleared, the next sync reads on")
        return "\n".join(lines)


def plan_history(deps: Deps, connections: Sequence[Connection], repair: Repair) -> HistoryPlan:
    """Says what a full refresh or a clear would do; changes nothing.

    Raises:
        AirbyteError: Airbyte does not answer.
    """

    async def look(api: AirbyteApi) -> HistoryPlan:
        native = repair is Repair.REFRESH and await api.has_refresh()
        steps = [await _history_step(api, one, repair, native=native) for one in connections]
        return HistoryPlan(repair, tuple(steps), native)

    return _with_api(deps, look)


def carry_out_history(
    deps: Deps,
    plan: HistoryPlan,
    *,
    run_id: str,
    requested_by: str,
    progress: Callable[[Progress], None] | None = None,
    clock: Clock = utc_now,
    poll_seconds: float = POLL_SECONDS,
) -> Iterator[SyncOutcome]:
    """Carries a plan out and yields an outcome per connection that nothing stands in the way of.

    A refresh is Airbyte's own where it has one: old rows stay until the new ones are there. Where it has none, history
    is cleared and read again, and a connection whose clear failed is not read.
    """

    def run(connections: Sequence[Connection], job_type: JobType) -> Iterator[SyncOutcome]:
        return sync_and_wait(
            deps,
            connections,
            run_id=run_id,
            requested_by=requested_by,
            job_type=job_type,
            progress=progress,
            clock=clock,
            poll_seconds=poll_seconds,
        )

    if plan.repair is Repair.CLEAR:
        yield from run(plan.possible, JobType.CLEAR)
    elif plan.native_refresh:
        yield from run(plan.possible, JobType.REFRESH)
    else:
        cleared: list[Connection] = []
        for outcome in run(plan.possible, JobType.CLEAR):
            if outcome.succeeded:
                cleared.append(outcome.connection)
            else:
                yield outcome
        yield from run(cleared, JobType.SYNC)


def plan_schema_change(deps: Deps, connection: Connection) -> SchemaPlan:
    """Asks the source what it offers now and says what approving that would do; changes nothing.

    Raises:
        AirbyteError: Airbyte or the source does not answer.
    """

    async def look(api: AirbyteApi) -> SchemaPlan:
        return await _schema_plan(api, connection)

    return _with_api(deps, look)


def approve_schema_change(
    deps: Deps, plan: SchemaPlan, *, run_id: str, requested_by: str, clock: Clock = utc_now
) -> SchemaPlan:
    """Applies a planned schema change and switches the connection on; returns the plan as it would be now.

    Raises:
        RepairError: Something stands in the way.
        PlanChangedError: The plan is not what it was.
        AirbyteError: Airbyte does not answer; approving again is safe.
    """
    if plan.obstacle:
        raise RepairError(plan.obstacle, place=plan.connection.partition_key, next_step="Then plan the approval again.")

    async def apply(api: AirbyteApi) -> SchemaPlan:
        now_planned = await _schema_plan(api, plan.connection)
        require(now_planned.digest, plan.digest, place=plan.connection.partition_key)
        _note_approval(deps, plan, run_id, requested_by, clock)
        await api.apply_catalog(plan.connection.connection_id, plan.adapted.catalog, plan.catalog_id)
        return await _schema_plan(api, plan.connection)

    after = _with_api(deps, apply)
    if after.needed:
        raise RepairError(
            f"Airbyte took the schema, but the connection is {after.status} with differences left",
            place=plan.connection.partition_key,
            next_step="Look at the connection's schema page in Airbyte.",
        )
    return after


def _note_approval(deps: Deps, plan: SchemaPlan, run_id: str, requested_by: str, clock: Clock) -> None:
    """On record before anything changes: an approval that nobody can prove must not exist."""
    with deps.store.begin() as connection:
        audit(connection, plan.connection, SCHEMA_APPROVED, "schema", run_id=run_id, actor=requested_by, now=clock())


async def _history_step(api: AirbyteApi, connection: Connection, repair: Repair, *, native: bool) -> HistoryStep:
    running = await api.running_job(connection.connection_id)
    try:
        read = await api.connection(connection.connection_id)
    except AirbyteError as error:
        return HistoryStep(connection, (), (), (), obstacle=f"its catalog cannot be read: {error}")
    obstacle = "" if read.status == "active" else f"it is {_status(read)} in Airbyte"
    return HistoryStep(
        connection,
        selected_streams(read.catalog),
        _does(repair, native=native),
        _warnings(repair, native, running),
        obstacle,
        read_digest(read.catalog),
    )


def _does(repair: Repair, *, native: bool) -> tuple[str, ...]:
    if repair is Repair.CLEAR:
        return ("delete all its rows in the warehouse and forget how far it has read",)
    if native:
        return ("read all history again; the old rows stay until the new ones are there",)
    return ("delete all its rows in the warehouse", "read all history again")


def _warnings(repair: Repair, native: bool, running: AirbyteJob | None) -> tuple[str, ...]:
    warnings = []
    if running is not None:
        warnings.append(f"job {running.job_id} ({running.type}) runs now and is let end first")
    if repair is Repair.CLEAR:
        warnings.append(
            "dashboards show nothing of it from the next build on, until a sync has run; platforms keep limited history"
        )
    elif not native:
        warnings.append("this server cannot refresh: dashboards show nothing of it until the sync is over")
    return tuple(warnings)


async def _schema_plan(api: AirbyteApi, connection: Connection) -> SchemaPlan:
    configured = await api.connection(connection.connection_id)
    offered = await api.connection(connection.connection_id, rediscover=True)
    return SchemaPlan(
        connection=connection,
        status=_status(configured),
        diff=difference(configured.catalog, offered.catalog),
        adapted=adapted(configured.catalog, offered.catalog),
        catalog_id=offered.catalog_id,
    )


def _status(read: AirbyteConnectionRead) -> str:
    return f"{read.status} ({read.status_reason})" if read.status_reason else read.status


def _described(repair: Repair, step: HistoryStep) -> str:
    lines = [f"{step.connection.partition_key}: {repair} of {len(step.streams)} streams ({', '.join(step.streams)})"]
    if step.obstacle:
        return f"{step.connection.partition_key}: cannot be done, {step.obstacle}"
    lines += [f"  {number}. {does}" for number, does in enumerate(step.does, start=1)]
    lines += [f"  note: {warning}" for warning in step.warnings]
    return "\n".join(lines)


def _with_api(deps: Deps, work: Callable[[AirbyteApi], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        async with deps.api() as api:
            api.hurry()  # a person waits, and can ask again
            return await work(api)

    return asyncio.run(run())
