"""The reference of settings, made from the code: one row per environment variable.

Belongs here: walking the settings and writing docs/settings.md. Does not belong here: a word about any one setting
(`settings.py` says it). A test holds the page against the code, so that neither drifts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from adinsights_orchestration.settings import PROJECT_ROOT, Settings

PREFIX = "ADINSIGHTS_"
_HEADER = """# Settings

<!-- Written by `adinsights settings --markdown` from adinsights_orchestration/settings.py; edit there. -->

Every setting is an environment variable. The defaults are the local stack's, so a laptop needs none of them; staging
and production set what differs (`deploy/*.env.example`). Wrong values stop a process at its start with a message that
names the variable. `adinsights doctor` holds all of them against the world.
"""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting: its place in the settings, its variable, and what `settings.py` says of it."""

    path: tuple[str, ...]
    variable: str
    unit: str
    default: object
    description: str
    consequence: str

    @property
    def default_text(self) -> str:
        """The default as an operator would write it; never a secret's value."""
        if isinstance(self.default, SecretStr):
            return "the local stack's"
        return _literal(self.default) or "none"


def setting_rows(
    model: type[BaseModel] = Settings, path: tuple[str, ...] = (), prefix: str = PREFIX
) -> Iterator[SettingRow]:
    """Yields every setting in the order of the code, nested groups included."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from setting_rows(type(field.default), (*path, name), prefix)
            continue
        extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        variable = prefix + "__".join((*path, field.alias or name)).upper()
        unit, consequence = str(extra.get("unit") or ""), str(extra.get("consequence") or "")
        yield SettingRow((*path, name), variable, unit, field.default, field.description or "", consequence)


def settings_page() -> str:
    """The whole of docs/settings.md."""
    groups: dict[tuple[str, ...], list[SettingRow]] = {}
    for row in setting_rows():
        groups.setdefault(row.path[:-1], []).append(row)
    lines = [_HEADER]
    for group, rows in groups.items():
        lines += [f"## {' '.join(group).replace('_', ' ').capitalize() or 'General'}", ""]
        lines += [about, ""] if (about := _about(group)) else []
        lines += [*settings_table(rows), ""]
    return "\n".join(lines)


def settings_table(rows: Iterable[SettingRow]) -> list[str]:
    """The lines of a table of settings in Markdown."""
    head = ["| variable | unit | default | what it is | consequence |", "| --- | --- | --- | --- | --- |"]
    return [*head, *map(_markdown, rows)]


def in_force(settings: Settings) -> Iterator[dict[str, str]]:
    """Yields every setting with the value that it has now; secrets only as set or not."""
    for row in setting_rows():
        value: Any = settings
        for part in row.path:
            value = getattr(value, part)
        changed = "" if value == row.default else "set"
        yield {"variable": row.variable, "value": _shown(value), "unit": row.unit, "changed": changed}


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "hidden" if value.get_secret_value() else "empty"
    return _literal(value) or "-"


def _literal(value: object) -> str:
    """A value as it is written into the environment; folders relative to the project."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Path):
        return str(value.relative_to(PROJECT_ROOT)) if value.is_relative_to(PROJECT_ROOT) else str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_literal(part) for part in value)
    return "" if value is None else str(value).replace(PROJECT_ROOT.as_uri(), "file:///<project>")


def _markdown(row: SettingRow) -> str:
    default = row.default_text
    shown = default if isinstance(row.default, SecretStr) or default == "none" else f"`{default}`"
    cells = (f"`{row.variable}`", row.unit, shown, row.description, row.consequence)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _about(group: tuple[str, ...]) -> str:
    model: type[BaseModel] = Settings
    for part in group:
        model = type(model.model_fields[part].default)
    return (model.__doc__ or "").strip().splitlines()[0] if group else ""
