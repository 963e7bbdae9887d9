"""An archive in a folder whose disk is full, read-only or away: what is said, that nothing is lost, that it heals.

The disk that fills is a real one of some hundred kilobytes, which only root may mount.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.chain import WrongArchiveError
from adinsights_orchestration.audit_log.bookkeeping.manifest import ManifestError
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.errors import StoreError
from tests.audit_log.archive.test_run import archived
from tests.audit_log.conftest import DAYS, LAST, Place
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


def test_an_archive_that_is_not_mounted_is_not_begun_anew_and_goes_on_once_it_is(place: Place) -> None:
    place.archive(last=LAST - timedelta(days=1))
    away = place.folder.rename(place.folder.with_name("not mounted"))
    with pytest.raises(WrongArchiveError, match="Mount the archive's disk"):
        place.archive()
    assert not place.folder.exists()
    place.folder.mkdir()  # the mount point
    with pytest.raises(WrongArchiveError):
        place.archive()
    assert not list(place.folder.iterdir())
    place.folder.rmdir()
    away.rename(place.folder)
    heals(place)
    assert [each.sequence for each in chain.follow(place.store, AUDIT_LOG.name)] == list(range(1, DAYS + 1))


def test_an_archive_with_another_end_is_not_added_to(place: Place) -> None:
    place.archive(last=FIRST)
    end = place.store.path(chain.manifest_key(AUDIT_LOG.name, 1))
    end.write_bytes(end.read_bytes() + b" ")
    with pytest.raises(ManifestError, match="not the one that was sealed"):
        place.archive()
    assert len(list(end.parent.iterdir())) == 1
