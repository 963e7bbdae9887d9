"""Runs by the UI's queue: our questions are valid for this Dagster, and every kind of answer is understood."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.cli import following, runs
from adinsights_orchestration.cli.runs import Failures, RunError, Ui
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.logs import CORRELATION_TAG
from adinsights_orchestration.settings import DagsterSettings, Settings

NODES = [
    {"name": "__repository__", "location": {"name": "monitoring"}, "jobs": []},
    {"name": "__repository__", "location": {"name": "pipelines"}, "jobs": [{"name": "sync_connections"}]},
]


@contextmanager
def ui_that_answers(data: Mapping[str, Any] | str, asked: list[Any] | None = None) -> Iterator[Ui]:
    """A UI whose every answer is `data`; a text is an HTML page, as a proxy shows."""

    async def graphql(request: Request) -> Response:
        if asked is not None:
            asked.append(json.loads(await request.body()))
        return HTMLResponse(data) if isinstance(data, str) else JSONResponse({"data": data})

    with running(Starlette(routes=[Route("/graphql", graphql, methods=["POST"])])) as url:
        yield Ui(f"{url}/")


@pytest.mark.parametrize("query", [runs._FIND, runs._LAUNCH, runs._STATUS, runs._FAILURES])
def test_every_question_is_one_that_dagsters_api_understands(query: str) -> None:
    assert validate(create_schema().graphql_schema, parse(query)) == []


def test_the_location_that_has_a_job_is_found_by_the_job() -> None:
    with ui_that_answers({"repositoriesOrError": {"nodes": NODES}}) as ui:
        assert ui.location_of("sync_connections") == ("pipelines", "__repository__")
        assert ui.location_of("unknown_job") is None


def test_a_login_page_or_nothing_at_all_is_no_ui() -> None:
    with ui_that_answers("<html>Sign in</html>") as ui:
        assert ui.location_of("sync_connections") is None
        assert ui.status("r1") is None
    assert Ui("http://127.0.0.1:9").location_of("sync_connections") is None


def test_a_launch_names_the_job_its_configuration_and_its_tags() -> None:
    asked: list[Any] = []
    answer = {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "r1"}}}
    with ui_that_answers(answer, asked) as ui:
        assert ui.launch(("pipelines", "repo"), "sync_connections", {"ops": {"sync": {}}}, {"who": "ada"}) == "r1"
        assert ui.run_url("r1").endswith("/runs/r1")
    execution = asked[0]["variables"]["execution"]
    assert execution["selector"]["jobName"] == "sync_connections"
    assert execution["runConfigData"] == {"ops": {"sync": {}}}
    assert execution["executionMetadata"]["tags"] == [{"key": "who", "value": "ada"}]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"__typename": "PythonError", "message": "no such location"}, "no such location"),
        ({"__typename": "RunConfigValidationInvalid", "errors": [{"message": "missing key"}]}, "missing key"),
        ({"__typename": "PipelineNotFoundError"}, "PipelineNotFoundError"),
    ],
)
def test_a_refused_launch_says_why(answer: dict[str, Any], reason: str) -> None:
    with ui_that_answers({"launchRun": answer}) as ui, pytest.raises(RunError, match=reason):
        ui.launch(("pipelines", "repo"), "sync_connections", {}, {})


def test_the_failures_of_a_run_are_its_own_list_of_partitions() -> None:
    entries = [{"label": "failed", "jsonString": json.dumps({"acme/meta": "token revoked"})}, {"label": "x"}]
    error = {"message": "Failure", "causes": [{"message": "1 of 3 connections failed\n"}]}
    events = [{}, {"error": error, "failureMetadata": {"metadataEntries": entries}}, {"message": "Steps failed"}]
    with ui_that_answers({"logsForRun": {"events": events}}) as ui:
        assert ui.failures("r1") == Failures({"acme/meta": "token revoked"}, "1 of 3 connections failed")
    with ui_that_answers({"logsForRun": {"events": [{}]}}) as ui:
        assert ui.failures("r1") == Failures()


def _failed(number: int) -> dict[str, Any]:
    entries = [{"label": "failed", "jsonString": json.dumps({f"acme/{number}": "token revoked"})}]
    return {"error": {"message": "1 of 1 failed"}, "failureMetadata": {"metadataEntries": entries}}


@contextmanager
def ui_with_pages(pages: list[dict[str, Any] | None]) -> Iterator[tuple[Ui, list[str | None]]]:
    """A UI that gives one page after another; None is a proxy's page while Dagster starts again."""
    left, cursors = list(pages), []

    async def graphql(request: Request) -> Response:
        cursors.append(json.loads(await request.body())["variables"]["after"])
        page = left.pop(0)
        return HTMLResponse("<html>", 502) if page is None else JSONResponse({"data": {"logsForRun": page}})

    with running(Starlette(routes=[Route("/graphql", graphql, methods=["POST"])])) as url:
        yield Ui(url), cursors


PAGES: list[dict[str, Any] | None] = [
    {"events": [{}] * 1000, "cursor": "a", "hasMore": True},
    {"events": [{}, _failed(1)], "cursor": "b", "hasMore": True},
    {"events": [_failed(2)], "cursor": "c", "hasMore": False},
]


def test_the_reasons_of_a_big_run_are_read_to_the_last_page() -> None:
    with ui_with_pages(PAGES) as (ui, cursors):
        assert ui.failures("r1") == Failures({"acme/1": "token revoked", "acme/2": "token revoked"}, "1 of 1 failed")
    assert cursors == [None, "a", "b"]


def test_a_ui_that_restarts_between_two_pages_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    with ui_with_pages([PAGES[0], None, None, *PAGES]) as (ui, cursors):
        run = following.JobRun(_settings(ui), None, "sync_connections", [], as_json=True)  # type: ignore[arg-type]
        assert set(run._failures("r1").by_partition) == {"acme/1", "acme/2"}
    assert cursors == [None, "a", None, None, "a", "b"]


def test_a_ui_that_stays_away_costs_the_reasons_and_not_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(following, "_PATIENCE_SECONDS", 0.05)
    ui = Ui("http://127.0.0.1:9")
    run = following.JobRun(_settings(ui), None, "sync_connections", [], as_json=True)  # type: ignore[arg-type]
    assert run._failures("r1").reason.endswith("are not known: http://127.0.0.1:9/runs/r1")


def test_a_launch_that_is_not_answered_warns_that_the_run_may_be_there() -> None:
    with pytest.raises(RunError, match="may be in its queue all the same"):
        Ui("http://127.0.0.1:9").launch(("pipelines", "repo"), "sync_connections", {}, {})


def _settings(ui: Ui) -> Settings:
    return Settings(dagster=DagsterSettings(ui_url=ui.url))


def test_a_run_carries_who_asked_and_what_ties_its_lines_together() -> None:
    tags = runs.run_tags()
    assert tags[runs.REQUESTED_BY_TAG] == runs.requester()
    assert tags[CORRELATION_TAG] != runs.run_tags()[CORRELATION_TAG]
