"""Reading ahead: an iterator that another thread pulls, with a bound on what lies in between.

Belongs here: that thread and its end. Does not belong here: what is read.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_T = TypeVar("_T")
_PATIENCE_SECONDS = 0.5


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Ahead(Generic[_T]):
    def __init__(self, items: Iterator[_T], most: int) -> None:
        self._items = items
        self._queue: queue.Queue[_T | _End] = queue.Queue(most)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._pull, name="audit-read", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[_T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _pull(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as failure:  # noqa: BLE001  (raised again where it is waited for)
            error = failure
        self._put(_End(error))

    def _put(self, item: _T | _End) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE_SECONDS)
            except queue.Full:
                continue
            return True
        return False


@contextmanager
def read_ahead(items: Iterator[_T], most: int) -> Iterator[Iterator[_T]]:
    """The same items, pulled by a thread that keeps at most so many ready; an error comes out where its item would."""
    ahead = _Ahead(items, most)
    ahead.start()
    try:
        yield iter(ahead)
    finally:
        ahead.stop()
