"""Write the pages that are made from code: the two settings references and dbt's own documentation site.

What this is: the body of `make docs`. Belongs here: turning what the code already says into a page. Does not belong
here: anything a person writes. Tests hold both references against the code, so that neither drifts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adinsights_orchestration.cli.settings_page import setting_rows, settings_page, settings_table
from adinsights_orchestration.local.settings import PREFIX, LocalSettings

ROOT = Path(__file__).resolve().parent.parent
_LOCAL_HEADER = """# Settings of the local stack

<!-- Written by `make docs` from adinsights_orchestration/local/settings.py; edit there. -->

For `make up`, `make demo` and `adinsights local`: environment variables, as in `ADINSIGHTS_LOCAL_UI_PORT=3001 make up`.
While a stack with the default folder runs, a command that is given none of them takes those that it was started
with; one with a folder of its own is found when that is named (`ADINSIGHTS_LOCAL_STATE_DIR`). Two stacks side by side
need three ports and a folder each. The product's own settings, which the stack makes itself, are in
[settings.md](settings.md).
"""


def local_settings_page() -> str:
    """The whole of docs/local-settings.md."""
    return "\n".join([_LOCAL_HEADER, *settings_table(setting_rows(LocalSettings, prefix=PREFIX)), ""])


def write_dbt_pages() -> int:
    """Writes dbt's documentation as one file; needs no warehouse, because it leaves the catalog empty."""
    dbt = [str(Path(sys.executable).parent / "dbt"), "docs", "generate", "--static", "--no-compile", "--empty-catalog"]
    folders = ["--project-dir", "dbt_project", "--profiles-dir", "dbt_project"]
    return subprocess.run([*dbt, *folders], cwd=ROOT, env=os.environ | {"DO_NOT_TRACK": "1"}, check=False).returncode


def main() -> int:
    """Writes both and says where they are."""
    for name, text in (("settings", settings_page()), ("local-settings", local_settings_page())):
        page = ROOT / "docs" / f"{name}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(text)
        print(f"docs: {page.relative_to(ROOT)}")
    code = write_dbt_pages()
    if code == 0:
        print("docs: dbt_project/target/static_index.html")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
