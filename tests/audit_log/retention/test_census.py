"""What a census makes of its rows, without a table."""

from __future__ import annotations

from datetime import date

import pytest

from adinsights_orchestration.audit_log.retention.census import Census
from adinsights_orchestration.audit_log.source import NOBODY


def test_days_without_rows_are_named_between_the_oldest_and_the_newest() -> None:
    census = Census({(NOBODY, date(2026, 3, 1)): 2, (NOBODY, date(2026, 3, 3)): 1})
    assert census.per_day() == {date(2026, 3, 1): 2, date(2026, 3, 2): 0, date(2026, 3, 3): 1}
    assert Census({}).per_day() == {}


@pytest.mark.parametrize("stray", [date(1, 1, 1), date(9999, 12, 31)])
def test_a_stray_row_far_away_does_not_make_a_million_days_of_them(stray: date) -> None:
    census = Census({(NOBODY, stray): 1, (NOBODY, date(2026, 3, 3)): 1})
    assert census.per_day() == {stray: 1, date(2026, 3, 3): 1}
