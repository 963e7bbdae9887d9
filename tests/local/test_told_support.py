"""What the day's golden files leave out, and what they must not."""

from __future__ import annotations

import pytest

from tests.local.told_support import normal


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("since 2026-03-10 12:00 UTC, over 2026-03-10 12:05 UTC", "since <time>, over <time>"),
        ("not taken it since 12:01 UTC.", "not taken it since <time>."),
        ("Resolved after 1 h 12 min.", "Resolved after <duration>."),
        ("2026-03-10 12:00 UTC, 45 s ago", "<time>, <duration> ago"),
        ("`0123abcdef`", "`<id>`"),
        ("3 failures: The token was revoked.", "<n> failures: The token was revoked."),
        ("failing: agg_a; 4 failed builds in a row", "failing: agg_a; <n> failed builds in a row"),
        ("http://127.0.0.1:18000/airbyte", "http://127.0.0.1:<port>/airbyte"),
        ("1 / 2 failures (runbook); due every 2 min", "1 / 2 failures (runbook); due every 2 min"),
        ("Explains 3 further: 3 connections stale.", "Explains 3 further: 3 connections stale."),
    ],
)
def test_what_differs_from_run_to_run_is_a_placeholder_and_nothing_else_is(said: str, kept: str) -> None:
    assert normal(said) == kept
