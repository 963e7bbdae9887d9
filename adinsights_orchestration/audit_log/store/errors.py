"""What may go wrong with a store of objects.

Belongs here: the failures that every kind of store has. Does not belong here: the stores (`bucket`, `folder`).
"""

from __future__ import annotations

from adinsights_orchestration.errors import AdinsightsError


class StoreError(AdinsightsError):
    """The store does not do what it was asked; what it holds is as it was, or holds the new object whole."""


class ObjectExistsError(StoreError):
    """The key exists, and nothing is ever overwritten."""


class MissingObjectError(StoreError):
    """There is no object of this key."""


class AwayError(StoreError):
    """The store itself does not serve anybody now, which was waited for: the next object will fare no better."""


class RefusedError(StoreError):
    """The store does not allow it: its own rules (object lock, a retention policy) or our rights forbid it."""
