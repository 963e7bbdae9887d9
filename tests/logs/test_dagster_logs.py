"""Dagster's runs log in the one shape, and its event log and UI never hold a secret.

Each case is a process of its own: what is configured here is configured for a whole process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("dagster_run_with_canaries.py")
CANARIES = ("canary-warehouse-password", "canary-pg-password", "jane.doe", "203.0.113.77", "canary-token")


@pytest.fixture(scope="module")
def outcome() -> dict[str, Any]:
    """What the program printed, and everything that Dagster stored and answered."""
    environment = {
        **os.environ,
        "ADINSIGHTS_WAREHOUSE__PASSWORD": "canary-warehouse-password",
        "DAGSTER_PG_PASSWORD": "canary-pg-password",
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return {"lines": [json.loads(line) for line in done.stderr.splitlines()], **json.loads(done.stdout)}


def test_every_line_of_a_run_has_the_one_shape(outcome: dict[str, Any]) -> None:
    for line in outcome["lines"]:
        assert list(line)[:3] == ["timestamp", "level", "component"]
        assert line["message"]
    assert {line["component"] for line in outcome["lines"]} == {"pipelines"}


def test_a_line_written_in_a_run_names_the_run_the_step_the_partition_and_the_correlation(
    outcome: dict[str, Any],
) -> None:
    (line,) = [line for line in outcome["lines"] if line["message"].startswith("structured")]
    assert (line["run_id"], line["dagster_job"], line["step"]) == (outcome["run_id"], "canaries", "leaky")
    assert (line["tenant"], line["connection"]) == ("acme", "acme/meta-1f0c2a9b")
    assert (line["correlation_id"], line["job"]) == ("c0ffee", 17)


def test_every_record_is_written_once(outcome: dict[str, Any]) -> None:
    messages = [line["message"] for line in outcome["lines"]]
    for start in ("from the context", "structured", "from a library"):
        assert len([message for message in messages if message.startswith(start)]) == 1


def test_a_failed_steps_error_is_in_its_line(outcome: dict[str, Any]) -> None:
    (line,) = [line for line in outcome["lines"] if line.get("dagster_event") == "STEP_FAILURE"]
    assert "RuntimeError: connecting with postgresql://[redacted]@db/warehouse" in line["exception"]


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize("where", ["lines", "events", "graphql", "ticks", "compute_log"])
def test_no_canary_is_anywhere(outcome: dict[str, Any], canary: str, where: str) -> None:
    assert outcome[where], f"nothing was collected from {where}"
    assert canary not in json.dumps(outcome[where])


def test_dbts_lines_are_where_a_person_looks_for_them_in_the_ui(outcome: dict[str, Any]) -> None:
    assert "1 of 1 OK with [redacted]" in outcome["compute_log"]


def test_the_event_log_still_says_what_went_wrong(outcome: dict[str, Any]) -> None:
    assert "RuntimeError" in json.dumps(outcome["events"])
    assert "RuntimeError" in json.dumps(outcome["graphql"])
    assert "LookupError" in json.dumps(outcome["ticks"])
