"""`--tenant` of commands about one tenant's archive: a slug, a name or an id, those who have left included."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from adinsights_orchestration.cli.selection import SelectionError, tenant_id
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Registry, Tenant

ACME, GLOBEX = Tenant(uuid4(), "Acme Jamaica Ltd", "acme-jamaica"), Tenant(uuid4(), "Globex", "globex")
LEFT = replace(Tenant(uuid4(), "Initech", "initech"), retired=True)
NAMESAKE = Tenant(uuid4(), "Globex", "globex-2")


@pytest.fixture
def settings(ops_store: OpsStore) -> Settings:
    registry = Registry((ACME, GLOBEX, LEFT, NAMESAKE), (), "test", utc_now())
    with ops_store.begin() as connection:
        snapshot = registry_store.write_snapshot(connection, "1", registry, None)
        registry_store.write_success(connection, snapshot, utc_now())
    return Settings(ops_store=ops_store._settings)


def test_a_tenant_is_found_by_slug_name_and_id_even_after_it_left(settings: Settings) -> None:
    assert {tenant_id(settings, text) for text in ("acme-jamaica", "Acme Jamaica Ltd", str(ACME.id))} == {ACME.id}
    assert tenant_id(settings, "initech") == LEFT.id


def test_a_name_that_two_have_is_refused_with_both_ids(settings: Settings) -> None:
    with pytest.raises(SelectionError) as refused:
        tenant_id(settings, "Globex")
    assert all(str(each.id) in str(refused.value) for each in (GLOBEX, NAMESAKE))


def test_nobody_is_told_with_those_there_are(settings: Settings) -> None:
    with pytest.raises(SelectionError, match="Known: acme-jamaica, globex, globex-2, initech"):
        tenant_id(settings, "umbrella")


def test_an_id_is_taken_as_it_is_where_no_ops_store_answers() -> None:
    away = Settings(ops_store=OpsStoreSettings(dsn=SecretStr("postgresql://nobody@127.0.0.1:1/none")))
    assert tenant_id(away, str(ACME.id)) == ACME.id
