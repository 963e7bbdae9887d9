"""The disks that this deployment writes to, and how much room is left on each.

Belongs here: asking the operating system. Does not belong here: when it is too little (`rules`). A folder that does not
exist yet is asked of the nearest one above it, which may lie on another disk than the one that was mounted there: what
that one was told of is not over. Several on one disk are one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from adinsights_orchestration.alerting.facts import Disk
from adinsights_orchestration.settings import Settings

_MISSING = "the folder is not there"


def folders(settings: Settings) -> list[Path]:
    """Where this deployment writes: dbt's results and its work, and the status file."""
    found = [settings.dbt.run_results_path.parent, settings.dbt.project_dir]
    if settings.health.status_path is not None:
        found.append(settings.health.status_path.parent)
    return found


def read(places: Iterable[Path]) -> list[Disk]:
    """Returns the disks below these folders, each once, under the first folder on it; and folders that say nothing."""
    disks: list[Disk] = []
    devices: set[int] = set()
    for place in places:
        try:
            folder = next(each for each in (place, *place.absolute().parents) if each.exists())
            device, problem = folder.stat().st_dev, "" if folder == place else _MISSING
            if device not in devices:
                usage = shutil.disk_usage(folder)
                disks.append(Disk(str(place), round(100 * usage.free / usage.total, 1), problem))
                devices.add(device)
            elif problem:
                disks.append(Disk(str(place), None, problem))
        except (OSError, ZeroDivisionError) as error:
            said = error.strerror if isinstance(error, OSError) else None
            disks.append(Disk(str(place), None, said or "its disk has no size"))
    return disks
