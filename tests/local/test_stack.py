"""What the stack asks the UI is valid for this Dagster, and it is not ready before its storages answer."""

from __future__ import annotations

import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from adinsights_orchestration.local import stack
from adinsights_orchestration.local.serving import running


@pytest.mark.parametrize("query", [stack._LOCATIONS, stack._STORAGES])
def test_every_question_is_one_that_dagsters_api_understands(query: str) -> None:
    assert validate(create_schema().graphql_schema, parse(query)) == []


def test_the_ui_is_ready_once_all_of_its_storages_answer() -> None:
    well = {"data": {"runsOrError": {"__typename": "Runs"}, "autoMaterializeTicks": []}}
    lost = {"data": None, "errors": [{"message": "server closed the connection unexpectedly"}]}
    broken = {"data": {"runsOrError": {"__typename": "PythonError"}}}
    answers = iter([lost, broken, well])

    async def graphql(_: Request) -> JSONResponse:
        return JSONResponse(next(answers))

    with running(Starlette(routes=[Route("/graphql", graphql, methods=["POST"])])) as url:
        assert [stack._answers_well(f"{url}/graphql", stack._STORAGES) for _ in range(3)] == [False, False, True]
    assert not stack._answers_well("http://127.0.0.1:9/graphql", stack._STORAGES)
