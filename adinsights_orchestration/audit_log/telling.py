"""Saying every few seconds how far a long piece of work is.

Belongs here: the beat. Does not belong here: what is said, and by whom it is read. Whoever watches a run that archives
a year sees that it goes on, and how fast.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adinsights_orchestration.errors import AdinsightsError


@contextmanager
def telling(say: Callable[[str], object], progress: Callable[[], str], *, every_seconds: float) -> Iterator[None]:
    """Says what has changed since it was said last, while the block runs.

    Args:
        say: Takes a line.
        progress: What is to be said now; an empty text says nothing. When it fails nothing is said either: the work
            goes on, and its own errors are its own.
        every_seconds: The pause between two looks.
    """
    over = threading.Event()

    def beat() -> None:
        said = ""
        while not over.wait(every_seconds):
            try:
                now = progress()
            except AdinsightsError:
                continue
            if now and now != said:
                say(now)
                said = now

    thread = threading.Thread(target=beat, name="audit-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
