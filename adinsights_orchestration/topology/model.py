"""The topology's vocabulary: assets with their edges and owners, dashboards, and what runs unattended.

Belongs here: immutable values, their shape as JSON, and what follows from them alone. Does not belong here: Dagster
(`read`), the ops store (`store`). The pipelines location says it, monitoring works from it: the two are deployed apart,
so the shape has a version, unknown fields are ignored, and a reader never sees a version that it does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

# Raised when a reader of the version before would misunderstand the payload; a field that is only added needs no raise.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset.

    Attributes:
        key: Its key, `airbyte/meta`.
        summary: The first line of its description.
        group: Its group.
        owners: Whom it belongs to: mail addresses, or `team:...`.
        kinds: What it is made of.
        upstream: Keys of the assets that it is made from.
        checks: Names of its checks.
        runbook: Its section of the runbook; None where it has none.
        partitions: The name of its dynamic partitions; None where it has none.
        external: Whether nothing in Dagster builds it.
    """

    key: str
    summary: str = ""
    group: str = ""
    owners: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    runbook: str | None = None
    partitions: str | None = None
    external: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What people look at, at the end of the lineage.

    Attributes:
        key: Its asset.
        title: Its name for people.
        providers: The providers whose data it shows: those that it names, of those that an edge leads from.
        path: Its path below Superset's address; None where only a URL is known.
        url: Its address; None where only a path is known.
    """

    key: str
    title: str
    providers: tuple[str, ...] = ()
    path: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job, and what it is for."""

    name: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule: which job it starts, and when."""

    name: str
    job: str
    cron: str
    timezone: str | None = None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor: how often it ticks, and which jobs it may start."""

    name: str
    every_seconds: int | None = None
    jobs: tuple[str, ...] = ()
    summary: str = ""


@dataclass(frozen=True)
class Topology:
    """What a code location consists of. Jobs, schedules and sensors are found below `/locations/<location>` in the UI.

    Attributes:
        location: The code location's name.
        assets: In the order of their keys, as everything else.
        dashboards: Those of the assets that people look at.
        jobs: Without those that Dagster makes by itself.
        schedules: All of them.
        sensors: All of them.
    """

    location: str
    assets: tuple[Asset, ...] = ()
    dashboards: tuple[Dashboard, ...] = ()
    jobs: tuple[Job, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    sensors: tuple[Sensor, ...] = ()

    @cached_property
    def by_key(self) -> Mapping[str, Asset]:
        """The assets by their keys."""
        return {asset.key: asset for asset in self.assets}

    def upstream_of(self, key: str) -> frozenset[str]:
        """The keys of everything that the asset depends on, however far; itself is not among them."""
        return frozenset(_reached(key, {asset.key: asset.upstream for asset in self.assets}))

    def downstream_of(self, key: str) -> frozenset[str]:
        """The keys of everything that depends on the asset, however far; itself is not among them."""
        return frozenset(_reached(key, self._children))

    def dashboards_of(self, keys: Iterable[str]) -> tuple[Dashboard, ...]:
        """The dashboards that show any of these assets, or are one of them."""
        affected = {found for key in keys for found in (key, *self.downstream_of(key))}
        return tuple(dashboard for dashboard in self.dashboards if dashboard.key in affected)

    @cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        children: dict[str, list[str]] = {}
        for asset in self.assets:
            for parent in asset.upstream:
                children.setdefault(parent, []).append(asset.key)
        return {key: tuple(found) for key, found in children.items()}


class UnreadableTopologyError(ValueError):
    """A payload is not what its version says."""


_TOPOLOGIES = TypeAdapter(Topology)


def to_payload(topology: Topology) -> dict[str, Any]:
    """Returns the topology as it is stored: fits JSON, equal for equal topologies."""
    payload: dict[str, Any] = _TOPOLOGIES.dump_python(topology, mode="json")
    return payload


def from_payload(payload: object) -> Topology:
    """Returns the topology of a payload of this version; fields that it does not know are ignored.

    Raises:
        UnreadableTopologyError: It lacks something, or holds something of another type.
    """
    try:
        return _TOPOLOGIES.validate_python(payload)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnreadableTopologyError(f"{place or 'payload'}: {first['msg']}") from None


def digest_of(topology: Topology) -> str:
    """Returns the digest of the content, the shape's version included."""
    content = json.dumps([VERSION, to_payload(topology)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _reached(start: str, edges: Mapping[str, Iterable[str]]) -> Iterator[str]:
    seen, waiting = {start}, deque([start])
    while waiting:
        for key in edges.get(waiting.popleft(), ()):
            if key not in seen:
                seen.add(key)
                waiting.append(key)
                yield key
