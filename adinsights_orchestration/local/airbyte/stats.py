"""A job's numbers, added up over its attempts.

Belongs here: sums. Airbyte counts what every attempt committed of an incremental stream, since each goes on where the
one before stopped; both APIs show these sums.
"""

from __future__ import annotations

from adinsights_orchestration.local.airbyte.model import Attempt, Job, StreamName, StreamStats

NOTHING = StreamStats(name="")


def added(one: StreamStats, other: StreamStats) -> StreamStats:
    """The sum, under the first one's name."""
    return StreamStats(
        one.name,
        one.namespace,
        one.records_emitted + other.records_emitted,
        one.bytes_emitted + other.bytes_emitted,
        one.records_committed + other.records_committed,
        one.bytes_committed + other.bytes_committed,
    )


def of_attempt(attempt: Attempt) -> StreamStats:
    """What one attempt moved, all streams together."""
    total = NOTHING
    for stream in attempt.streams:
        total = added(total, stream)
    return total


def by_stream(job: Job) -> tuple[StreamStats, ...]:
    """What the job moved of each stream."""
    sums: dict[StreamName, StreamStats] = {}
    for attempt in job.attempts:
        for stream in attempt.streams:
            name = StreamName(stream.name, stream.namespace)
            sums[name] = added(sums[name], stream) if name in sums else stream
    return tuple(sums.values())


def total(job: Job) -> StreamStats:
    """What the job moved, all streams together."""
    result = NOTHING
    for attempt in job.attempts:
        result = added(result, of_attempt(attempt))
    return result
