"""Health probes: what this environment watches.

Belongs here: which components have no address here. Does not belong here: how they are, which `adinsights status` says.
"""

from __future__ import annotations

from adinsights_orchestration.doctor.model import Verdict, ok
from adinsights_orchestration.doctor.world import World


def watched(world: World) -> Verdict:
    """Every component that is not watched is named with the variable that would change that; none has to be."""
    from adinsights_orchestration.health import catalog

    count = len(catalog.watched(world.settings))
    left = [f"{component} ({variable})" for component, variable in catalog.unwatched(world.settings).items()]
    return ok(f"{count} components are watched" + (f"; not watched: {', '.join(left)}" if left else ""))
