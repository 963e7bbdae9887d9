"""The settings reference says everything an operator needs, and says it of the code as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from adinsights_orchestration.cli.settings_page import SettingRow, in_force, setting_rows, settings_page
from adinsights_orchestration.local.settings import PREFIX, LocalSettings
from adinsights_orchestration.settings import PROJECT_ROOT, Settings
from scripts.docs import local_settings_page

ROWS = list(setting_rows())
LOCAL_ROWS = list(setting_rows(LocalSettings, prefix=PREFIX))


def test_the_committed_page_is_the_one_that_the_code_makes() -> None:
    committed = (PROJECT_ROOT / "docs" / "settings.md").read_text()
    assert committed == settings_page(), "run `adinsights settings --markdown > docs/settings.md`"


def test_the_committed_page_of_the_local_stack_is_the_one_that_the_code_makes() -> None:
    committed = (PROJECT_ROOT / "docs" / "local-settings.md").read_text()
    assert committed == local_settings_page(), "run `make docs`"


@pytest.mark.parametrize("row", ROWS + LOCAL_ROWS, ids=lambda row: row.variable)
def test_every_setting_says_what_it_is_and_what_follows(row: SettingRow) -> None:
    assert row.description.endswith(".")
    assert row.consequence.endswith(".")


@pytest.mark.parametrize("row", ROWS + LOCAL_ROWS, ids=lambda row: row.variable)
def test_every_number_has_a_unit(row: SettingRow) -> None:
    field = LocalSettings.model_fields[row.path[-1]] if row in LOCAL_ROWS else _field(row.path)
    numeric = any(kind in (int, float) for kind in _kinds(field.annotation))
    assert bool(row.unit) == numeric


def test_every_variable_named_is_the_one_that_the_settings_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({row.variable for row in ROWS}) == len(ROWS)
    free = [row for row in ROWS if type(row.default) is str]
    texts = [row for row in free if not _field(row.path).metadata]  # no rule says what they may be
    for row in texts:
        monkeypatch.setenv(row.variable, f"changed {row.variable}")
    shown = {entry["variable"]: entry["value"] for entry in in_force(Settings())}
    assert len(texts) > 5
    assert {shown[row.variable] for row in texts} == {f"changed {row.variable}" for row in texts}


def test_neither_the_page_nor_the_settings_in_force_show_a_secret() -> None:
    secrets = [row.default.get_secret_value() for row in ROWS if isinstance(row.default, SecretStr)]
    assert secrets
    shown = settings_page() + str(list(in_force(Settings())))
    assert not [secret for secret in secrets if secret in shown]


def test_every_variable_in_a_deployment_example_exists() -> None:
    known = {row.variable for row in ROWS}
    for example in sorted((PROJECT_ROOT / "deploy").glob("**/*.example")):
        unknown = _variables(example) - known
        assert not unknown, f"{example.name} names settings that do not exist: {sorted(unknown)}"


def _variables(example: Path) -> set[str]:
    named = re.findall(r"^\s*#?\s*(ADINSIGHTS_[A-Z0-9_]+)=", example.read_text(), flags=re.MULTILINE)
    # Neither belongs to the settings: the first finds them, the others are the local stack's own.
    return {name for name in named if name != "ADINSIGHTS_ENV_FILE" and not name.startswith("ADINSIGHTS_LOCAL_")}


def _field(path: tuple[str, ...]) -> FieldInfo:
    model: type[BaseModel] = Settings
    for part in path[:-1]:
        model = type(model.model_fields[part].default)
    return model.model_fields[path[-1]]


def _kinds(annotation: object) -> set[object]:
    return {annotation, *getattr(annotation, "__args__", ())}
