"""What the fault knobs decide about one sync, for every executor alike.

Belongs here: reading the knobs that name a connection. Does not belong here: carrying the decision out.
"""

from __future__ import annotations

from adinsights_orchestration.local.airbyte.model import FailureReason, FailureType, Job
from adinsights_orchestration.local.knobs import KnobArea


def forced_failure(knobs: KnobArea, job: Job) -> FailureReason | None:
    """The failure that `fail_connection` holds for the job's connection."""
    told = knobs.get("fail_connection").get(str(job.connection_id))
    if told is None:
        return None
    return FailureReason(
        origin=told.get("failureOrigin", "source"),
        type=FailureType(told.get("failureType", FailureType.SYSTEM_ERROR)),
        external_message=told.get("externalMessage", "Something went wrong in the connector."),
        internal_message=told.get("internalMessage", ""),
    )


def schema_breaks(knobs: KnobArea, job: Job) -> bool:
    """Whether this very sync discovers a breaking change; asked once, since the change is discovered once."""
    return knobs.take_item("schema_break", str(job.connection_id))


def stays_empty(knobs: KnobArea, job: Job) -> bool:
    """Whether the job succeeds without a record."""
    return str(job.connection_id) in knobs.get("empty_connection")
