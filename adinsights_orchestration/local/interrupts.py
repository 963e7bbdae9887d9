"""What Ctrl-C, SIGTERM and a closed terminal do to a command of the local stack: it undoes what it began, then ends.

Belongs here: signals of the command's own process. Does not belong here: what is undone. Only for the main thread,
where Python runs signal handlers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.05


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises `KeyboardInterrupt` in the block on SIGTERM and on SIGHUP too, and again where Python dropped it."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)  # whoever takes that one for himself shall have this one too

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: interrupt, signal.SIGHUP: hang_up}
    with _handling(handlers), _delivered_again():
        yield


@contextmanager
def deaf() -> Iterator[None]:
    """Lets nothing interrupt the block: what it would have stopped would otherwise go on for ever."""
    with _handling(dict.fromkeys(_ENDING, signal.SIG_IGN)):
        yield


@contextmanager
def undone_on(kind: type[BaseException], undo: Callable[[], object], *, unless: bool = False) -> Iterator[None]:
    """Undoes what the block began, uninterruptibly, when it ends with such an exception.

    Args:
        kind: Which exceptions.
        undo: How to undo it.
        unless: Leave everything as it is: it was there before the block.
    """
    try:
        yield
    except kind:
        if not unless:
            with deaf():
                undo()
        raise


@contextmanager
def never_swallowed() -> Iterator[None]:
    """Raises `KeyboardInterrupt` after the block when a signal came that the code inside took for itself.

    Dagster puts handlers of its own in place while it runs a job in this process, and makes a failed run of a signal.
    The kernel's signal is noticed all the same: Python writes its number to the wakeup descriptor first.
    """
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        seen = os.read(reading, 4096)
        os.close(reading)
    if any(number in _ENDING for number in seen):
        raise KeyboardInterrupt


@contextmanager
def _delivered_again() -> Iterator[None]:
    """Sends SIGINT once more when `KeyboardInterrupt` fell into code that cannot raise: a finalizer, a weak reference.

    Python prints such an exception and goes on as if there had been none. Where the block ends by another one before
    that, nothing is sent: it would hit whatever comes after the block.
    """
    before = sys.unraisablehook
    timers: list[threading.Timer] = []

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        timer = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timers.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    except KeyboardInterrupt:
        for timer in timers:
            timer.cancel()
        raise
    finally:
        sys.unraisablehook = before


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    # What the caller had ignored (nohup, a shell's background job) stays ignored.
    before = {number: signal.getsignal(number) for number in handlers}
    mine = [number for number, old in before.items() if old is not signal.SIG_IGN]
    for number in mine:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
