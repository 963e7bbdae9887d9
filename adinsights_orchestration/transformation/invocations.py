"""The rows that builds leave in the ops store: each dbt command, the newest result of each node, what is covered.

Belongs here: reading and writing these rows. Does not belong here: what results mean (`run_results`) and who is told
(`publishing`). A build writes everything about itself in one transaction when it ends. *Coverage* says up to which
materialization of a provider's asset the marts hold its data; only a build that brought it all the way moves it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor, dbt_invocation, dbt_model_result
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.full_refresh import Held
from adinsights_orchestration.transformation.run_results import Artifact, NodeResult, PublishedBuild, merged

RESULTS_LOCK = "dbt:results"
_COVERAGE = "dbt:coverage"


@dataclass(frozen=True, slots=True)
class Ended:
    """How one dbt command ended.

    Args:
        invocation_id: dbt's own id.
        run_id: The Dagster run, or what else started it.
        command: The command line, for people.
        full_refresh: Whether it rebuilt incremental models.
        started_at: When dbt reported in.
        ended_at: When it was over.
        completed: Whether dbt came to its own end and wrote its results.
        succeeded: Whether nothing failed, in this command or an earlier one of the same build.
        artifact: The results; partial ones of a build that was stopped are kept too.
        covered: Coverage that this build reached.
    """

    invocation_id: str
    run_id: str
    command: str
    full_refresh: bool
    started_at: datetime
    ended_at: datetime
    completed: bool = False
    succeeded: bool = False
    artifact: Artifact | None = None
    covered: Mapping[Provider, int] = field(default_factory=dict)


def record_start(
    store: OpsStore, invocation_id: str, run_id: str, command: str, full_refresh: bool, at: datetime
) -> None:
    """Writes the row of a dbt command that has begun; if nobody ever ends it, it stays as not completed."""
    with store.begin() as connection:
        begun = Ended(invocation_id, run_id, command, full_refresh, at, at)
        connection.execute(insert(dbt_invocation).values(_row(begun)).on_conflict_do_nothing())


def record_end(store: OpsStore, ended: Ended, nodes: Collection[str]) -> None:
    """Writes how a dbt command ended, merges its results and moves coverage, in one transaction.

    Args:
        store: The ops store.
        ended: How it ended.
        nodes: The project's nodes; results of others are forgotten.
    """
    with store.begin() as connection:
        lock_results(connection)
        row = _row(ended)
        upsert = insert(dbt_invocation).values(row)
        connection.execute(upsert.on_conflict_do_update(index_elements=["invocation_id"], set_=row))
        if ended.artifact is not None:
            _merge_nodes(connection, ended.artifact, nodes)
        if ended.covered:
            _move_coverage(connection, ended.covered, ended.ended_at)


def lock_results(connection: sa.Connection) -> None:
    """Keeps others from changing or publishing results until this transaction ends."""
    key = sa.func.hashtextextended(RESULTS_LOCK, 0)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def node_results(connection: sa.Connection) -> dict[str, NodeResult]:
    """Returns the newest result of every node."""
    rows = connection.execute(sa.select(dbt_model_result)).mappings()
    return {row["unique_id"]: NodeResult(**row) for row in rows}


def latest_build(connection: sa.Connection) -> PublishedBuild | None:
    """Returns the command that completed last among those that ran any model; None before the first."""
    row = connection.execute(
        sa.select(dbt_invocation.c.artifact, dbt_invocation.c.elapsed_seconds)
        .where(dbt_invocation.c.completed, dbt_invocation.c.models > 0)
        .order_by(dbt_invocation.c.generated_at.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else PublishedBuild(row.artifact, row.elapsed_seconds)


def coverage(store: OpsStore) -> dict[Provider, int]:
    """Returns, per provider, how far the marts hold its data, as `newest` counts."""
    with store.begin() as connection:
        return _coverage(connection)


def node_statuses(store: OpsStore) -> dict[str, str]:
    """Returns the newest status of every node that any build has a result of."""
    with store.begin() as connection:
        rows = connection.execute(sa.select(dbt_model_result.c.unique_id, dbt_model_result.c.status))
        return {row.unique_id: row.status for row in rows}


def held(store: OpsStore) -> Held:
    """Returns of which providers the marts may hold rows."""
    with store.begin() as connection:
        built = connection.execute(
            sa.select(dbt_model_result.c.unique_id).where(dbt_model_result.c.built_at.is_not(None))
        )
        return Held(_coverage(connection).keys(), {row.unique_id for row in built})


def _coverage(connection: sa.Connection) -> dict[Provider, int]:
    value = connection.execute(sa.select(cursor.c.value).where(cursor.c.name == _COVERAGE)).scalar_one_or_none()
    return {Provider(name): int(storage_id) for name, storage_id in (value or {}).items()}


def _move_coverage(connection: sa.Connection, covered: Mapping[Provider, int], at: datetime) -> None:
    value = {str(provider): storage_id for provider, storage_id in {**_coverage(connection), **covered}.items()}
    keep_cursor(connection, _COVERAGE, value, at)


def _merge_nodes(connection: sa.Connection, artifact: Artifact, nodes: Collection[str]) -> None:
    known = node_results(connection)
    for new in artifact.nodes:
        if new.unique_id in nodes and merged(known.get(new.unique_id), new) is new:
            row = {column.name: getattr(new, column.name) for column in dbt_model_result.columns}
            if new.built_at is None and new.unique_id in known:
                row["built_at"] = known[new.unique_id].built_at
            upsert = insert(dbt_model_result).values(row)
            connection.execute(upsert.on_conflict_do_update(index_elements=["unique_id"], set_=row))
    gone = known.keys() - set(nodes)
    if gone:
        connection.execute(sa.delete(dbt_model_result).where(dbt_model_result.c.unique_id.in_(gone)))


def _row(ended: Ended) -> dict[str, Any]:
    artifact = ended.artifact
    return {
        "invocation_id": ended.invocation_id,
        "run_id": ended.run_id,
        "command": ended.command,
        "full_refresh": ended.full_refresh,
        "completed": ended.completed,
        "succeeded": ended.succeeded,
        "generated_at": artifact.generated_at if artifact else ended.ended_at,
        "started_at": ended.started_at,
        "elapsed_seconds": artifact.elapsed_seconds
        if artifact
        else (ended.ended_at - ended.started_at).total_seconds(),
        "models": artifact.models_run if artifact else 0,
        "artifact": dict(artifact.metadata) if artifact else None,
    }
