"""The pins are complete, hashed, within their bounds, and the image's are those that were tested."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.repository.checkout import ROOT, declared, pins, pyproject

PINNED = ("build.txt", "connectors.txt", "dev.txt", "runtime.txt")
EXTRAS = ("local", "test", "dev")


@pytest.mark.parametrize("file", PINNED)
def test_every_requirement_is_an_exact_version_with_hashes(file: str) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / "requirements" / file).read_text(), flags=re.MULTILINE)[1:]
    bare = [entry.split()[0] for entry in entries if "==" not in entry.split()[0] or "--hash=sha256:" not in entry]
    assert entries
    assert bare == []


@pytest.mark.parametrize("file", PINNED)
def test_a_pins_file_holds_nothing_but_requirements_hashes_and_comments(file: str) -> None:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    allowed = re.compile(r"\s*#.*|[A-Za-z0-9._-]+==[^\s;]+ \\|\s+--hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not allowed.fullmatch(line)] == []


def test_every_direct_dependency_is_pinned_within_its_bounds() -> None:
    runtime, dev = pins("runtime.txt"), pins("dev.txt")
    wanted = [(runtime, declared()), (dev, declared()), *((dev, declared(extra)) for extra in EXTRAS)]
    off = [
        f"{name}: {found.get(name)} is not {requirement.specifier}"
        for found, requirements in wanted
        for name, requirement in requirements.items()
        if name not in found or Version(found[name]) not in requirement.specifier
    ]
    assert off == []


def test_what_is_deployed_is_what_was_tested() -> None:
    dev = pins("dev.txt")
    assert {name: dev.get(name) for name in pins("runtime.txt")} == pins("runtime.txt")


def test_the_image_carries_no_test_tool_and_no_local_stack() -> None:
    brought_by_dagster_and_dbt = {"jsonschema", "orjson", "requests", "starlette", "uvicorn", "werkzeug"}
    tools = {name for extra in EXTRAS for name in declared(extra)} - brought_by_dagster_and_dbt
    assert tools & set(pins("runtime.txt")) == set()


def test_the_dagster_family_is_one_release() -> None:
    exact = {name: str(requirement.specifier) for name, requirement in declared().items() if name.startswith("dagster")}
    core = exact["dagster"]
    library = core.replace("==1.", "==0.").replace("0.13.", "0.29.")
    assert exact == {
        "dagster": core,
        "dagster-webserver": core,
        "dagster-airbyte": library,
        "dagster-dbt": library,
        "dagster-postgres": library,
    }


@pytest.mark.parametrize(
    ("package", "first_refused"),
    [
        pytest.param("sqlalchemy", "2.1.0", id="2.1 makes a bare Postgres URL mean another driver"),
        pytest.param("dbt-core", "1.12.0", id="1.12 downloads a helper while it is installed"),
    ],
)
def test_a_release_that_is_known_to_break_is_out_of_bounds(package: str, first_refused: str) -> None:
    assert Version(first_refused) not in declared()[package].specifier
    assert all(Version(pins(file)[package]) < Version(first_refused) for file in ("runtime.txt", "dev.txt"))


def test_the_build_backend_is_the_pinned_one() -> None:
    (backend,) = [Requirement(line) for line in pyproject()["build-system"]["requires"]]
    name = canonicalize_name(backend.name)
    assert str(backend.specifier) == f"=={pins('build.txt')[name]}" == f"=={pins('dev.txt')[name]}"


def test_the_connectors_keep_an_environment_of_their_own() -> None:
    assert "airbyte-cdk" in pins("connectors.txt")
    assert "airbyte-cdk" not in pins("dev.txt") | pins("runtime.txt")
