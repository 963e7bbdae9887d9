"""What follows a process that was killed: Postgres gives its locks up when it notices that it is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from adinsights_orchestration.errors import AdinsightsError
from tests.conftest import HANG_SECONDS

T = TypeVar("T")


def once_the_locks_are_free(work: Callable[[], T], *refusals: str) -> T:
    """Does the work as soon as it is not refused any more in these words; how long that takes only bounds a failure."""
    until = time.monotonic() + HANG_SECONDS
    while True:
        try:
            return work()
        except AdinsightsError as error:
            if time.monotonic() > until or not any(words in str(error) for words in refusals):
                raise
        time.sleep(0.02)
