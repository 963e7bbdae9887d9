"""Whether Dagster's own Postgres answers, found out in seconds by one connection.

Belongs here: the variables that `dagster.yaml` names, and that attempt. Does not belong here: what follows from it.
Dagster itself tries for a quarter of a minute and longer, and writes a warning each time: whoever needs it for a moment
looks here first.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIABLES = ("DAGSTER_PG_HOST", "DAGSTER_PG_PORT", "DAGSTER_PG_USER", "DAGSTER_PG_PASSWORD", "DAGSTER_PG_DB")


def storage_problem(environment: Mapping[str, str], connect_seconds: int) -> str | None:
    """Why Dagster's Postgres does not answer; None when it does, or is none of ours."""
    values = [environment.get(name) for name in VARIABLES]
    if not all(values):
        return None
    import psycopg

    host, port, user, password, dbname = values
    try:
        with psycopg.connect(
            host=host, port=port, user=user, password=password, dbname=dbname, connect_timeout=connect_seconds
        ):
            return None
    except psycopg.Error as error:
        return next(iter(str(error).strip().splitlines()), "no answer")
