"""Airbyte: both APIs, credentials, workspaces, clock.

Belongs here: verdicts on what Airbyte says of itself. Does not belong here: who drives its connections (`drivers`).
"""

from __future__ import annotations

from adinsights_orchestration.doctor.airbyte_facts import configuration_problem
from adinsights_orchestration.doctor.model import Verdict, fail, ok, skipped, some, warn
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.tenants.model import Standing


def public_api(world: World) -> Verdict:
    """The public API answers and takes our credentials."""
    settings = world.settings.airbyte
    if (settings.client_id is None) != (settings.client_secret is None):
        return fail("client id and client secret belong together, one is missing", "Set ADINSIGHTS_AIRBYTE__CLIENT_*.")
    facts = world.airbyte.get()
    if not facts.workspaces:
        return warn("the credentials see no workspace", "Give the Airbyte application access to one.")
    more = "" if facts.complete else " or more"
    return ok(f"{len(facts.workspaces)} workspaces, {len(facts.connections)}{more} connections")


def configuration_api(world: World) -> Verdict:
    """The configuration API answers; without it there are no failure reasons and no rows per stream."""
    workspace = next(iter(world.airbyte.get().workspaces), None)
    if workspace is None:
        return skipped("no workspace to ask about")
    problem = configuration_problem(world.hasty.airbyte, workspace)
    if problem is not None:
        return warn(
            f"{problem.problem}; syncs are driven all the same, without failure reasons",
            "Check ADINSIGHTS_AIRBYTE__CONFIG_API_URL and the proxy before it.",
        )
    return ok("failure reasons and statistics can be read")


def workspaces(world: World) -> Verdict:
    """Every workspace that is configured, or that the registry names, is visible."""
    visible = set(world.airbyte.get().workspaces)
    named = {str(each) for each in world.settings.airbyte.workspace_ids}
    named |= {
        str(each.workspace_id) for each in world.registry.get().connections if each.workspace_id and not each.retired
    }
    hidden = sorted(named - visible)
    if hidden:
        return fail(f"Airbyte does not show us {some(hidden)}", "Give the Airbyte application access to it.")
    return ok(f"{len(named)} named workspaces are visible" if named else "all visible workspaces are used")


def connections(world: World) -> Verdict:
    """Every active connection of the registry exists in Airbyte and is switched on there."""
    facts = world.airbyte.get()
    there = {str(row["connectionId"]): str(row.get("status", "active")) for row in facts.connections}
    active = [each for each in world.registry.get().connections if each.standing in (Standing.ACTIVE, Standing.MANUAL)]
    gone = [each.partition_key or each.name for each in active if str(each.connection_id) not in there]
    off = [each.partition_key for each in active if there.get(str(each.connection_id), "active") != "active"]
    if gone and facts.complete:
        return fail(f"not in Airbyte: {some(gone)}", "Correct the connection's id in the backend, or retire it there.")
    if off:
        return warn(
            f"switched off in Airbyte: {some(off)}",
            "`adinsights schema show` tells whether a schema change did it; else switch it on in Airbyte.",
        )
    return ok(f"{len(active)} connections exist in Airbyte")


def clock(world: World) -> Verdict:
    """Airbyte's clock and ours agree within what observation reads back."""
    ahead = world.airbyte.get().clock_ahead_seconds
    overlap = world.settings.ingestion.observe_overlap_seconds
    if ahead is None:
        return skipped("Airbyte's replies carry no date")
    shown = f"Airbyte's clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) > overlap:
        return fail(f"{shown}, more than observation reads back ({overlap:g} s)", "Synchronise the clocks (NTP).")
    if abs(ahead) > max(5.0, overlap / 2):
        return warn(shown, "Synchronise the clocks (NTP).")
    return ok("the clocks agree")
