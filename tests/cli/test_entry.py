"""The command line itself: quick to start, and never a traceback for what a person can mend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adinsights_orchestration.cli import app, environment_file
from adinsights_orchestration.cli.entry import EXIT_DEFECT, run
from adinsights_orchestration.errors import AdinsightsError, ConfigurationError
from adinsights_orchestration.settings import PROJECT_ROOT

HEAVY = ("dagster", "pydantic", "sqlalchemy", "psycopg", "httpx", "rich", "structlog")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom adinsights_orchestration.cli.entry import run\n"
        "code = run(['--help'], {})\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "raise SystemExit(f'{loaded}' if loaded or code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in app.COMMANDS)


@pytest.mark.parametrize("name", sorted(app.COMMANDS))
def test_every_command_of_the_table_exists_and_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([name, "--help"], {"ADINSIGHTS_ENV_FILE": ""}) == 0
    assert f"adinsights {name}" in capsys.readouterr().out


def test_the_documentation_shows_every_command() -> None:
    page = (PROJECT_ROOT / "docs" / "cli.md").read_text()
    assert [name for name in app.COMMANDS if f"adinsights {name}" not in page] == []


def test_a_failure_with_a_next_step_is_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = AdinsightsError("it broke with password=canary", next_step="Mend it.", place="acme/meta")
    assert _run_raising(error, monkeypatch) == 2
    assert capsys.readouterr().err.splitlines() == ["acme/meta: it broke with password=[redacted]", "  Mend it."]


def test_a_defect_is_told_from_a_failure_and_shows_its_place_only_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run_raising(KeyError("token=canary"), monkeypatch) == EXIT_DEFECT
    quiet = capsys.readouterr().err
    assert "unexpected KeyError" in quiet
    assert "Traceback" not in quiet
    _run_raising(KeyError("token=canary"), monkeypatch, "--debug")
    assert "Traceback" in (loud := capsys.readouterr().err)
    assert "canary" not in quiet + loud


def test_an_interruption_has_the_shells_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run_raising(KeyboardInterrupt(), monkeypatch) == 130


# ------------------------------------------------------------------------------------------------ the environment file


def test_the_environment_file_adds_what_is_not_set_and_changes_nothing_that_is(tmp_path: Path) -> None:
    file = tmp_path / "stack.env"
    file.write_text("# comment\n\nexport A=1\nB='two words'\nC=\"x=y\"\nD = plain \nE=\n")
    environment = {"ADINSIGHTS_ENV_FILE": str(file), "A": "mine"}
    assert environment_file.apply(environment) == file
    assert {name: environment[name] for name in "ABCDE"} == {
        "A": "mine",
        "B": "two words",
        "C": "x=y",
        "D": "plain",
        "E": "",
    }


def test_a_running_stacks_file_is_found_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.env").write_text("FROM_STACK=yes\n")
    monkeypatch.chdir(tmp_path)
    environment: dict[str, str] = {}
    environment_file.apply(environment)
    assert environment == {"FROM_STACK": "yes"}


def test_a_stack_with_a_folder_of_its_own_is_found_by_that_and_lends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (".local", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stack.env").write_text(f"FROM={folder}\n")
    monkeypatch.chdir(tmp_path)
    environment = {"ADINSIGHTS_LOCAL_STATE_DIR": str(tmp_path / "other")}
    environment_file.apply(environment)
    assert environment["FROM"] == "other"
    assert environment_file.find({"ADINSIGHTS_LOCAL_STATE_DIR": str(tmp_path / "not-running")}) is None


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.env is not a file"):
        environment_file.apply({"ADINSIGHTS_ENV_FILE": str(tmp_path / "missing.env")})


@pytest.mark.parametrize("line", ["just words", "=value", "1A=x", "a b=canary"])
def test_a_malformed_line_is_named_by_its_number_and_not_quoted(tmp_path: Path, line: str) -> None:
    file = tmp_path / "stack.env"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"stack\.env:2") as raised:
        environment_file.apply({"ADINSIGHTS_ENV_FILE": str(file)})
    assert "canary" not in str(raised.value)


def _run_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    def application() -> object:
        raise error

    monkeypatch.setattr(app, "application", application)
    return run([*options, "connections"], {"ADINSIGHTS_ENV_FILE": ""})
