"""Moments and durations as a Java server writes them, and as it reads them.

Belongs here: text forms only. A job's moments have whole seconds; `OffsetDateTime.toString` leaves out seconds that
are zero, so about one reply in sixty has a form that a strict parser refuses.
"""

from __future__ import annotations

from datetime import UTC, datetime


def offset_text(moment: datetime) -> str:
    """`2026-11-23T03:00:07Z`, and `2026-11-23T03:00Z` at a full minute."""
    moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if moment.second else "%Y-%m-%dT%H:%MZ")


def duration_text(seconds: int) -> str:
    """`PT1H2M3S`, without parts that are zero; `PT0S` for nothing."""
    if seconds == 0:
        return "PT0S"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((hours, "H"), (minutes, "M"), (rest, "S"))
    return "PT" + "".join(f"{amount}{unit}" for amount, unit in parts if amount)


def epoch(moment: datetime) -> int:
    """Whole seconds since 1970, as the configuration API tells moments."""
    return int(moment.timestamp())


def parse_offset(text: str) -> datetime:
    """Reads an ISO 8601 moment with an offset; `ValueError` for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the moment has no offset")
    return moment
