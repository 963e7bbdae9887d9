"""Dagster's storage is migrated as `dagster instance migrate` does it, and left alone where a newer Dagster was."""

from __future__ import annotations

import pytest
from alembic.util import CommandError
from dagster_postgres import PostgresRunStorage
from sqlalchemy import text

from adinsights_orchestration.dagster_internals.storage_schema import upgraded
from tests.conftest import PostgresServer, dagster_instance_on


def test_a_storage_that_a_newer_dagster_has_migrated_is_no_failure(postgres_server: PostgresServer) -> None:
    with dagster_instance_on(postgres_server) as instance:
        storage = instance.run_storage
        assert isinstance(storage, PostgresRunStorage)
        assert upgraded(instance)
        with storage.connect() as connection:
            known = connection.execute(text("select version_num from alembic_version")).scalar_one()
            connection.execute(text("update alembic_version set version_num = 'ffffffffffff'"))
        try:
            assert not upgraded(instance)
            with pytest.raises(CommandError, match="Can't locate revision"):
                instance.upgrade()
        finally:
            with storage.connect() as connection:
                connection.execute(text("update alembic_version set version_num = :known"), {"known": known})
        assert upgraded(instance)
