"""The disks that this deployment writes to, and how much room is left on each.

Belongs here: asking the operating system. Does not belong here: when it is too little (`rules`). A folder that does not
exist yet is asked of the nearest one above it; several on one disk are one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from adinsights_orchestration.alerting.facts import Disk
from adinsights_orchestration.settings import Settings


def folders(settings: Settings) -> list[Path]:
    """Where this deployment writes: dbt's results and its work, and the status file."""
    found = [settings.dbt.run_results_path.parent, settings.dbt.project_dir]
    if settings.health.status_path is not None:
        found.append(settings.health.status_path.parent)
    return found


def read(places: Iterable[Path]) -> list[Disk]:
    """Returns the disks below these folders; one that cannot be asked is left out, its users say so themselves."""
    disks: dict[int, Disk] = {}
    for place in places:
        try:
            folder = next(each for each in (place, *place.absolute().parents) if each.exists())
            device = folder.stat().st_dev
            if device not in disks:
                usage = shutil.disk_usage(folder)
                disks[device] = Disk(str(folder), round(100 * usage.free / usage.total, 1))
        except (OSError, StopIteration, ZeroDivisionError):
            continue
    return list(disks.values())
