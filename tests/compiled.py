"""One cache of compiled statements for all engines of a process.

Belongs here: that cache, for tests alone. Every test has engines of its own, and each would compile again what hundreds
before it have compiled: a tenth of the CPU of tests that speak to a database. Nothing else is shared.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.util import LRUCache

_SIZE = 5000


class _OfAKind:
    """The cache of an engine, shared with those of the same kind of dialect instead of the same dialect.

    Args:
        kind: The dialect's class.
        shared: What all of them have.
    """

    def __init__(self, kind: type, shared: LRUCache[Any, Any]) -> None:
        self._kind, self._shared = kind, shared

    def get(self, key: tuple[Any, ...]) -> Any:
        return self._shared.get((self._kind, *key[1:]))

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        self._shared[(self._kind, *key[1:])] = compiled


def share_compiled_statements() -> None:
    """Lets every engine of this process use the one cache."""
    shared: LRUCache[Any, Any] = LRUCache(_SIZE)
    views: dict[type, _OfAKind] = {}

    def of(engine: sa.Engine) -> _OfAKind:
        kind = type(engine.dialect)
        return views.setdefault(kind, _OfAKind(kind, shared))

    # An engine sets its own in its initializer, whose signature SQLAlchemy reads: it stays as it is.
    sa.Engine._compiled_cache = property(of, lambda _engine, _own: None)  # type: ignore[assignment]
