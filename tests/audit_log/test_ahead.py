"""Reading ahead keeps no more ready than it may, in number and in size, and loses neither items nor errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from adinsights_orchestration.audit_log.ahead import read_ahead

PATIENCE_SECONDS = 30.0


class Pulled:
    """Items that say how many of them have been pulled."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.count, self.changed = sizes, 0, threading.Condition()

    def __iter__(self) -> Iterator[int]:
        for size in self.sizes:
            with self.changed:
                self.count += 1
                self.changed.notify_all()
            yield size

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.count >= count, PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("sizes", "room", "pulled"),
    [
        ([1] * 20, 0, 2),  # one is kept alone where there is no room, and one waits to be taken in
        ([1] * 20, 5, 6),
        ([5, 5, 5, 5], 10, 3),
        ([100, 1, 1, 1], 10, 2),  # one that is larger than the room is kept alone
        ([1] * 20, 1000, 9),  # the number binds
    ],
)
def test_no_more_is_read_than_there_is_room_for(sizes: list[int], room: int, pulled: int) -> None:
    items = Pulled(sizes)
    with read_ahead(iter(items), 8, lambda size: size, room) as ahead:
        items.wait_for(pulled)
        assert items.count == pulled
        assert list(ahead) == sizes


def test_an_error_comes_out_where_its_item_would() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("of the third thing")

    with read_ahead(failing(), 8) as ahead:
        assert next(ahead) == 1
        with pytest.raises(ValueError, match="of the third thing"):
            next(ahead)


def test_whoever_stops_early_leaves_no_thread() -> None:
    items = Pulled([1] * 1000)
    before = set(threading.enumerate())
    with read_ahead(iter(items), 2) as ahead:
        assert next(ahead) == 1
    assert set(threading.enumerate()) <= before  # some of which may end meanwhile
    assert items.count < 1000
