"""What the doctor says of a deployment that deletes audit rows and has no file of holds and longer windows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from adinsights_orchestration.doctor.checks.registry import overlay
from adinsights_orchestration.doctor.model import Status, Verdict
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import PROJECT_ROOT, RegistrySettings, RetentionSettings, Settings
from adinsights_orchestration.tenants.overlay import parse_overlay

SAMPLE = PROJECT_ROOT / "deploy" / "config" / "tenants.yaml.example"


def look(environment: Environment, *, path: Path | None = None, deletes: bool = True) -> Verdict:
    settings = Settings(
        environment=environment,
        registry=RegistrySettings(overlay_path=path),
        retention=RetentionSettings(dsn=SecretStr("postgresql://audit@db/backend") if deletes else None),
    )
    return overlay(World(settings, {}, datetime(2026, 3, 1, 12, tzinfo=UTC)))


@pytest.mark.parametrize("environment", [Environment.PRODUCTION, Environment.STAGING])
def test_retention_without_an_overlay_is_a_warning_that_says_what_it_means(environment: Environment) -> None:
    found = look(environment)
    assert found.status is Status.WARN
    assert found.detail == (
        "none: every tenant's window is the default (365 days), and no legal hold can come into force"
    )
    assert "ADINSIGHTS_REGISTRY__OVERLAY_PATH" in found.next_step


def test_what_deletes_nothing_and_a_laptop_need_none() -> None:
    assert look(Environment.PRODUCTION, deletes=False).status is Status.OK
    assert look(Environment.LOCAL).status is Status.OK


def test_the_sample_of_a_deployment_says_nothing_yet_and_is_enough() -> None:
    assert parse_overlay(SAMPLE.read_text(), SAMPLE.name) == ()
    assert look(Environment.PRODUCTION, path=SAMPLE).status is Status.OK
