"""Schedules, moments and connections for tests of slots and of what follows from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import strategies as st

from adinsights_orchestration.tenants.model import Connection, Provider, Schedule, ScheduleType, Tenant

JAMAICA, LONDON, NEW_YORK = "America/Jamaica", "Europe/London", "America/New_York"
NOW = datetime(2026, 11, 23, 14, 37, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hourly(interval: timedelta = HOUR) -> Schedule:
    return Schedule(ScheduleType.INTERVAL, interval=interval)


def cron(expression: str) -> Schedule:
    return Schedule(ScheduleType.CRON, cron=expression)


def tenant(timezone: str = JAMAICA) -> Tenant:
    return Tenant(id=uuid4(), name="Acme", slug="acme", timezone=timezone)


def connection(schedule: Schedule, /, **overrides: object) -> Connection:
    values: dict[str, object] = {
        "row_id": uuid4(),
        "tenant_id": uuid4(),
        "provider": Provider.META,
        "name": "Meta",
        "connection_id": UUID("1f0c2a9b-0000-4000-8000-000000000001"),
        "schedule": schedule,
    }
    return Connection(**{**values, **overrides})  # type: ignore[arg-type]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


EXPRESSIONS = (
    "0 6-22 * * *",
    "15 2 * * *",
    "*/15 * * * *",
    "30 1 * * *",
    "30 2 * * *",
    "0 * * * *",
    "5 0 * * 1",
    "0 12 1 * *",
    "0 0 L * *",
    "0 0/30 1-3 * * ?",
    "0 0 9 ? * MON-FRI",
    "20 15 10 ? * 6L",
    "0 15 10 ? * 6#3",
    "0 0 22-2 * * ?",
    "0 30 2 * * ? 2024-2029",
)
ZONES = (JAMAICA, LONDON, NEW_YORK, "Australia/Lord_Howe", "UTC", "Asia/Kathmandu")
MOMENTS = st.timedeltas(timedelta(), timedelta(days=730)).map(lambda passed: utc("2026-01-01T00:00") + passed)
NEAR_A_CHANGE = st.sampled_from(
    [utc("2026-03-29T01:00"), utc("2026-10-25T01:00"), utc("2026-03-08T07:00"), utc("2026-11-01T06:00")]
).flatmap(lambda moment: st.timedeltas(-3 * HOUR, 3 * HOUR).map(lambda shift: moment + shift))
