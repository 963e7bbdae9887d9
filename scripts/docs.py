"""Write the pages that are made from code: the settings reference and dbt's own documentation site.

What this is: the body of `make docs`. Belongs here: turning what the code already says into a page. Does not belong
here: anything a person writes. A test holds docs/settings.md against the code, so that neither drifts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from adinsights_orchestration.settings import PROJECT_ROOT, Settings

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "ADINSIGHTS_"
HEADER = """# Settings

<!-- Written by `make docs` from adinsights_orchestration/settings.py; edit there. -->

Every setting is an environment variable. The defaults are the local stack's, so a laptop needs none of them; staging
and production set what differs (`deploy/*.env.example`). Wrong values stop a process at its start with a message that
names the variable. `adinsights doctor` holds all of them against the world.
"""


def _literal(value: object) -> str:
    """A default as an operator would write it into the environment; folders relative to the project."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Path):
        return str(value.relative_to(PROJECT_ROOT)) if value.is_relative_to(PROJECT_ROOT) else str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_literal(part) for part in value)
    return str(value)


def default_text(default: object) -> str:
    """The default as a table cell: code, and never a secret's value."""
    if isinstance(default, SecretStr):
        return "the local stack's"
    if default is None or default == ():
        return "none"
    return f"`{_literal(default)}`"


def _row(variable: str, field: FieldInfo) -> str:
    extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    meaning = " ".join(str(part) for part in (field.description, extra.get("consequence")) if part)
    cells = (f"`{variable}`", str(extra.get("unit") or ""), default_text(field.default), meaning.replace("|", "\\|"))
    return "| " + " | ".join(cells) + " |"


def _table(model: type[BaseModel], prefix: str) -> Iterator[str]:
    yield "| variable | unit | default | what it is, and what follows |"
    yield "| --- | --- | --- | --- |"
    for name, field in model.model_fields.items():
        if not isinstance(field.default, BaseModel):
            yield _row(f"{prefix}{(field.alias or name).upper()}", field)


def settings_page() -> str:
    """The whole of docs/settings.md."""
    lines = [HEADER, "## General", "", *_table(Settings, PREFIX), ""]
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            group = type(field.default)
            about = (group.__doc__ or "").strip().splitlines()[0]
            lines += [f"## {name.replace('_', ' ').capitalize()}", "", about, ""]
            lines += [*_table(group, f"{PREFIX}{name.upper()}__"), ""]
    return "\n".join(lines)


def write_dbt_pages() -> int:
    """Writes dbt's documentation as one file; needs no warehouse, because it leaves the catalog empty."""
    dbt = [str(Path(sys.executable).parent / "dbt"), "docs", "generate", "--static", "--no-compile", "--empty-catalog"]
    folders = ["--project-dir", "dbt_project", "--profiles-dir", "dbt_project"]
    return subprocess.run([*dbt, *folders], cwd=ROOT, env=os.environ | {"DO_NOT_TRACK": "1"}, check=False).returncode


def main() -> int:
    """Writes both and says where they are."""
    page = ROOT / "docs" / "settings.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(settings_page())
    print(f"docs: {page.relative_to(ROOT)}")
    code = write_dbt_pages()
    if code == 0:
        print("docs: dbt_project/target/static_index.html")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
