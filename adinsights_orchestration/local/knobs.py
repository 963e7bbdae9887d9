"""Fault knobs: named, typed values that make the loopback service misbehave on request.

Belongs here: the store, its declarations, and the small HTTP interface at `/knobs`. Does not belong here: what a knob
does (each sub-application reads its own). A knob that nobody declared cannot be set, so a typing mistake in a test or
on the command line is an error and not a test that passes for the wrong reason.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.errors import AdinsightsError

Value = bool | int | float | str | list[Any] | dict[str, Any] | None


class KnobError(AdinsightsError):
    """An unknown knob, or a value of the wrong type."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One declared knob; the default's type is the knob's type, and a default of None takes any JSON value."""

    name: str
    default: Value
    description: str

    @property
    def kind(self) -> str:
        """The JSON type in words."""
        return "any" if self.default is None else _KINDS[type(self.default)]

    def accept(self, value: Value) -> Value:
        """Returns the value in the knob's type; `KnobError` when it is of another."""
        if self.default is None or type(value) is type(self.default):
            return value
        if isinstance(self.default, float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        raise KnobError(f"takes a value of type {self.kind}", place=f"knob {self.name}", next_step=self.description)


_KINDS: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


class Knobs:
    """All declared knobs of a service, by area; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._declared: dict[str, dict[str, Knob]] = {}
        self._values: dict[tuple[str, str], Value] = {}

    def declare(self, area: str, knobs: Iterable[Knob]) -> KnobArea:
        """Makes the knobs known under `area`, at their defaults; declaring them again changes nothing."""
        with self._lock:
            known = self._declared.setdefault(area, {})
            for knob in knobs:
                known.setdefault(knob.name, knob)
        return KnobArea(self, area)

    def area(self, area: str) -> KnobArea:
        """A view of one declared area."""
        self._area(area)
        return KnobArea(self, area)

    def get(self, area: str, name: str) -> Any:
        """The knob's current value."""
        knob = self._knob(area, name)
        return self._values.get((area, name), knob.default)

    def set(self, area: str, name: str, value: Value) -> None:
        """Turns a knob; takes effect with the next request."""
        accepted = self._knob(area, name).accept(value)
        with self._lock:
            self._values[area, name] = copy.deepcopy(accepted)

    def reset(self, area: str | None = None, name: str | None = None) -> None:
        """Puts one knob, one area or everything back to the defaults."""
        if area is not None:
            self._area(area)
            if name is not None:
                self._knob(area, name)
        with self._lock:
            for key in [k for k in self._values if area in (None, k[0]) and name in (None, k[1])]:
                del self._values[key]

    def take(self, area: str, name: str) -> bool:
        """Counts an integer knob down by one; False when it is already at zero. For `..._next` knobs."""
        with self._lock:
            left = self.get(area, name)
            if left <= 0:
                return False
            self._values[area, name] = left - 1
            return True

    def take_item(self, area: str, name: str, item: str) -> bool:
        """Removes `item` from an array knob; False when it is not in it. For knobs that hit one thing once."""
        with self._lock:
            items = self.get(area, name)
            if item not in items:
                return False
            self._values[area, name] = [other for other in items if other != item]
            return True

    def describe(self) -> dict[str, dict[str, dict[str, Value]]]:
        """Every knob: area -> name -> type, default, value, description."""
        with self._lock:
            return {
                area: {
                    knob.name: {
                        "type": knob.kind,
                        "default": knob.default,
                        "value": self.get(area, knob.name),
                        "description": knob.description,
                    }
                    for knob in knobs.values()
                }
                for area, knobs in sorted(self._declared.items())
            }

    def _area(self, area: str) -> dict[str, Knob]:
        if area not in self._declared:
            raise KnobError(
                "no such area", place=f"knobs of {area}", next_step=f"Known: {', '.join(sorted(self._declared))}."
            )
        return self._declared[area]

    def _knob(self, area: str, name: str) -> Knob:
        known = self._area(area)
        if name not in known:
            raise KnobError("no such knob", place=f"{area}/{name}", next_step=f"Known: {', '.join(sorted(known))}.")
        return known[name]


@dataclass(frozen=True, slots=True)
class KnobArea:
    """One area's knobs, for the sub-application that owns them."""

    knobs: Knobs
    area: str

    def get(self, name: str) -> Any:
        """The knob's current value."""
        return self.knobs.get(self.area, name)

    def set(self, name: str, value: Value) -> None:
        """Turns a knob."""
        self.knobs.set(self.area, name, value)

    def take(self, name: str) -> bool:
        """Counts an integer knob down; False at zero."""
        return self.knobs.take(self.area, name)

    def take_item(self, name: str, item: str) -> bool:
        """Removes an item from an array knob; False when it is not there."""
        return self.knobs.take_item(self.area, name, item)


def create_knobs_app(knobs: Knobs) -> Starlette:
    """The HTTP interface: GET / lists, PUT /{area}/{name} sets to the JSON body, DELETE resets one, an area or all."""

    async def show(_: Request) -> Response:
        return JSONResponse(knobs.describe())

    async def turn(request: Request) -> Response:
        try:
            value = json.loads(await request.body())
        except ValueError:
            return _refusal("the body must be one JSON value, for example: true", 400)
        area, name = request.path_params["area"], request.path_params["name"]
        knobs.set(area, name, value)
        return JSONResponse({"area": area, "name": name, "value": knobs.get(area, name)})

    async def reset(request: Request) -> Response:
        knobs.reset(request.path_params.get("area"), request.path_params.get("name"))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/", reset, methods=["DELETE"]),
            Route("/{area}", reset, methods=["DELETE"]),
            Route("/{area}/{name}", turn, methods=["PUT"]),
            Route("/{area}/{name}", reset, methods=["DELETE"]),
        ],
        exception_handlers={KnobError: _knob_error},
    )


def _knob_error(_: Request, error: Exception) -> Response:
    status = 404 if str(error).find("no such") >= 0 else 422
    return _refusal(str(error), status)


def _refusal(problem: str, status: int) -> JSONResponse:
    return JSONResponse({"error": problem}, status_code=status)
