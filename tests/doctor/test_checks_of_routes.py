"""What the doctor finds out about who is told: an alert file, and a mail server that takes what it names."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from adinsights_orchestration.alerting.configuration.alert_file import load_alerts
from adinsights_orchestration.alerting.contacts import OWNERS, is_placeholder
from adinsights_orchestration.doctor.checks.alerting import routes
from adinsights_orchestration.doctor.model import Status, Verdict
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import PROJECT_ROOT, AlertingSettings, Settings, SmtpSettings

OWN = """contacts:
  data-eng: data@acme.test.io
  platform-eng: platform@acme.test.io
  marketing-ops: { mail: marketing@acme.test.io, words: customers }
"""
SAMPLE = PROJECT_ROOT / "deploy" / "config" / "alerts.yaml.example"


def look(path: Path | None, *, environment: Environment = Environment.PRODUCTION, mail: bool = True) -> Verdict:
    settings = Settings(
        environment=environment,
        smtp=SmtpSettings(host="mail.acme.io") if mail else SmtpSettings(),
        alerting=AlertingSettings(alerts_path=path),
    )
    return routes(World(settings, {}, datetime(2026, 3, 1, 12, tzinfo=UTC)))


@pytest.mark.parametrize("environment", [Environment.PRODUCTION, Environment.STAGING])
def test_pages_to_the_shipped_placeholders_are_a_failure_with_what_to_do(environment: Environment) -> None:
    found = look(None, environment=environment)
    assert found.status is Status.FAIL
    assert found.detail.startswith("mail goes to data-eng@example.com, platform-eng@example.com")
    assert "ADINSIGHTS_ALERTING__ALERTS_PATH" in found.next_step


def test_on_a_laptop_they_are_as_they_should_be() -> None:
    assert look(None, environment=Environment.LOCAL).status is Status.OK


def test_without_a_mail_server_nothing_goes_to_them_and_that_is_what_is_told() -> None:
    found = look(None, mail=False)
    assert found.status is Status.WARN
    assert "not configured: mail, slack" in found.detail


def test_contacts_of_ones_own_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(OWN)
    assert "not configured: slack" in look(path).detail


def test_one_placeholder_that_is_left_is_named_and_one_that_no_route_uses_is_not(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(OWN.replace("platform@acme.test.io", "platform@mail.example.org"))
    assert look(path).detail == "mail goes to platform@mail.example.org, which nobody reads"
    path.write_text(OWN + "  nobody-s: unused@example.com\nroutes:\n  - to: [mail:data-eng]\n")
    assert look(path).status is Status.WARN


def test_the_sample_of_a_deployment_is_the_contacts_alone_and_still_placeholders() -> None:
    assert set(load_alerts(SAMPLE).contacts) == set(OWNERS)
    assert load_alerts(SAMPLE) == load_alerts()
    assert look(SAMPLE).status is Status.FAIL


@pytest.mark.parametrize(
    ("address", "reserved"),
    [
        ("a@example.com", True),
        ("a@mail.Example.NET", True),
        ("a@example.org", True),
        ("a@corp.invalid", True),
        ("a@corp.example", True),
        ("a@corp.test", True),
        ("root@localhost", True),
        ("a@example.io", False),
        ("a@myexample.com", False),
        ("a@example.com.jm", False),
        ("a@corp.testing", False),
    ],
)
def test_domains_that_are_reserved_for_examples_are_known(address: str, reserved: bool) -> None:
    assert is_placeholder(address) is reserved
