"""Which connections a person may sync, refresh, clear, or approve a schema of: one rule, whichever way they ask.

Belongs here: that rule, with the reason that people are given. Does not belong here: what is due by itself
(`Connection.standing`, `ingestion.due`), what stands in the way in Airbyte (`ingestion.repair`).
"""

from __future__ import annotations

from collections.abc import Sequence

from adinsights_orchestration.tenants.model import Connection, Standing

UNKNOWN = "no connection has this partition; `adinsights connections` lists them"
# A tenant that paused a connection wants nothing read from its account, an approval would switch it on in Airbyte, and
# what a clear deletes could not be read again. The Airbyte connection of a retired one may be another's by now, whose
# rows a clear would delete.
_REFUSED = {
    Standing.PAUSED: "the connection is paused: activate it in the backend first",
    Standing.RETIRED: (
        "the connection is retired: the registry serves it no more, and its Airbyte connection may be another's now; "
        "`adinsights connections` lists those that are served"
    ),
}


def refusal(connection: Connection | None) -> str | None:
    """Returns why nobody may do anything with it by hand, None where they may; a connection that is none is unknown.

    One that is only misconfigured, or has no schedule, is synced by hand: a person wants exactly that.
    """
    return UNKNOWN if connection is None else _REFUSED.get(connection.standing)


def parted(connections: Sequence[Connection]) -> tuple[tuple[Connection, ...], tuple[Connection, ...]]:
    """Returns those that people may sync, and the others."""
    allowed = tuple(each for each in connections if refusal(each) is None)
    return allowed, tuple(each for each in connections if refusal(each) is not None)
