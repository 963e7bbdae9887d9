"""The SLA table: complete, ordered, sourced; a wrong file is refused with its line."""

from __future__ import annotations

import re
from datetime import time, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.freshness.policies import native_policy
from adinsights_orchestration.freshness.sla import LocalTime, Sla, SlaTable, load_sla
from adinsights_orchestration.tenants.model import Provider

PRODUCTION = Environment.PRODUCTION


def own(tmp_path: Path, text: str) -> Path:
    file = tmp_path / f"sla_{abs(hash(text))}.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def load(tmp_path: Path, text: str, environment: Environment = PRODUCTION) -> SlaTable:
    return load_sla(environment, own(tmp_path, text))


@pytest.mark.parametrize("environment", Environment)
def test_every_threshold_has_a_value_and_a_source_in_every_environment(environment: Environment) -> None:
    table = load_sla(environment)
    assert set(table.thresholds) == set(Sla)
    assert set(table.local_times) == set(LocalTime)
    assert all(threshold.source for threshold in table.thresholds.values())


def test_the_runbooks_numbers_are_the_runbooks() -> None:
    table = load_sla(PRODUCTION)
    levels = {name: (table[name].warn, table[name].page, table[name].unit.value) for name in Sla}
    assert levels[Sla.SYNC_AGE] == (60, 120, "minutes")
    assert levels[Sla.DBT_RUN_AGE] == (24, 36, "hours")
    assert levels[Sla.API_ERROR_RATE] == (2, 5, "percent")
    assert (table[Sla.API_ERROR_RATE].window, table[Sla.API_ERROR_RATE].at_least) == (timedelta(minutes=5), 200)
    assert table.source_freshness(Provider.LINKEDIN_ADS).page_after == timedelta(days=14)
    assert table.local_times[LocalTime.FRESH_ROWS_BY] == time(6, 30)


def test_a_threshold_with_one_level_takes_one_number_and_refuses_two(tmp_path: Path) -> None:
    for given in ("warn: 3", "page: 3", "warn: 3, page: 3"):
        level = load(tmp_path, f"thresholds: {{probe_down: {{{given}}}}}")[Sla.PROBE_DOWN]
        assert (level.warn, level.page, level.describe().partition(" (")[0]) == (3, 3, "3 minutes")
    with pytest.raises(ConfigurationError, match=r"probe_down has one level: warn \(1\) and page \(3\) differ"):
        load(tmp_path, "thresholds: {probe_down: {warn: 1, page: 3}}")


def test_dbts_own_source_freshness_says_the_same_as_the_table() -> None:
    table = load_sla(PRODUCTION)
    for provider in Provider:
        [file] = Path("dbt_project/models/staging", provider.value).glob("*__sources.yml")
        [source] = yaml.safe_load(file.read_text(encoding="utf-8"))["sources"]
        limits = (source.get("config") or source)["freshness"]
        hours = {
            level: limits[key]["count"] * {"hour": 1, "day": 24}[limits[key]["period"]]
            for level, key in (("warn", "warn_after"), ("page", "error_after"))
        }
        entry = table.source_freshness(provider)
        assert hours == {"warn": entry.warn, "page": entry.page}, provider


def test_a_native_policy_warns_and_fails_where_the_table_says() -> None:
    policy = native_policy(load_sla(PRODUCTION)[Sla.DBT_RUN_AGE])
    expected = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=24))
    assert policy == expected


def test_an_own_file_changes_single_numbers_and_says_so_in_the_source(tmp_path: Path) -> None:
    table = load(tmp_path, "thresholds:\n  sync_age: {warn: 90}\n")
    assert (table[Sla.SYNC_AGE].warn, table[Sla.SYNC_AGE].page) == (90, 120)
    assert re.search(r"sla_\d+\.yaml:2", table[Sla.SYNC_AGE].source)
    assert table[Sla.DBT_RUN_AGE] == load_sla(PRODUCTION)[Sla.DBT_RUN_AGE]


