"""A backend's database for the tests that read the registry from one."""

from __future__ import annotations

import pytest

from tests.backend.backend_tables import Backend, create_backend
from tests.conftest import PostgresServer


@pytest.fixture
def backend(postgres_server: PostgresServer) -> Backend:
    """The backend's tables in a database of this test's own."""
    return create_backend(postgres_server.create_database)
