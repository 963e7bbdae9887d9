"""Delays between attempts: base 2, jitter, bounds."""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.ingestion.retry import LONGEST_DELAY, RetryPolicy
from adinsights_orchestration.settings import IngestionSettings

PLAIN = RetryPolicy(jitter=0.0)


def test_delays_double_from_the_base_and_stop_growing() -> None:
    delays = [PLAIN.delay(failures, random.Random(1)).total_seconds() for failures in range(1, 8)]
    assert delays == [60, 120, 240, 480, 960, 960, 960]


def test_an_airbyte_that_refuses_for_weeks_is_asked_at_the_longest_delay_and_overflows_nothing() -> None:
    assert PLAIN.delay(5000, random.Random(1)) == LONGEST_DELAY
    assert RetryPolicy(base=timedelta(seconds=1258), jitter=0.0).delay(37, random.Random(1)).total_seconds() == 1258


def test_the_setting_names_the_longest_delay() -> None:
    minutes = int(LONGEST_DELAY.total_seconds() / 60)
    said = IngestionSettings.model_fields["retry_base_seconds"].description or ""
    assert f"up to {minutes} min, and stays as it is where it is longer" in said
    slow = RetryPolicy(base=timedelta(minutes=10), jitter=0.0)
    assert [slow.delay(failures, random.Random(1)) / LONGEST_DELAY for failures in (1, 2, 3)] == [10 / 16, 1, 1]
    slower = RetryPolicy(base=timedelta(minutes=30), jitter=0.0)
    assert {slower.delay(failures, random.Random(1)) for failures in (1, 2, 3)} == {timedelta(minutes=30)}


@given(st.integers(0, 2000), st.floats(0, 0.5), st.integers(0, 2**32), st.integers(1, 3600))
def test_jitter_stays_within_its_share_of_the_delay(failures: int, jitter: float, seed: int, base: int) -> None:
    policy = RetryPolicy(base=timedelta(seconds=base), jitter=jitter)
    plain = RetryPolicy(base=timedelta(seconds=base), jitter=0.0).delay(failures, random.Random(0))
    spread = policy.delay(failures, random.Random(seed)) - plain
    assert abs(spread) <= plain * jitter + timedelta(microseconds=1)
    assert plain <= max(LONGEST_DELAY, timedelta(seconds=base))


def test_connections_that_failed_together_do_not_come_back_together() -> None:
    rng = random.Random(3)
    assert len({RetryPolicy().delay(1, rng) for _ in range(50)}) == 50


def test_the_settings_say_when_and_how_often() -> None:
    policy = RetryPolicy.of(IngestionSettings(retry_max_attempts=3, retry_base_seconds=10, retry_jitter=0))
    assert (policy.max_attempts, policy.delay(2, random.Random(0))) == (3, timedelta(seconds=20))
