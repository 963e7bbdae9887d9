"""The knobs' store and its HTTP interface."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from adinsights_orchestration.local.knobs import Knob, KnobError, Knobs, create_knobs_app
from adinsights_orchestration.local.serving import running

KNOBS = (
    Knob("down", False, "Off."),
    Knob("next", 0, "Counts down."),
    Knob("delay", 0.5, "Seconds."),
    Knob("ids", [], "Things that are hit once."),
    Knob("map", {}, "Id -> reason."),
    Knob("anything", None, "Any JSON value."),
)


@pytest.fixture
def knobs() -> Knobs:
    store = Knobs()
    store.declare("airbyte", KNOBS)
    return store


@pytest.fixture
def http(knobs: Knobs) -> Iterator[httpx.Client]:
    with running(create_knobs_app(knobs)) as url, httpx.Client(base_url=url) as client:
        yield client


def test_an_undeclared_knob_cannot_be_turned_or_read(knobs: Knobs) -> None:
    with pytest.raises(KnobError, match=r"no such knob.*anything, delay, down"):
        knobs.set("airbyte", "dwon", True)
    with pytest.raises(KnobError, match="no such area"):
        knobs.get("airbytes", "down")
    with pytest.raises(KnobError):
        knobs.reset("airbyte", "dwon")


@pytest.mark.parametrize(("name", "value"), [("down", 1), ("next", True), ("next", 1.5), ("ids", {}), ("map", [])])
def test_a_value_of_another_type_is_refused(knobs: Knobs, name: str, value: Any) -> None:
    with pytest.raises(KnobError, match="takes a value of type"):
        knobs.set("airbyte", name, value)


def test_whole_numbers_are_numbers_and_a_knob_without_a_type_takes_anything(knobs: Knobs) -> None:
    knobs.set("airbyte", "delay", 2)
    assert knobs.get("airbyte", "delay") == 2.0
    knobs.set("airbyte", "anything", {"a": [1, None]})
    assert knobs.get("airbyte", "anything") == {"a": [1, None]}


def test_a_caller_cannot_change_a_value_behind_the_stores_back(knobs: Knobs) -> None:
    mine = ["a"]
    knobs.set("airbyte", "ids", mine)
    mine.append("b")
    assert knobs.get("airbyte", "ids") == ["a"]


def test_counted_faults_hit_exactly_that_often_whoever_asks(knobs: Knobs) -> None:
    knobs.set("airbyte", "next", 100)
    with ThreadPoolExecutor(8) as pool:
        hits = list(pool.map(lambda _: knobs.take("airbyte", "next"), range(400)))
    assert sum(hits) == 100
    assert knobs.get("airbyte", "next") == 0


def test_a_named_thing_is_hit_once(knobs: Knobs) -> None:
    knobs.set("airbyte", "ids", ["a", "b"])
    assert [knobs.take_item("airbyte", "ids", item) for item in ("a", "a", "c")] == [True, False, False]
    assert knobs.get("airbyte", "ids") == ["b"]


def test_resetting_reaches_one_knob_an_area_or_everything(knobs: Knobs) -> None:
    knobs.declare("backend", KNOBS)

    def turn_all() -> None:
        for area in ("airbyte", "backend"):
            knobs.set(area, "down", True)
            knobs.set(area, "next", 3)

    def state() -> list[Any]:
        return [knobs.get(area, name) for area in ("airbyte", "backend") for name in ("down", "next")]

    turn_all()
    knobs.reset("airbyte", "down")
    assert state() == [False, 3, True, 3]
    turn_all()
    knobs.reset("airbyte")
    assert state() == [False, 0, True, 3]
    knobs.reset()
    assert state() == [False, 0, False, 0]


def test_declaring_twice_keeps_what_was_turned(knobs: Knobs) -> None:
    knobs.set("airbyte", "down", True)
    assert knobs.declare("airbyte", KNOBS).get("down") is True


def test_knobs_are_listed_turned_and_reset_over_http(http: httpx.Client) -> None:
    assert http.put("/airbyte/down", json=True).json() == {"area": "airbyte", "name": "down", "value": True}
    shown = http.get("/").json()["airbyte"]["down"]
    assert shown == {"type": "boolean", "default": False, "value": True, "description": "Off."}
    assert http.delete("/airbyte/down").status_code == 204
    assert http.get("/").json()["airbyte"]["down"]["value"] is False
    http.put("/airbyte/next", json=4)
    assert http.delete("/").status_code == 204
    assert http.get("/").json()["airbyte"]["next"]["value"] == 0


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("/airbyte/dwon", "true", 404, "no such knob"),
        ("/nowhere/down", "true", 404, "no such area"),
        ("/airbyte/down", "1", 422, "type boolean"),
        ("/airbyte/down", "yes", 400, "JSON value"),
    ],
)
def test_what_does_not_fit_is_explained(http: httpx.Client, path: str, content: str, status: int, words: str) -> None:
    reply = http.put(path, content=content)
    assert reply.status_code == status
    assert words in reply.json()["error"]
