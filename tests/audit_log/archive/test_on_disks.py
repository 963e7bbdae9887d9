"""An archive in a folder whose disk is full or read-only: what is said, that nothing is lost, that the next run heals.

The disk is a real one of some hundred kilobytes, which only root may mount.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.errors import StoreError
from tests.audit_log.archive.test_run import archived
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.rows import FIRST

KB = 1024


@pytest.fixture
def disk(place: Place) -> Iterator[Path]:
    """The archive's folder, on a disk of its own."""
    place.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place.folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    yield place.folder
    subprocess.run(["umount", str(place.folder)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def leave(disk: Path, size: int) -> Path:
    """Fills the disk up to so many bytes."""
    filling = disk / "filling"
    filling.write_bytes(b"x" * (2048 * KB - size))
    return filling


def heals(place: Place) -> None:
    place.archive()
    report = verify_range(place.store, AUDIT_LOG, FIRST, LAST)
    assert (report.problems, report.missing, report.rows) == ([], [], len(place.rows))
    assert archived(place) == Counter(row.id for row in place.rows)
    assert not [path for path in place.folder.rglob("*.new") if path.is_file()]


@pytest.mark.parametrize("left", [0, 40 * KB])
def test_a_full_disk_stops_the_archive_leaves_nothing_half_written_and_the_next_run_goes_on(
    place: Place, disk: Path, left: int
) -> None:
    filling = leave(disk, left)
    with pytest.raises(StoreError, match="No space left on device") as raised:
        place.archive()
    assert raised.value.next_step.startswith("The disk is full; free some of it.")
    for manifest in chain.follow(place.store, AUDIT_LOG.name):  # what was sealed before holds
        assert not verify_range(place.store, AUDIT_LOG, manifest.first_day, manifest.last_day).problems
    assert not list(disk.rglob("*.new"))
    filling.unlink()
    heals(place)


def test_a_disk_that_became_read_only_stops_the_archive_and_can_still_be_proven(place: Place, disk: Path) -> None:
    place.archive(last=FIRST)
    remount(disk, "ro")
    with pytest.raises(StoreError, match="mount it for writing"):
        place.archive()
    assert not verify_range(place.store, AUDIT_LOG, FIRST, FIRST).problems
    remount(disk, "rw")
    heals(place)
