"""What other programs print becomes lines of the one shape, in order, complete, redacted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.log_stream import LineReader, render

NOON = 1_763_899_200.25  # 2025-11-23T12:00:00.250Z
RUN_ID = "0f0f0f0f-1111-2222-3333-444444444444"


def read(text: str, component: str = "daemon") -> list[dict[str, Any]]:
    reader = LineReader(component, lambda: NOON)
    records = [record for line in text.splitlines() for record in reader.feed(line)]
    return records + list(reader.flush())


def only(text: str) -> dict[str, Any]:
    (record,) = read(text)
    return record


def test_a_stray_print_is_a_line() -> None:
    assert only("hello") == {
        "timestamp": "2025-11-23T12:00:00.250Z",
        "level": "info",
        "component": "daemon",
        "message": "hello",
    }


def test_our_own_line_passes_as_it_is() -> None:
    line = '{"timestamp":"2025-11-23T11:59:59.001Z","level":"error","component":"pipelines","message":"m","job":17}'
    assert only(line) == json.loads(line)


def test_dagsters_text_is_taken_apart() -> None:
    record = only("\x1b[32m2025-11-23 11:59:59 +0000\x1b[0m - dagster.daemon - \x1b[34mWARNING\x1b[0m - Slow tick")
    assert record["timestamp"] == "2025-11-23T12:00:00.250Z"
    assert (record["level"], record["logger"], record["message"]) == ("warning", "dagster.daemon", "Slow tick")


def test_a_line_that_lay_somewhere_keeps_its_own_time() -> None:
    assert only("2025-11-23 11:00:00 +0000 - dagster - INFO - late")["timestamp"] == "2025-11-23T11:00:00.000Z"


def test_a_run_line_names_its_run() -> None:
    record = only(f"2025-11-23 12:00:00 +0000 - dagster - DEBUG - sync_job - {RUN_ID} - 4711 - STEP_START - Started.")
    assert (record["run_id"], record["dagster_job"], record["message"]) == (
        RUN_ID,
        "sync_job",
        "STEP_START - Started.",
    )


def test_a_traceback_behind_a_dagster_line_belongs_to_it() -> None:
    text = f"""2025-11-23 12:00:00 +0000 - dagster.daemon - ERROR - Sensor failed
Traceback (most recent call last):
  File "a.py", line 3, in f
    1/0
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 9, in g
ValueError: no
2025-11-23 12:00:00 +0000 - dagster.daemon - INFO - next - {RUN_ID}"""
    first, second = read(text)
    assert first["message"] == "Sensor failed"
    assert first["exception"].startswith("Traceback")
    assert first["exception"].endswith("ValueError: no")
    assert second["message"].startswith("next")


def test_a_bare_traceback_is_one_error() -> None:
    first, second = read('Traceback (most recent call last):\n  File "a.py", line 1\nKeyError: 1\nafter')
    assert (first["level"], first["message"]) == ("error", "KeyError: 1")
    assert "a.py" in first["exception"]
    assert second["message"] == "after"


def test_dbts_structured_events_are_renamed() -> None:
    info = {
        "ts": "2025-11-23T11:59:58.123456Z",
        "level": "warn",
        "msg": "\x1b[33m1 of 2 WARN\x1b[0m",
        "name": "LogTestResult",
        "invocation_id": "i1",
    }
    node = {"unique_id": "model.adinsights.fct_ads", "node_status": "success"}
    record = only(json.dumps({"info": info, "data": {"execution_time": 0.5, "node_info": node}}))
    assert record == {
        "timestamp": "2025-11-23T11:59:58.123Z",
        "level": "warn",
        "component": "daemon",
        "message": "1 of 2 WARN",
        "duration_ms": 500,
        "logger": "dbt",
        "dbt_event": "LogTestResult",
        "invocation_id": "i1",
        "node": "model.adinsights.fct_ads",
        "node_status": "success",
    } | {"level": "warning"}


def test_dbts_and_uvicorns_text_is_recognised() -> None:
    dbt, uvicorn = read("11:59:59  1 of 20 START sql view model\nERROR:    Exception in ASGI application")
    assert (dbt["logger"], dbt["message"]) == ("dbt", "1 of 20 START sql view model")
    assert (uvicorn["level"], uvicorn["message"]) == ("error", "Exception in ASGI application")


def test_another_programs_json_gets_our_names() -> None:
    record = only('{"event": "x", "severity": "WARN", "ts": 1763899200.5, "name": "lib", "k": 1}')
    assert record == {
        "timestamp": "2025-11-23T12:00:00.500Z",
        "level": "warning",
        "component": "daemon",
        "message": "x",
        "logger": "lib",
        "k": 1,
    }


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp", "Cs"])), max_size=30))
def test_every_word_that_goes_in_comes_out(printed: list[str]) -> None:
    marked = [f"{text} mark{index}" for index, text in enumerate(printed)]
    shown = "\n".join(render(record) for record in read("\n".join(marked)))
    assert not [index for index in range(len(marked)) if f"mark{index}" not in shown]


def test_a_record_without_end_is_written_in_pieces() -> None:
    text = "2025-11-23 12:00:00 +0000 - dagster - ERROR - long\n" + "\n".join(f"  {index}" for index in range(5_000))
    records = read(text)
    assert 3 <= len(records) <= 3_100
    assert "4999" in str(records[-1])


# ---------------------------------------------------------------------------------------------- as real processes

PROGRAM = """
import os, subprocess, sys
print("pid", os.getpid(), flush=True)
print("canary-in-output", os.environ["THEIR_PASSWORD"], file=sys.stderr, flush=True)
subprocess.run([sys.executable, "-c", "print('from a child')"])
{ending}
"""


def run_exec(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "adinsights_orchestration.cli", "exec", "--component", "sample", "--"]
    return subprocess.run(
        [*command, sys.executable, "-c", program],
        env={**os.environ, "THEIR_PASSWORD": "canary-password", **environment},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_exec_wraps_whatever_a_program_and_its_children_print_and_keeps_the_exit_code() -> None:
    done = run_exec(PROGRAM.format(ending="raise SystemExit(7)"))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 7
    assert done.stderr == ""
    assert [line["message"].split()[0] for line in lines] == ["pid", "canary-in-output", "from"]
    assert {line["component"] for line in lines} == {"sample"}
    assert "canary-password" not in done.stdout


def test_exec_keeps_a_crash_readable() -> None:
    done = run_exec(PROGRAM.format(ending="raise ValueError('password=' + os.environ['THEIR_PASSWORD'])"))
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert (last["level"], last["message"]) == ("error", "ValueError: password=[redacted]")
    assert "Traceback" in last["exception"]


def test_a_signal_reaches_the_program_itself_and_its_last_words_are_kept() -> None:
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: (print('last words', flush=True), sys.exit(0)))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-m", "adinsights_orchestration.cli", "exec", "--", sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["message"] == "ready"
        os.killpg(process.pid, signal.SIGTERM)  # a supervisor ends the whole group: the forwarder must outlive it
        rest = process.stdout.read()
        assert process.wait(30) == 0
    assert json.loads(rest)["message"] == "last words"


def test_exec_names_a_program_that_does_not_exist() -> None:
    command = [sys.executable, "-m", "adinsights_orchestration.cli", "exec", "--", "no-such-program"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no-such-program" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("unwanted", ["pydantic", "structlog", "dagster", "typer"])
def test_the_forwarder_stays_light(unwanted: str) -> None:
    code = f"import sys, adinsights_orchestration.log_stream; raise SystemExit({unwanted!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
