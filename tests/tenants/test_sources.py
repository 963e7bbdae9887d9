"""The two sources: everything or an error, never half."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from uuid import UUID

import pytest

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import RegistrySettings, RegistrySource, Settings
from adinsights_orchestration.tenants.raw import RawConnection
from adinsights_orchestration.tenants.sources import read, read_backend, read_yaml
from tests.backend.backend_tables import Backend, backend_settings, create_backend, database_of
from tests.conftest import PostgresServer
from tests.tenants.builders import ACME, GLOBEX

REGISTRY = f"""
tenants:
  - id: {ACME}
    name: Acme Jamaica Ltd
    connections:
      - provider: meta
        name: Meta Ads
        connection_id: 1f0c2a9b-0000-4000-8000-000000000001
        workspace_id: 1f0c2a9b-0000-4000-8000-0000000000aa
        schedule: {{cron: "0 6-22 * * *"}}
      - provider: GOOGLE
        name: Google Ads
        connection_id: 1f0c2a9b-0000-4000-8000-000000000002
        schedule: {{interval_minutes: 60}}
        active: false
      - id: 1f0c2a9b-0000-4000-8000-0000000000bb
        provider: ga4
        name: 2026
        connection_id: 1f0c2a9b-0000-4000-8000-000000000003
        schedule: manual
  - id: {GLOBEX}
    name: Globex
