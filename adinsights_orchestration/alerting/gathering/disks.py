"""The disks that this deployment writes to, and how much room is left on each.

Belongs here: asking the operating system. Does not belong here: when it is too little (`rules`). A folder that does not
exist yet is asked of the nearest one above it, which may lie on another disk than the one that was mounted there: what
that one was told of is not over. Several on one disk are one.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adinsights_orchestration.alerting.facts import Disk
from adinsights_orchestration.settings import Settings

_MISSING = "the folder is not there"
_SILENT = "its disk does not answer"
_WAITS_SECONDS = 5.0

_guard = threading.Lock()
_asking: dict[Path, _Asking] = {}  # of this process: at most one thread waits for a folder, however long it takes


def folders(settings: Settings) -> list[Path]:
    """Where this deployment writes: dbt's results and its work, and the status file."""
    found = [settings.dbt.run_results_path.parent, settings.dbt.project_dir]
    if settings.health.status_path is not None:
        found.append(settings.health.status_path.parent)
    return found


def read(places: Iterable[Path], seconds: float = _WAITS_SECONDS) -> list[Disk]:
    """Returns the disks below these folders, each once, under the first folder on it; and folders that say nothing.

    Args:
        places: The folders.
        seconds: How long all of them together may take to answer.
    """
    disks: list[Disk] = []
    devices: set[int] = set()
    for place, answer in _asked(list(dict.fromkeys(places)), seconds):
        if answer.device is None:
            disks.append(Disk(str(place), None, answer.problem))
        elif answer.device not in devices:
            devices.add(answer.device)
            disks.append(Disk(str(place), answer.free, answer.problem))
        elif answer.problem:
            disks.append(Disk(str(place), None, answer.problem))
    return disks


@dataclass(slots=True)
class _Answer:
    """What was learned of a folder's disk; no device where nothing was."""

    problem: str
    device: int | None = None
    free: float | None = None


class _Asking(threading.Thread):
    """Asks of one folder: a disk of a server that has gone may answer after hours, and nothing can interrupt it."""

    def __init__(self, place: Path) -> None:
        super().__init__(name=f"disk {place}", daemon=True)
        self._place = place
        self.since = time.monotonic()
        self.answer = _Answer(_SILENT)

    def run(self) -> None:
        self.answer = _ask(self._place)


def _asked(places: Sequence[Path], seconds: float) -> Iterator[tuple[Path, _Answer]]:
    """Each folder with its answer, all asked at once; one that hangs is neither asked nor waited for again."""
    with _guard:
        for place in places:
            if place not in _asking or not _asking[place].is_alive():
                _asking[place] = _Asking(place)
                _asking[place].start()
        mine = [(place, _asking[place]) for place in places]
    for place, asking in mine:
        asking.join(max(asking.since + seconds - time.monotonic(), 0))
        yield place, asking.answer


def _ask(place: Path) -> _Answer:
    try:
        folder = next(each for each in (place, *place.absolute().parents) if each.exists())
        usage = shutil.disk_usage(folder)
        problem = "" if folder == place else _MISSING
        return _Answer(problem, folder.stat().st_dev, round(100 * usage.free / usage.total, 1))
    except (OSError, ZeroDivisionError) as error:
        said = error.strerror if isinstance(error, OSError) else None
        return _Answer(said or "its disk has no size")
