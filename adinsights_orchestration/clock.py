"""The clock that decisions are given.

Every function that depends on the time takes a `Clock` or a moment; only process entry points use `utc_now`. Tests pass
their own. All moments in the project are timezone-aware; naive ones are a defect.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Returns the current moment in UTC."""
    return datetime.now(UTC)
