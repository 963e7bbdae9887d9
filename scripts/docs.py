"""Write the pages that are made from code: the settings reference and dbt's own documentation site.

What this is: the body of `make docs`. Belongs here: turning what the code already says into a page. Does not belong
here: anything a person writes. A test holds docs/settings.md against the code, so that neither drifts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adinsights_orchestration.cli.settings_page import settings_page

ROOT = Path(__file__).resolve().parent.parent


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
