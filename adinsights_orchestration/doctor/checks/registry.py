"""The registry: its source, its overlay, and what a person must mend in it.

Belongs here: verdicts on who is served. Does not belong here: whether Airbyte knows them too (`airbyte`).
"""

from __future__ import annotations

from datetime import timedelta

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.doctor.model import Verdict, fail, ok, some, warn
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.environments import UNATTENDED, Automation, Environment
from adinsights_orchestration.tenants.model import MINIMUM_RETENTION_DAYS, Standing
from adinsights_orchestration.tenants.overlay import parse_overlay
from adinsights_orchestration.tenants.sources import read
from adinsights_orchestration.tenants.store import registry_health

_MISSED_READS = 5
_PATIENCE_SECONDS = 20.0  # with a source that falls silent


def source(world: World) -> Verdict:
    """The source can be read, and the overlay beside it is valid."""
    reading = read(world.hasty, TickClock(world.now, _PATIENCE_SECONDS).left)
    if not reading.raw.tenants:
        return warn(f"{reading.raw.source} has no tenants", "Check that the address leads to the right database.")
    return ok(f"{len(reading.raw.tenants)} tenants, {len(reading.raw.connections)} connections")


def overlay(world: World) -> Verdict:
    """The overlay is valid, whether or not the source can be read; what deletes audit rows should have one."""
    path = world.settings.registry.overlay_path
    if path is None and _deletes(world):
        return warn(
            f"none: every tenant's window is the default ({MINIMUM_RETENTION_DAYS} days),"
            " and no legal hold can come into force",
            "Name one, empty where nothing is to be said: ADINSIGHTS_REGISTRY__OVERLAY_PATH, docs/audit-log.md.",
        )
    if path is None:
        return ok(f"none: home timezone and {MINIMUM_RETENTION_DAYS} days of retention for everybody")
    try:
        text = path.read_text()
    except OSError as error:
        return fail(f"{path} cannot be read ({error.strerror})", "Correct ADINSIGHTS_REGISTRY__OVERLAY_PATH.")
    return ok(f"{path.name}: {len(parse_overlay(text, path.name))} entries")


def _deletes(world: World) -> bool:
    """Whether this deployment deletes audit rows by itself."""
    settings = world.settings
    return settings.environment is not Environment.LOCAL and settings.retention.dsn is not None


def served(world: World) -> Verdict:
    """The registry that is served is young, and nothing in it waits for a person."""
    health = registry_health(world.ops_store.get(), world.now)
    if health.attempted_at is None:
        return warn("the registry was never read", "Run `adinsights registry refresh`, or start Dagster's daemon.")
    if health.error is not None:
        return warn(
            f"the last read failed, an older registry is served: {health.error}", "See the check `registry source`."
        )
    every = UNATTENDED[world.settings.environment].get(Automation.REGISTRY)
    if every and every.every_seconds and not every.stack_only and health.age is not None:
        longest = timedelta(seconds=every.every_seconds * _MISSED_READS)
        if health.age > longest:
            return warn(
                f"the registry was last read {health.age.total_seconds() / 60:.0f} min ago",
                "Check that Dagster's daemon runs and its sensor registry_refresh is on.",
            )
    if health.problems:
        places = [f"{problem.place}: {problem.problem}" for problem in health.problems]
        return warn(some(places), "`adinsights registry show` lists them all.")
    return ok(_standings(world))


def _standings(world: World) -> str:
    counts: dict[Standing, int] = {}
    for connection in world.registry.get().connections:
        counts[connection.standing] = counts.get(connection.standing, 0) + 1
    return ", ".join(f"{count} {standing.value}" for standing, count in counts.items()) or "nobody is served"
