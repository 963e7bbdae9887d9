"""What a night reads back of the archive."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from adinsights_orchestration.audit_log.archive.turns import read_back
from adinsights_orchestration.audit_log.model import Chunk, Digest

TODAY = date(2026, 11, 28)
CLOSED = TODAY - timedelta(days=1)


def chunk(tenant: int, day: date, period: str) -> Chunk:
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    key = f"audit/v1/accounts_auditlog/tenant_id={UUID(int=tenant)}/dt={period}/0.parquet"
    return Chunk(UUID(int=tenant), day, 1, 1, 1, Digest(), moment, moment, (key,))


def test_the_newest_days_are_read_back_every_night_and_older_ones_once_in_thirty() -> None:
    days = [CLOSED - timedelta(days=age) for age in range(400)]
    nights = [read_back(TODAY + timedelta(days=number), CLOSED) for number in range(30)]
    read = {day: sum(night(chunk(1, day, str(day))) for night in nights) for day in days}
    assert {read[day] for day in days[:7]} == {30}
    assert {read[day] for day in days[7:]} == {1}


def test_a_month_in_one_is_read_back_in_one_night_of_thirty_and_tenants_are_spread_over_them() -> None:
    days = [date(2025, 5, day) for day in range(1, 32)]
    busy = set()
    for tenant in range(200):
        which = [
            number
            for number in range(30)
            if any(read_back(TODAY + timedelta(days=number), CLOSED)(chunk(tenant, day, "2025-05")) for day in days)
        ]
        assert len(which) == 1
        busy.update(which)
    assert len(busy) > 20
