"""Runs the dbt project in this process against a database, and makes deliberately wrong copies of it.

Here: `DbtProject` (invoke, patch) and the outcome of an invocation. Not here: databases (conftest) and data (raw_data).
Every folder shares one parsed state by copying it, so that an invocation costs what it runs and not a full parse.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dbt.cli.main import dbtRunner, dbtRunnerResult

from tests.dbt_project.raw_tables import RawWarehouse

PROJECT_FOLDER = Path(__file__).resolve().parents[2] / "dbt_project"
_NOT_COPIED = shutil.ignore_patterns("target", "logs", "dbt_packages")


@dataclass(frozen=True)
class Outcome:
    """What an invocation did: dbt's exit, the error that ended it if any, and each node's status and message."""

    success: bool
    error: str
    statuses: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    listed: Sequence[str] = ()

    def named(self, *statuses: str) -> set[str]:
        """Names of the nodes with one of these statuses, without their type and package."""
        return {unique_id.split(".")[2] for unique_id, status in self.statuses.items() if status in statuses}

    @property
    def failed(self) -> set[str]:
        return self.named("fail", "error", "runtime error")

    @property
    def passed(self) -> set[str]:
        return self.named("pass", "success")

    def __str__(self) -> str:
        bad = {node: self.messages[node] for node in self.statuses if self.statuses[node] in ("fail", "error")}
        return f"success={self.success} error={self.error} {json.dumps(bad, indent=1)}"


@dataclass(frozen=True)
class DbtProject:
    """A folder with the project, the database that it builds in, and where dbt keeps its state."""

    folder: Path
    environment: Mapping[str, str]
    target: Path

    def run(
        self, command: str, *arguments: str, variables: Mapping[str, object] | None = None, writes: bool = False
    ) -> Outcome:
        """Invokes dbt: `project.run("build", "--select", "fct_ad_performance")`.

        Args:
            command: dbt's.
            arguments: Its options.
            variables: dbt variables.
            writes: Whether it writes manifest, graph and results, which takes as long as a small build.
        """
        folders = ["--project-dir", self.folder, "--profiles-dir", self.folder, "--target-path", self.target]
        given = [*command.split(), *arguments, *map(str, folders), "--log-path", str(self.target), "--quiet"]
        if not writes:
            given.append("--no-write-json")
        if variables is not None:
            given += ["--vars", json.dumps(variables)]
        with _environment(self.environment):
            return _outcome(dbtRunner().invoke(given))

    def manifest(self) -> dict[str, Any]:
        """The manifest that the last invocation that writes wrote."""
        content: dict[str, Any] = json.loads((self.target / "manifest.json").read_text())
        return content

    def copy(self, folder: Path) -> DbtProject:
        """A copy of the project and its parsed state, for a test to change."""
        shutil.copytree(self.folder, folder / "project", ignore=_NOT_COPIED)
        (folder / "target").mkdir()
        shutil.copy(self.target / "partial_parse.msgpack", folder / "target")
        return DbtProject(folder / "project", self.environment, folder / "target")

    def patch(self, path: str, old: str, new: str) -> None:
        """Replaces a text that must be in the file exactly once, so that a wrong version is wrong where it says."""
        file = self.folder / path
        content = file.read_text()
        if content.count(old) != 1:
            raise ValueError(f"{path} has the text to replace {content.count(old)} times, not once: {old!r}")
        file.write_text(content.replace(old, new))


def project_on(warehouse: RawWarehouse, target: Path) -> DbtProject:
    """The repository's own project on a warehouse."""
    return DbtProject(PROJECT_FOLDER, warehouse_environment(warehouse), target)


def warehouse_environment(warehouse: RawWarehouse) -> dict[str, str]:
    """The variables by which `profiles.yml` finds a warehouse."""
    names = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password", "DBNAME": "dbname"}
    found = warehouse.address
    return {f"ADINSIGHTS_WAREHOUSE__{name}": found.get(key, "") for name, key in names.items()}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Only these of our own variables: a developer's settings must not lead a test into another database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADINSIGHTS_")}
    with patch.dict(os.environ, {**kept, **variables}, clear=True):
        yield


def _outcome(result: dbtRunnerResult) -> Outcome:
    nodes = getattr(result.result, "results", None) or []
    by_id = {getattr(node.node, "unique_id", "?"): node for node in nodes}
    return Outcome(
        success=result.success,
        error=str(result.exception or ""),
        statuses={unique_id: str(node.status) for unique_id, node in by_id.items()},
        messages={unique_id: str(node.message or "") for unique_id, node in by_id.items()},
        listed=result.result if isinstance(result.result, list) else (),
    )
