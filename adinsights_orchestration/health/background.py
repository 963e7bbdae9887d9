"""Questions that block, asked from the probes' event loop without waiting for them longer than they may take.

Belongs here: threads, and remembering which of them still hang. Does not belong here: any question. A thread cannot be
ended; one that hangs on a server that swallows everything is left behind, and the same question is not asked again
until it comes back, so that an outage of hours leaves one thread a question and not thousands.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")
_busy: set[str] = set()
_lock = threading.Lock()


class StillHangingError(Exception):
    """The same question was asked before and has not come back."""


async def ask(name: str, question: Callable[[], _T], timeout_seconds: float) -> _T:
    """Returns the answer, or raises what the question raised.

    Args:
        name: Tells questions apart.
        question: Blocks.
        timeout_seconds: How long to wait for it.

    Raises:
        TimeoutError: It takes longer.
        StillHangingError: It is still being asked since an earlier time.
    """
    with _lock:
        if name in _busy:
            raise StillHangingError(name)
        _busy.add(name)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()
    thread = threading.Thread(target=_work, args=(name, question, loop, answer), name=f"ask:{name}", daemon=True)
    thread.start()
    async with asyncio.timeout(timeout_seconds):
        return await answer


def _work(name: str, question: Callable[[], _T], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[_T]) -> None:
    try:
        value = question()
    except Exception as error:  # noqa: BLE001  (raised again where it was asked)
        _tell(loop, answer, lambda failure=error: answer.set_exception(failure))  # type: ignore[misc]
    else:
        _tell(loop, answer, lambda: answer.set_result(value))
    finally:
        with _lock:
            _busy.discard(name)


def _tell(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[_T], settle: Callable[[], None]) -> None:
    def settle_once() -> None:
        if not answer.done():
            settle()

    with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
        loop.call_soon_threadsafe(settle_once)
