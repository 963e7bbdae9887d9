"""What tells whether anything was written into the ops store since facts were read last, in one statement.

Belongs here: marks of everything that `reading` reads, and nothing else. Does not belong here: facts. A mark differs
whenever a row that facts are made of was added, changed or deleted, and in whatever order transactions commit. Where
tables are small it is a digest of their rows. Of jobs it is the number and the sum of the stamps of late, for a row is
stamped at most a tick's time before it is committed: changes that cancel each other out to the microsecond would be
missed, until everything is read anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.freshness.states import CURSOR, Place, as_place

STAMPED_BEFORE = timedelta(minutes=10)  # far more than between a stamp and its commit
_STATEMENT = sa.text("""
select
    (select value from adinsights_ops.cursor where name = :freshness) as freshness,
    (select coalesce(max(id), 0) from adinsights_ops.topology) as topology,
    (select snapshot_id from adinsights_ops.registry_status) as registry,
    (select md5(string_agg(cast(row as text), '|' order by component))
     from adinsights_ops.component_health as row) as components,
    (select md5(string_agg(cast(row as text), '|' order by id))
     from adinsights_ops.finding as row where cleared_at is null) as findings,
    (select md5(string_agg(cast(row as text), '|' order by invocation_id))
     from (select invocation_id, completed, models, generated_at from adinsights_ops.dbt_invocation
           order by generated_at desc limit :builds) as row) as builds,
    (select concat(count(*), ' ', sum(extract(epoch from observed_at)))
     from adinsights_ops.sync_job where observed_at > :lately) as jobs
""")
_BUILDS = 50  # newest; an older one does not change any more


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of one moment.

    Attributes:
        freshness: Where the evaluation of freshness stands; None before the first.
        topology: The number of the newest topology, 0 where there is none.
        components: What differs where a component's row does, as it does with every probe.
        content: What differs where any other row differs; empty where that is not known.
    """

    freshness: Place | None
    topology: int
    components: str | None
    content: Sequence[object]


def read(connection: sa.Connection, now: datetime) -> Marks:
    """Returns the marks; each belongs to what was committed by now, or later."""
    parameters = {"freshness": CURSOR, "builds": _BUILDS, "lately": now - STAMPED_BEFORE}
    row = connection.execute(_STATEMENT, parameters).one()
    place = as_place(row.freshness) if row.freshness is not None else None
    of_freshness = place.mark if place else "none"
    content = (of_freshness, row.registry, row.findings, row.builds, row.jobs)
    return Marks(place, row.topology, row.components, content if of_freshness else ())
