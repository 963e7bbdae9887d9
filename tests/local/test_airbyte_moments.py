"""Text forms of a Java server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from adinsights_orchestration.local.airbyte.moments import duration_text, offset_text, parse_offset


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 23, 3, 0, 7, tzinfo=UTC), "2026-11-23T03:00:07Z"),
        (datetime(2026, 11, 23, 3, 0, 0, tzinfo=UTC), "2026-11-23T03:00Z"),
        (datetime(2026, 11, 23, 3, 0, 0, 400, tzinfo=timezone(timedelta(hours=-5))), "2026-11-23T08:00Z"),
    ],
)
def test_a_full_minute_has_no_seconds(moment: datetime, text: str) -> None:
    assert offset_text(moment) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "PT0S"), (7, "PT7S"), (60, "PT1M"), (3600, "PT1H"), (90061, "PT25H1M1S")]
)
def test_durations_leave_out_parts_that_are_zero(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_moment_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        parse_offset("2026-11-23T03:00:07")
    assert parse_offset("2026-11-23T03:00Z") == datetime(2026, 11, 23, 3, tzinfo=UTC)
