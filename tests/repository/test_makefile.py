"""The Makefile offers what the README and the runbook name, and works wherever the clone lies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from adinsights_orchestration.cli.app import COMMANDS, load
from tests.repository.checkout import ROOT

TARGETS = ("install", "up", "down", "demo", "run-dbt", "test", "soak", "lint", "bench", "docs", "lock", "clean", "help")


def _make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", TARGETS)
def test_the_target_exists_and_can_be_planned(target: str) -> None:
    planned = _make("--dry-run", target)
    assert planned.returncode == 0, planned.stderr


def test_bare_make_explains_every_target_in_a_line() -> None:
    listed = re.findall(r"^  make (\S+) +\S", _make().stdout, flags=re.MULTILINE)
    assert sorted(listed) == sorted(TARGETS)


@pytest.mark.parametrize("target", ["up", "demo", "run-dbt", "test", "soak", "lint", "bench", "docs"])
def test_whatever_needs_the_environment_installs_it_first(target: str) -> None:
    assert _make("--dry-run", target).stdout.splitlines()[0] == "scripts/install.sh"


def test_taking_down_installs_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = _make("down", folder=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [tmp_path / "Makefile"])


def test_cleaning_removes_a_database_that_root_s_postgres_keeps_elsewhere(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "clone", tmp_path / "place" / "postgres"
    (folder / ".local").mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    (folder / ".local" / "postgres").symlink_to(elsewhere)
    shutil.copy(ROOT / "Makefile", folder)
    assert _make("clean", folder=folder).returncode == 0
    assert not elsewhere.exists()
    assert list(folder.iterdir()) == [folder / "Makefile"]


def test_a_path_with_spaces_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    assert "make up" in _make(folder=folder).stdout


def test_ci_runs_lint_first_and_the_readme_s_test_command_last() -> None:
    script = ROOT / ".ci" / "run"
    commands = re.findall(r"^make \S+", script.read_text(), flags=re.MULTILINE)
    assert commands == ["make install", "make lint", "make test"]
    assert os.access(script, os.X_OK)


def test_ci_fails_when_only_lint_fails(tmp_path: Path) -> None:
    assert _ci_with_fake_make(tmp_path, failing="lint") != 0


def test_ci_fails_when_only_a_test_fails(tmp_path: Path) -> None:
    assert _ci_with_fake_make(tmp_path, failing="test") != 0


def test_ci_passes_when_everything_passes(tmp_path: Path) -> None:
    assert _ci_with_fake_make(tmp_path, failing="nothing") == 0


def _ci_with_fake_make(folder: Path, failing: str) -> int:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
    fake = folder / "bin" / "make"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n[ "$1" != {failing} ]\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    return subprocess.run([".ci/run"], cwd=folder, env=environment, capture_output=True, check=False).returncode


def test_every_adinsights_command_that_a_file_calls_exists() -> None:
    called = _called_commands()
    missing = {words for words in called if words[0] not in COMMANDS}
    groups = {words: getattr(load(words[0]), "commands", {}) for words in called - missing}
    missing |= {words for words, group in groups.items() if group and words[1:] and words[1] not in group}
    assert ("dbt", "prepare") in called
    assert missing == set()


def _called_commands() -> set[tuple[str, ...]]:
    files = (ROOT / name for name in ("Makefile", "deploy/Dockerfile", "deploy/compose.yaml"))
    lines = "\n".join(file.read_text() for file in files)
    found = re.findall(r"(?:\badinsights|\$\(ADINSIGHTS\))((?: [a-z]+){1,2})", lines)
    return {tuple(words.split()) for words in found if words.split()[0] != "command"}
