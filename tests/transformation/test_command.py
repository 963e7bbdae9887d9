"""How dbt is called: arguments, environment, and when two calls can share a parse."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import PROJECT_ROOT, DbtSettings, Settings, WarehouseSettings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.command import (
    Command,
    application_name,
    default_providers,
    environment,
    parse_key,
    providers_argument,
)
from tests.transformation.support import FIXTURE_PROJECT

META, GOOGLE = Provider.META, Provider.GOOGLE_ADS


def _settings(**warehouse: object) -> Settings:
    return Settings(warehouse=WarehouseSettings.model_validate(warehouse))


def test_a_build_never_refreshes_in_full_unless_it_is_asked_to() -> None:
    assert "--full-refresh" not in Command(("build",)).arguments()
    assert "--full-refresh" in Command(("build",), full_refresh=True).arguments()


def test_selection_and_exclusion_are_handed_on_one_by_one() -> None:
    arguments = Command(("build",), select=("a+", "tag:b"), exclude=("c",)).arguments()
    assert arguments[arguments.index("--select") : arguments.index("--exclude") + 2] == [
        *("--select", "a+", "tag:b", "--exclude", "c"),
    ]


def test_unit_tests_judge_code_and_do_not_run_in_builds() -> None:
    assert "unit_test" in Command(("build",)).arguments()
    assert "unit_test" not in Command(("build",), unit_tests=True).arguments()
    assert Command(("parse",)).arguments() == ["parse"]


def test_variables_are_passed_only_when_they_differ_from_the_project_s_own() -> None:
    assert providers_argument((META, GOOGLE), (GOOGLE, META)) is None
    assert providers_argument((META, GOOGLE), (META,)) == (META,)
    assert Command(("build",), providers=(META,)).arguments()[-2:] == ["--vars", '{"enabled_providers": ["meta"]}']
    assert "--vars" not in Command(("build",)).arguments()


def test_the_order_in_which_providers_are_named_does_not_matter() -> None:
    assert providers_argument((), (GOOGLE, META)) == providers_argument((), (META, GOOGLE))


def test_dbt_gets_the_warehouse_and_no_other_secret_of_ours() -> None:
    settings = _settings(host="db", port=1, user="u", password="secret", dbname="w")
    inherited = {"PATH": "/bin", "ADINSIGHTS_AIRBYTE__CLIENT_SECRET": "canary", "ADINSIGHTS_WAREHOUSE__HOST": "other"}
    found = environment(settings, Command(("build",)), Path("/t"), inherited)
    assert "canary" not in found.values()
    assert found["PATH"] == "/bin"
    assert (found["ADINSIGHTS_WAREHOUSE__HOST"], found["ADINSIGHTS_WAREHOUSE__PASSWORD"]) == ("db", "secret")
    assert (found["DBT_TARGET_PATH"], found["DBT_LOG_PATH"]) == ("/t", "/t")


def test_dbt_reports_nothing_to_its_makers() -> None:
    assert environment(Settings(), Command(("build",)), Path("/t"), {})["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"


def test_a_parse_is_shared_by_calls_that_connect_alike_and_by_no_others() -> None:
    build = Command(("build",))
    key = parse_key(Settings(), build)
    assert key == parse_key(_settings(password=SecretStr("another")), build)
    assert key == parse_key(Settings(), Command(("parse",)))
    assert key not in {
        parse_key(_settings(host="elsewhere"), build),
        parse_key(Settings(dbt=DbtSettings(schema_="other")), build),
        parse_key(Settings(), Command(("build",), providers=(META,))),
        parse_key(Settings(), Command(("source", "freshness"))),
    }


def test_the_warehouse_tells_builds_of_a_schema_from_whatever_else_is_called_dbt() -> None:
    settings = Settings(dbt=DbtSettings(schema_="analytics"))
    assert application_name(settings, Command(("build",))) == "adinsights dbt build analytics"
    assert application_name(settings, Command(("source", "freshness"))) == "adinsights dbt freshness analytics"
    long = Settings(dbt=DbtSettings(schema_="a" * 63))
    assert len(application_name(long, Command(("build",)))) == 63  # as Postgres would cut it


def test_the_project_s_own_providers_are_read_from_its_file() -> None:
    assert default_providers(FIXTURE_PROJECT) == (META, GOOGLE)


@pytest.mark.parametrize("content", ["vars: {}", "vars: {enabled_providers: [myspace]}", "vars: [", "- a list", ""])
def test_a_project_file_without_known_providers_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "dbt_project.yml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"dbt_project\.yml"):
        default_providers(tmp_path)


def test_a_folder_without_a_project_says_which_setting_leads_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ADINSIGHTS_DBT__PROJECT_DIR"):
        default_providers(tmp_path)


def test_a_command_prints_as_a_person_would_type_it() -> None:
    assert str(Command(("parse",), select=("a b",))) == "dbt parse --select 'a b'"


def test_the_project_s_profile_takes_the_name_that_its_sessions_shall_have() -> None:
    profiles = yaml.safe_load((PROJECT_ROOT / "dbt_project" / "profiles.yml").read_text())
    output = profiles["adinsights"]["outputs"]["warehouse"]
    assert output["application_name"] == "{{ env_var('ADINSIGHTS_DBT_APPLICATION_NAME', 'dbt') }}"
    given = environment(Settings(), Command(("build",)), Path("/t"), {})
    assert given["ADINSIGHTS_DBT_APPLICATION_NAME"] == "adinsights dbt build analytics"
