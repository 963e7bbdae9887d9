"""Servers of the local stack, over real HTTP, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.airbyte_support import AirbyteServer, airbyte_server


@pytest.fixture
def airbyte() -> Iterator[AirbyteServer]:
    """An Airbyte server whose syncs take 30 s of a clock that only the test moves."""
    with airbyte_server() as server:
        yield server
