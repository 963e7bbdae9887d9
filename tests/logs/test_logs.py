"""A line of this process: its fields, their order, and what is kept out of it."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from adinsights_orchestration import logs, redaction
from adinsights_orchestration.settings import LogSettings, Settings, WarehouseSettings

CANARY = "canary-warehouse-password"
SETTINGS = Settings(warehouse=WarehouseSettings(password=SecretStr(CANARY)))


class Lines:
    """What was logged, parsed."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def last(self) -> dict[str, Any]:
        return self.all()[-1]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    captured = Lines()
    logs.configure_logging(SETTINGS, "pipelines", stream=captured.stream)
    yield captured
    root.handlers, root.level = handlers, level
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    redaction.use(redaction.Redactor())
    logging.captureWarnings(False)


def test_a_line_carries_the_fields_of_its_call_and_of_the_blocks_around_it(lines: Lines) -> None:
    with logs.bound(correlation_id="c1", connection="acme/meta-1f0c2a9b"):
        logs.get_logger("adinsights_orchestration.x").info("sync ended", job=17, rows=3)
    line = lines.last()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "component": "pipelines",
        "message": "sync ended",
        "tenant": "acme",
        "connection": "acme/meta-1f0c2a9b",
        "job": 17,
        "correlation_id": "c1",
        "rows": 3,
        "logger": "adinsights_orchestration.x",
    }


def test_fields_of_a_block_end_with_it(lines: Lines) -> None:
    with logs.bound(tenant="acme"):
        pass
    logs.get_logger("x").info("after")
    assert "tenant" not in lines.last()


def test_a_library_logs_in_the_same_shape(lines: Lines) -> None:
    logging.getLogger("some.library").warning("%s of %s", 1, 2, extra={"attempt": 3})
    assert (lines.last()["message"], lines.last()["attempt"], lines.last()["level"]) == ("1 of 2", 3, "warning")
    assert list(lines.last())[:4] == ["timestamp", "level", "component", "message"]


def test_names_that_logging_keeps_for_itself_are_fields_all_the_same(lines: Lines) -> None:
    logs.get_logger("x").info("hello", name="n", args=1, module="m")
    assert (lines.last()["name"], lines.last()["args"], lines.last()["module"]) == ("n", 1, "m")


def test_a_record_whose_arguments_do_not_fit_is_still_a_line() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%d rows", ("three",), None)
    assert "three" in json.loads(logs.JsonFormatter("cli").format(record))["message"]


def test_every_line_is_one_line(lines: Lines) -> None:
    logs.get_logger("x").info("a\nb", detail="c\r\nd\u2028e", value=object())
    assert len(lines.all()) == 1
    assert lines.last()["message"] == "a\nb"


def test_a_traceback_is_a_field_without_the_secrets_in_it(lines: Lines) -> None:
    try:
        raise RuntimeError(f"no connection with {CANARY}") from KeyError(CANARY)
    except RuntimeError:
        logs.get_logger("x").exception("it failed for jane@agency.example")
    text = lines.stream.getvalue()
    assert CANARY not in text
    assert "jane" not in text
    assert "RuntimeError: no connection with [redacted]" in lines.last()["exception"]


def test_a_secret_in_a_nested_field_is_hidden(lines: Lines) -> None:
    logs.get_logger("x").info(
        "config", settings={"warehouse": {"uri": f"postgresql://a:{CANARY}@h/d"}, "list": [CANARY]}
    )
    assert CANARY not in lines.stream.getvalue()


def test_a_timed_block_says_how_long_it_took_and_how_it_ended(lines: Lines) -> None:
    logger = logs.get_logger("x")
    with logs.timed(logger, "tick", sensor="observe") as fields:
        fields["jobs"] = 5
    with pytest.raises(ZeroDivisionError), logs.timed(logger, "tick"):
        raise ZeroDivisionError
    done, failed = lines.all()
    assert (done["outcome"], done["jobs"], done["sensor"]) == ("done", 5, "observe")
    assert done["duration_ms"] >= 0
    assert (failed["outcome"], failed["level"]) == ("failed", "error")


def test_configuring_again_replaces_the_handler_instead_of_doubling_lines(lines: Lines) -> None:
    second = io.StringIO()
    logs.configure_logging(SETTINGS, "cli", stream=second)
    logging.getLogger("x").info("once")
    assert lines.all() == []
    assert len(second.getvalue().splitlines()) == 1


def test_warnings_and_chatty_libraries_are_tamed(lines: Lines) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET http://x")
    logging.getLogger("py.warnings").warning("deprecated")
    assert [line["message"] for line in lines.all()] == ["deprecated"]


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    logs.get_logger("x").debug("not this")
    assert lines.all() == []


def test_people_get_a_readable_line_with_the_same_care(lines: Lines) -> None:
    stream = io.StringIO()
    plain = SETTINGS.model_copy(update={"log": LogSettings(json_lines=False)})
    logs.configure_logging(plain, "cli", stream=stream)
    logs.get_logger("x").warning("slow", job=4, note=CANARY)
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} warning slow  job=4 note=\[redacted\]$", stream.getvalue().strip())


def test_ids_that_tie_lines_together_are_distinct() -> None:
    assert len({logs.new_correlation_id() for _ in range(100)}) == 100


def test_the_formatter_can_be_named_in_a_configuration_file(lines: Lines) -> None:
    formatter = {"()": "adinsights_orchestration.logs.JsonFormatter", "component": "runs"}
    configured = logging.config.DictConfigurator({"version": 1}).configure_formatter(formatter)
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "hello", (), None)
    assert json.loads(configured.format(record))["component"] == "runs"


def test_all_lines_of_one_tick_have_one_correlation_id_and_those_of_the_next_another(lines: Lines) -> None:
    @logs.correlated
    def tick(number: int) -> dict[str, str]:
        for message in ("looked", "wrote"):
            logs.get_logger("x").info(message, number=number)
        return logs.correlation_tags()

    tags = [tick(1), tick(2)]
    ids = [line["correlation_id"] for line in lines.all()]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert tags == [{logs.CORRELATION_TAG: ids[0]}, {logs.CORRELATION_TAG: ids[2]}]
    assert logs.correlation_tags() == {}


def _in_dagster(**meta: object) -> dict[str, Any]:
    record = logging.makeLogRecord({"msg": "looked", "levelname": "INFO"})
    record.dagster_meta = {"orig_message": "looked", **meta}
    return logs.envelope(record, "pipelines")


def test_a_run_that_nobody_else_started_is_its_own_correlation() -> None:
    assert _in_dagster(run_id="r1", job_tags={})["correlation_id"] == "r1"
    assert _in_dagster(run_id="r1", job_tags={logs.CORRELATION_TAG: "c1"})["correlation_id"] == "c1"


def test_a_line_that_dagster_writes_in_a_tick_keeps_the_ticks_correlation() -> None:
    with logs.bound(correlation_id="c1"):
        assert _in_dagster(run_id=None, name="dbt_refresh")["correlation_id"] == "c1"
