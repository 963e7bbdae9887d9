"""SIGKILL at random points of the real archiving process: no row lost, none twice, and the chain whole."""

from __future__ import annotations

import multiprocessing
import random
import signal
from datetime import timedelta

import pytest

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from tests.audit_log.archive.test_run import archived, exactly
from tests.audit_log.conftest import LAST, NOW, Place
from tests.audit_log.killing import once_the_locks_are_free
from tests.audit_log.rows import FIRST, Row, moment

PROCESSES = multiprocessing.get_context("forkserver")  # a process of its own, without the imports of a new interpreter
PROCESSES.set_forkserver_preload([__name__])
LONGEST_SECONDS = 1.2


def archive_all(settings: Settings, folder: str) -> None:
    from pathlib import Path

    store = OpsStore(settings.ops_store)
    Archiver(settings, store, AUDIT_LOG, Folder(Path(folder)), clock=lambda: NOW).run(FIRST, LAST, actor="killed")


def kill_again_and_again(place: Place, times: int, rng: random.Random) -> int:
    """Returns how many processes were killed before they were done."""
    killed = 0
    for number in range(times):
        if number % 3 == 2:
            day = FIRST + timedelta(days=rng.randrange(6))
            place.add([Row(rng.choice(place.tenants), moment(day, rng.randrange(86_000)))])
        process = PROCESSES.Process(target=archive_all, args=(place.settings, str(place.folder)))
        process.start()
        process.join(rng.uniform(0.05, LONGEST_SECONDS))
        process.kill()  # and not os.kill: it may end by itself at this very moment
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    return killed


def survives(place: Place, times: int, seed: int) -> None:
    killed = kill_again_and_again(place, times, random.Random(seed))
    once_the_locks_are_free(place.archive, "already")
    assert killed
    assert archived(place) == exactly(place.rows)
    report = verify_range(place.store, AUDIT_LOG, FIRST, LAST)
    assert (report.problems, report.missing, report.rows) == ([], [], len(place.rows))
    assert place.archive().objects == 0


def test_twenty_kills_lose_and_double_nothing(place: Place) -> None:
    survives(place, 20, seed=1)


@pytest.mark.soak
def test_five_hundred_kills_lose_and_double_nothing(place: Place) -> None:
    survives(place, 500, seed=2)
