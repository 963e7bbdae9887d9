"""What the repository's tests look at: the tracked files, the declared and the pinned dependencies."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)")


def tracked_files() -> list[Path]:
    """Every file under version control that exists; those being added count too, ignored ones do not."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def pyproject() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared(extra: str | None = None) -> dict[str, Requirement]:
    """Requirements by canonical name: the deployed ones, or those of an extra."""
    project = pyproject()["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def pins(file: str) -> dict[str, str]:
    """Version by canonical name, of one requirements file."""
    found = [_PIN.match(line) for line in (ROOT / "requirements" / file).read_text().splitlines()]
    return {canonicalize_name(match["name"]): match["version"] for match in found if match}
