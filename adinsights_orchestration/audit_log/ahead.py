"""Reading ahead: an iterator that another thread pulls, with bounds on what lies in between.

Belongs here: that thread and its end. Does not belong here: what is read.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_T = TypeVar("_T")


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Ahead(Generic[_T]):
    def __init__(self, items: Iterator[_T], most: int, size: Callable[[_T], int], room: int) -> None:
        self._items = items
        self._most, self._size, self._room = most, size, room
        self._ready: deque[tuple[_T | _End, int]] = deque()
        self._held = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._pull, name="audit-read", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[_T]:
        while True:
            item = self._take()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _take(self) -> _T | _End:
        with self._changed:
            self._changed.wait_for(lambda: self._ready)
            item, size = self._ready.popleft()
            self._held -= size
            self._changed.notify_all()
            return item

    def _pull(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item, self._size(item)):
                    return
        except BaseException as failure:  # noqa: BLE001  (raised again where it is waited for)
            error = failure
        self._put(_End(error), 0)

    def _put(self, item: _T | _End, size: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._has_room(size))
            if self._stopped:
                return False
            self._ready.append((item, size))
            self._held += size
            self._changed.notify_all()
            return True

    def _has_room(self, size: int) -> bool:
        """One item is always taken, however large it is."""
        return not self._ready or (len(self._ready) < self._most and self._held + size <= self._room)


@contextmanager
def read_ahead(
    items: Iterator[_T], most: int, size: Callable[[_T], int] = lambda _: 0, room: int = 0
) -> Iterator[Iterator[_T]]:
    """The same items, pulled by a thread that keeps some ready; an error comes out where its item would.

    Args:
        items: What is pulled.
        most: At most so many are kept ready.
        size: How large one is.
        room: And at most so much of them together; one that is larger is kept alone.
    """
    ahead = _Ahead(items, most, size, room)
    ahead.start()
    try:
        yield iter(ahead)
    finally:
        ahead.stop()
