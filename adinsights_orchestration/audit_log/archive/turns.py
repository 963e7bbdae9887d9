"""Which of the archive's objects a night reads back: the newest days' always, all others within a month.

Belongs here: the choice, as a function of plain values. Does not belong here: reading them back (`reading.verify`).
What is read is an object, so the turn is the object's: of a month in one it is the month's, or each of its days would
have the whole of it read again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import date, timedelta

from adinsights_orchestration.audit_log.bookkeeping.chain import is_of_month, month_period
from adinsights_orchestration.audit_log.model import Chunk

_DAILY = 7  # the newest days, read back from the store every night
_IN_TURN = 30  # of the older objects each night one in so many


def read_back(today: date, closed: date) -> Callable[[Chunk], bool]:
    """Tells of a tenant's day whether its objects are read back this night.

    Args:
        today: The night.
        closed: The newest closed day.
    """
    turn, newest = today.toordinal() % _IN_TURN, closed - timedelta(days=_DAILY - 1)

    def chosen(chunk: Chunk) -> bool:
        if any(is_of_month(key) for key in chunk.files):
            # By tenant too: twelve months in thirty nights would leave most nights nothing and give some all tenants'.
            return zlib.crc32(f"{chunk.tenant} {month_period(chunk.day)}".encode()) % _IN_TURN == turn
        return chunk.day >= newest or chunk.day.toordinal() % _IN_TURN == turn

    return chosen
