"""The status' JSON is an interface: what is printed is what `docs/status.schema.json` says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.model import VERSION, json_schema, to_json
from adinsights_orchestration.status.reading import down, take_status
from tests.status.world import NOON, World, late, state_of

SCHEMA = Path(__file__).parents[2] / "docs" / "status.schema.json"
REWRITE = "ADINSIGHTS_REWRITE_SNAPSHOT"


def _objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of every object that the schema describes."""
    return [part["properties"] for part in (schema, *schema["$defs"].values()) if part["type"] == "object"]


def _validate(value: Any, *, closed: bool = True) -> None:
    """Holds a value against the schema; `closed`: nothing but what it names."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for part in (schema, *schema["$defs"].values()) if closed else ():
        if part["type"] == "object":
            part["additionalProperties"] = False
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(value)


def test_the_documented_schema_is_the_code_s() -> None:
    made = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get(REWRITE):
        SCHEMA.write_text(made, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == made, f"{REWRITE}=1 writes it anew; is it a new version?"


def test_the_schema_is_one_every_field_is_described_and_what_a_later_release_adds_fits_it(ops_store: OpsStore) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert all("description" in field or "$ref" in field for part in _objects(schema) for field in part.values())
    _validate({**to_json(take_status(Settings(), ops_store, NOON)), "novelty": 1}, closed=False)


def test_a_picture_of_everything_is_what_the_schema_says(ops_store: OpsStore) -> None:
    world = World(ops_store).well()
    world.evaluated([late("acme/a"), *(state_of(f"acme/{state}", state) for state in Freshness)])
    world.read({Component.AIRBYTE: Health.DOWN}, latency_ms=12.5, value=80.0)
    world.finding("registry_problem", "somewhere")
    printed = json.loads(json.dumps(to_json(take_status(Settings(), ops_store, NOON))))
    _validate(printed)
    assert printed["version"] == VERSION
    assert printed["as_of"] == "2026-03-10T12:00:00Z"


def test_so_is_that_of_an_empty_ops_store_and_that_without_one(ops_store: OpsStore) -> None:
    _validate(to_json(take_status(Settings(), ops_store, NOON)))
    _validate(to_json(down(Settings(), OpsStoreError("it does not answer"), NOON, tenant="acme")))


@pytest.mark.parametrize("changed", [{"overall": "fine"}, {"version": 2}, {"surprise": 1}, {"as_of": None}])
def test_anything_else_is_refused(ops_store: OpsStore, changed: dict[str, Any]) -> None:
    printed = to_json(take_status(Settings(), ops_store, NOON))
    with pytest.raises(jsonschema.ValidationError):
        _validate({**printed, **changed})