def test_an_environments_part_applies_there_and_nowhere_else(tmp_path: Path) -> None:
    text = "environments:\n  staging:\n    sync_age: {warn: 1500, page: 2880}\n"
    assert load(tmp_path, text, Environment.STAGING)[Sla.SYNC_AGE].warn == 1500
    assert load(tmp_path, text, PRODUCTION)[Sla.SYNC_AGE].warn == 60


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("thresholds:\n  sync_aeg: {warn: 1}\n", 2, "unknown key 'sync_aeg'"),
        ("thresholds:\n  sync_age:\n    warn: -5\n", 3, "warn must be above zero, and is -5"),
        ("thresholds:\n  sync_age: {warn: 121}\n", 2, "page (120) is below warn (121)"),
        ("thresholds:\n  disk_free: {page: 50}\n", 2, "page (50) is above warn (10)"),
        ("thresholds:\n  api_error_rate: {window_minutes: 0}\n", 2, "window_minutes must be above zero"),
        ("thresholds:\n  stale_tenants: {page: 150}\n", 2, "at most 100 percent"),
        ("thresholds:\n  sync_age: {unit: hours}\n", 2, "sync_age is in minutes"),
        ("\ntimezone: America/Kingstown_\n", 2, "there is no timezone 'America/Kingstown_'"),
        ("timezone: ../../etc/passwd\n", 1, "there is no timezone"),
        ('local_times:\n  paging_from: "25:00"\n', 2, "'25:00' is not a time of day"),
        ('local_times:\n  nightly_done_by: "06:00Z"\n', 2, "'06:00Z' carries an offset"),
        (
            'local_times:\n  paging_from: "22:00"\n  paging_to: "06:00"\n',
            3,
            "paging_to (06:00) is not after paging_from",
        ),
        ('local_times:\n  paging_from: "22:00"\n', 2, "paging_from (22:00) is not before paging_to (22:00)"),
        ('local_times:\n  nightly_done_by: "07:00"\n', 2, "nightly_done_by (07:00) is after fresh_rows_by (06:30)"),
        ('local_times:\n  fresh_rows_by: "05:00"\n', 2, "fresh_rows_by (05:00) is before nightly_done_by (06:00)"),
        ("thresholds:\n  api_error_rate: {at_least: 0.4}\n", 2, "this should be a whole number"),
        ("thresholds:\n  api_error_rate: {at_least: 0}\n", 2, "at_least must be above zero, and is 0"),
        ("environments:\n  production:\n    sync_age: {warn: 1}\n  prod: {}\n", 4, "unknown key 'prod'"),
        ("environments:\n  staging:\n    sync_age: {warn: 0}\n", 3, "warn must be above zero"),
        ("thresholds:\n  sync_age: {warn: [}\n", 2, "malformed YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text)
    assert says in str(refused.value)
    assert refused.value.place.endswith(f".yaml:{line}")


def test_the_night_may_be_through_at_the_moment_at_which_its_rows_are_due(tmp_path: Path) -> None:
    table = load(tmp_path, 'local_times: {nightly_done_by: "05:30", fresh_rows_by: "05:30"}\n')
    assert table.local_times[LocalTime.NIGHTLY_DONE_BY] == table.local_times[LocalTime.FRESH_ROWS_BY] == time(5, 30)


def test_a_window_that_never_closes_can_be_written_as_the_refusal_of_an_inverted_one_says(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, 'local_times: {paging_from: "22:00", paging_to: "06:00"}\n')
    always = re.findall(r'"([0-9:]+)"', refused.value.next_step)
    table = load(tmp_path, f'local_times: {{paging_from: "{always[0]}", paging_to: "{always[1]}"}}\n')
    assert table.local_times[LocalTime.PAGING_TO] > time(23, 59)


def test_a_file_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ADINSIGHTS_FRESHNESS__SLA_PATH"):
        load_sla(PRODUCTION, tmp_path / "nowhere.yaml")
