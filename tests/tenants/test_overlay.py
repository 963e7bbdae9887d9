"""The overlay file: what it adds, and errors that name the line."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.tenants.overlay import match_overlay, parse_overlay
from tests.tenants.builders import ACME, GLOBEX, built, raw_connection, raw_tenant

EVERYTHING = f"""
tenants:
  - name: Acme Jamaica Ltd
    slug: acme-jamaica
    timezone: America/Jamaica
    owner: team:acme
    retention_days: 2555
    legal_hold: yes
    sla: {{sync_age_warn_minutes: 90, meta_source_error_hours: 6.5}}
  - id: {GLOBEX}
    timezone: Europe/London
"""


def test_an_overlay_adds_what_the_source_does_not_know() -> None:
    registry = built(
        raw_tenant(), raw_tenant(GLOBEX, "Globex"), raw_connection(), raw_connection(GLOBEX), overlay=EVERYTHING
    )
    acme, globex = registry.tenant(ACME), registry.tenant(GLOBEX)
    assert (acme.slug, acme.timezone, acme.owner) == ("acme-jamaica", "America/Jamaica", "team:acme")
    assert (acme.retention_days, acme.legal_hold) == (2555, True)
    assert acme.sla == {"sync_age_warn_minutes": 90, "meta_source_error_hours": 6.5}
    assert (globex.slug, globex.timezone, globex.retention_days, globex.legal_hold) == (
        "globex",
        "Europe/London",
        365,
        False,
    )
    assert registry.problems == ()


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "tenants:\n", "tenants: []\n"])
def test_an_overlay_that_says_nothing_changes_nothing(text: str) -> None:
    assert parse_overlay(text, "tenants.yaml") == ()


BROKEN = {
    "tab": ("tenants:\n\t- name: A\n", 2, "malformed YAML"),
    "unclosed": ("tenants:\n  - name: 'A\n", 2, "malformed YAML"),
    "wrong indentation": ("tenants:\n  - name: A\n   slug: b\n", 3, "malformed YAML"),
    "a list": ("- name: A\n", 1, "should be a mapping. Known keys: tenants."),
    "tenants as a mapping": ("tenants:\n  acme: {}\n", 2, "should be a list"),
    "unknown key above": ("tenant:\n  - name: A\n", 1, "unknown key 'tenant'. Known keys: tenants."),
    "unknown key": ("tenants:\n  - name: A\n    retention: 400\n", 3, "unknown key 'retention'. Known keys: id, name,"),
    "key twice": ("tenants:\n  - name: A\n    slug: a\n    slug: b\n", 4, "'slug' is there twice"),
    "no tenant named": ("tenants:\n  - slug: a\n", 2, "names its tenant by 'id' or by 'name'"),
    "id and name": (f"tenants:\n  - name: A\n    id: {ACME}\n", 2, "by 'id' or by 'name', one of them"),
    "name twice": (
        "tenants:\n  - name: A\n  - name: B\n  - name: A\n",
        4,
        "'A' is there twice. It first stands in t.yaml:2.",
    ),
    "id twice": (f"tenants:\n  - id: {ACME}\n  - id: {str(ACME).upper()}\n", 3, "is there twice"),
    "slug twice": ("tenants:\n  - {name: A, slug: x}\n  - {name: B, slug: x}\n", 3, "the slug 'x' is there twice"),
    "no UUID": ("tenants:\n  - id: 12\n", 2, "'12' is not a UUID"),
    "bad slug": ("tenants:\n  - name: A\n    slug: Acme_Ltd\n", 3, "not 'Acme_Ltd'"),
    "long slug": (f"tenants:\n  - name: A\n    slug: {'a' * 41}\n", 3, "at most 40"),
    "slug with a line end": ('tenants:\n  - name: A\n    slug: "a\\nb"\n', 3, "at most 40"),
    "unknown timezone": (
        "tenants:\n  - name: A\n    timezone: Jamaica/Kingston\n",
        3,
        "unknown timezone 'Jamaica/Kingston'",
    ),
    "folder as timezone": ("tenants:\n  - name: A\n    timezone: America\n", 3, "unknown timezone 'America'"),
    "path as timezone": ("tenants:\n  - name: A\n    timezone: ../../etc/passwd\n", 3, "unknown timezone"),
    "short retention": ("tenants:\n  - name: A\n    retention_days: 364\n", 3, "it must be from 365"),
    "an archive that forgets first": (
        "tenants:\n  - name: A\n    retention_days: 900\n    archive_retention_days: 900\n",
        4,
        "the table keeps rows for 900",
    ),
    "negative retention": ("tenants:\n  - name: A\n    retention_days: -1\n", 3, "it must be from 365"),
    "endless retention": ("tenants:\n  - name: A\n    retention_days: 999999999999\n", 3, "365 to 36500"),
    "retention with a unit": ("tenants:\n  - name: A\n    retention_days: 2 years\n", 3, "whole number"),
    "fractional retention": ("tenants:\n  - name: A\n    retention_days: 365.5\n", 3, "whole number"),
    "octal retention": ("tenants:\n  - name: A\n    retention_days: 0x200\n", 3, "whole number"),
    "held without a type": (
        "tenants:\n  - name: A\n    legal_holds:\n      - resource_id: 1\n",
        4,
        "'resource_type' is missing",
    ),
    "hold as text": ("tenants:\n  - name: A\n    legal_hold: maybe\n", 3, "true or false"),
    "unknown sla": ("tenants:\n  - name: A\n    sla:\n      sync_age: 5\n", 4, "unknown key 'sync_age'"),
    "sla of zero": ("tenants:\n  - name: A\n    sla:\n      sync_age_warn_minutes: 0\n", 4, "must be above zero"),
    "endless sla": ("tenants:\n  - name: A\n    sla:\n      sync_age_warn_minutes: .inf\n", 4, "should be a number"),
    "empty name": ("tenants:\n  - name: ' '\n", 2, "should be a text"),
    "a list as owner": ("tenants:\n  - name: A\n    owner: [b]\n", 3, "should be a text"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_whatever_is_wrong_with_an_overlay_is_an_error_with_its_line(case: str) -> None:
    text, line, words = BROKEN[case]
    with pytest.raises(ConfigurationError, match=re.escape(words)) as caught:
        parse_overlay(text, "t.yaml")
    assert caught.value.place == f"t.yaml:{line}"


def test_a_control_character_is_malformed_yaml_and_not_a_crash() -> None:
    with pytest.raises(ConfigurationError, match="malformed YAML"):
        parse_overlay("tenants: \x00\n", "t.yaml")


def test_an_entry_for_nobody_for_several_or_for_one_already_meant_is_a_problem_with_its_line() -> None:
    twin = raw_tenant(GLOBEX, "Twins")
    other_twin = raw_tenant(name="Twins")
    entries = parse_overlay(
        dedent(f"""\
        tenants:
          - name: Gone
          - name: Twins
          - id: {ACME}
            owner: team:one
        """),
        "tenants.yaml",
    )
    matched, problems = match_overlay(entries, [twin, other_twin])
    assert {tenant_id: entry.owner for tenant_id, entry in matched.items()} == {ACME: "team:one"}
    assert [problem.place for problem in problems] == ["tenants.yaml:2", "tenants.yaml:3"]
    assert "no tenant is 'Gone'" in problems[0].problem
    assert "2 tenants are called 'Twins'; name the one by its id" in problems[1].problem

    entries = parse_overlay(f"tenants:\n  - {{id: {GLOBEX}}}\n  - {{name: Twins}}\n", "tenants.yaml")
    _, problems = match_overlay(entries, [twin])
    assert [problem.problem for problem in problems] == ["it means the same tenant as tenants.yaml:2, which is used"]
