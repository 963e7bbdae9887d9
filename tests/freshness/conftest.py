"""The world of a test of freshness."""

from __future__ import annotations

import pytest

from adinsights_orchestration.ops_store.store import OpsStore
from tests.freshness.world import World


@pytest.fixture
def world(ops_store: OpsStore) -> World:
    """An ops store of this test's own, and a clock that it moves."""
    return World(ops_store)
