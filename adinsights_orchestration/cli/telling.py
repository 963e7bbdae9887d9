"""Telling Dagster what the command line did to the audit log, where Dagster is there to be told.

Belongs here: finding out in seconds whether it is, and saying so where not. Does not belong here: what it is told. What
was done is done whether or not Dagster knows of it, so nothing here fails a command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from adinsights_orchestration.cli import process
from adinsights_orchestration.clock import utc_now

if TYPE_CHECKING:
    import dagster as dg

_CONNECT_SECONDS = 5


def tell_dagster(tell: Callable[[dg.DagsterInstance], object], otherwise: str) -> None:
    """Calls with Dagster's instance, or says why not.

    Args:
        tell: What writes to the instance.
        otherwise: What follows where Dagster could not be told, as a sentence.
    """
    problem = _problem(tell)
    if problem is not None:
        process.say(f"Dagster was not told ({problem}). {otherwise}", style="yellow")


def tell_made(key: dg.AssetKey, metadata: Mapping[str, Any]) -> None:
    """Reports one materialization of an asset without partitions: what its own run does was done by hand."""
    from adinsights_orchestration.dagster_internals.events import Materialized, report_materializations

    item = Materialized(None, utc_now(), metadata)
    tell_dagster(
        lambda instance: report_materializations(instance, key, [item]),
        f"Its UI shows {key.to_user_string()} as it was before this, until the next run of its own.",
    )


def _problem(tell: Callable[[dg.DagsterInstance], object]) -> str | None:
    from adinsights_orchestration.dagster_storage import storage_problem

    if not os.environ.get("DAGSTER_HOME"):
        return "DAGSTER_HOME is not set"
    problem = storage_problem(os.environ, _CONNECT_SECONDS)
    if problem is not None:
        return problem
    import dagster as dg

    try:
        with dg.DagsterInstance.get() as instance:
            tell(instance)
    except Exception as error:  # noqa: BLE001  (whatever Dagster and its storage raise)
        return type(error).__name__
    return None