"""


def _fill(backend: Backend) -> tuple[UUID, UUID, list[UUID]]:
    acme, globex = backend.add_tenant("Acme"), backend.add_tenant("Globex")
    backend.add_tenant("Nobody's")
    rows = [
        backend.add_connection(acme, "Meta", created_at="2025-01-01T00:00:00Z"),
        backend.add_connection(
            acme, "Odd", provider=None, schedule_type="cron", interval_minutes=None, is_active=False
        ),
        backend.add_connection(globex, "GA", provider="GOOGLE_ANALYTICS", workspace_id=acme),
    ]
    return acme, globex, rows


@pytest.mark.parametrize("role", ["superuser", "plain role", "bypassing role", "owner", "forced owner"])
def test_every_role_reads_the_whole_registry(backend: Backend, role: str) -> None:
    _, globex, rows = _fill(backend)
    dsns: dict[str, Callable[[], str]] = {
        "superuser": lambda: backend.dsn,
        "plain role": backend.role,
        "bypassing role": lambda: backend.role("bypassrls"),
        "owner": lambda: backend.owner_role(forced=False),
        "forced owner": lambda: backend.owner_role(forced=True),
    }
    raw = read_backend(database_of(dsns[role]()))
    assert {tenant.name for tenant in raw.tenants} == {"Acme", "Globex", "Nobody's"}
    assert {connection.row_id for connection in raw.connections} == set(rows)
    by_name = {connection.name: connection for connection in raw.connections}
    assert (by_name["Odd"].provider, by_name["Odd"].interval_minutes, by_name["Odd"].is_active) == (None, None, False)
    assert by_name["GA"].tenant_id == globex
    assert by_name["Meta"].place == f"integrations_airbyteconnection {by_name['Meta'].row_id}"


def test_postgres_15_gives_a_plain_role_the_same_registry(postgres_15_server: PostgresServer) -> None:
    backend = create_backend(postgres_15_server.create_database)
    _, _, rows = _fill(backend)
    raw = read_backend(database_of(backend.role()))
    assert {connection.row_id for connection in raw.connections} == set(rows)


def test_tenants_come_oldest_first(backend: Backend) -> None:
    for name, created_at in (("Newer", "2026-02-01"), ("Older", "2026-01-01")):
        backend.execute("insert into accounts_tenant values (gen_random_uuid(), %s, %s::timestamptz)", name, created_at)
    assert [tenant.name for tenant in read_backend(database_of(backend.dsn)).tenants] == ["Older", "Newer"]


def test_a_file_holds_the_same_as_the_backends_tables(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY)
    raw = read_yaml(path)
    assert [(tenant.name, tenant.place) for tenant in raw.tenants] == [
        ("Acme Jamaica Ltd", "registry.yaml:3"),
        ("Globex", "registry.yaml:21"),
    ]
    assert [_summary(connection) for connection in raw.connections] == [
        ("meta", "Meta Ads", "cron", None, "0 6-22 * * *", True),
        ("GOOGLE", "Google Ads", "interval", 60, None, False),
        ("ga4", "2026", "manual", None, None, True),
    ]
    assert raw.connections[0].workspace_id == UUID("1f0c2a9b-0000-4000-8000-0000000000aa")
    assert raw.connections[0].place == "registry.yaml:6"
    assert raw.connections[2].row_id == UUID("1f0c2a9b-0000-4000-8000-0000000000bb")


def _summary(connection: RawConnection) -> tuple[object, ...]:
    return (
        connection.provider,
        connection.name,
        connection.schedule_type,
        connection.interval_minutes,
        connection.cron_expression,
        connection.is_active,
    )


def test_a_row_without_an_id_has_the_same_one_at_every_read_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY)
    before = read_yaml(path).connections
    path.write_text(REGISTRY.replace("Meta Ads", "Renamed"))
    after = read_yaml(path).connections
    assert [each.row_id for each in after] == [each.row_id for each in before]
    assert len({each.row_id for each in after}) == 3


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("provider: meta", "platform: meta", 6, "unknown key 'platform'"),
        ("        name: Meta Ads\n", "", 6, "the key 'name' is missing"),
        ("name: Globex", "name: Globex\n    connections: none", 23, "should be a list"),
        ("active: false", "active: nope", 15, "true or false"),
        ("interval_minutes: 60", "interval_minutes: 1h", 14, "whole number"),
        ("interval_minutes: 60", "interval_minutes: 60, cron: '* * * * *'", 14, "not both"),
        ("connection_id: 1f0c2a9b-0000-4000-8000-000000000001", "connection_id: 1f0c", 8, "'1f0c' is not a UUID"),
        ("tenants:", "tenant:", 2, "unknown key 'tenant'"),
        ("    name: Globex\n", "    name: 'Globex\n", 22, "malformed YAML"),
    ],
)
def test_whatever_is_wrong_with_the_file_is_an_error_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=re.escape(words)) as caught:
        read_yaml(path)
    assert caught.value.place == f"registry.yaml:{line}"


@pytest.mark.parametrize("schedule", ["", "        schedule: {}\n", "        schedule: {interval_minutes: }\n"])
def test_a_schedule_that_says_nothing_is_carried_to_the_rules(tmp_path: Path, schedule: str) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY.replace("        schedule: {interval_minutes: 60}\n", schedule))
    google = read_yaml(path).connections[1]
    assert (google.schedule_type, google.interval_minutes) == ("interval" if schedule else "manual", None)


def test_an_empty_file_is_an_empty_registry_for_the_guard_to_judge(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("# everybody left\n")
    assert read_yaml(path).tenants == ()


def test_a_file_that_is_missing_a_folder_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ADINSIGHTS_REGISTRY__YAML_PATH.*No such file"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_yaml(tmp_path)
    path = tmp_path / "latin1.yaml"
    path.write_bytes(dedent("tenants:\n  - name: Café\n").encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"latin1\.yaml:2: this is not UTF-8"):
        read_yaml(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.touch(mode=0)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        read_yaml(path)


def test_the_settings_choose_the_source_and_lay_the_overlay_over_either(backend: Backend, tmp_path: Path) -> None:
    backend.add_tenant("Acme", ACME)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    (tmp_path / "tenants.yaml").write_text(f"tenants:\n  - id: {ACME}\n    slug: chosen\n")
    names = {}
    for source in RegistrySource:
        registry = RegistrySettings(
            source=source, yaml_path=tmp_path / "registry.yaml", overlay_path=tmp_path / "tenants.yaml"
        )
        reading = read(Settings(registry=registry, backend=backend_settings(backend.dsn)))
        names[source] = reading.raw.tenants[0].name
        assert [entry.slug for entry in reading.overlay] == ["chosen"]
        assert reading.overlay_text.startswith("tenants:")
    assert names == {RegistrySource.BACKEND: "Acme", RegistrySource.YAML: "Acme Jamaica Ltd"}


def test_a_file_source_without_a_file_and_an_overlay_that_is_missing_name_their_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ADINSIGHTS_REGISTRY__YAML_PATH: the registry's source is a file"):
        read(Settings(registry=RegistrySettings(source=RegistrySource.YAML)))
    with pytest.raises(ConfigurationError, match="ADINSIGHTS_REGISTRY__OVERLAY_PATH"):
        read(Settings(registry=RegistrySettings(overlay_path=tmp_path / "nowhere.yaml")))
