"""The environment file: what a running local stack, or a deployment, would otherwise have exported.

Belongs here: finding the file and reading `KEY=VALUE` lines. Does not belong here: what the values mean (`settings`).
A variable that the real environment sets always wins, so that one command can be run with one thing changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from adinsights_orchestration.errors import ConfigurationError

VARIABLE = "ADINSIGHTS_ENV_FILE"
STACK_FOLDER = "ADINSIGHTS_LOCAL_STATE_DIR"
NAME = "stack.env"
DEFAULT = Path(".local") / NAME
_PROJECT_ROOT = Path(__file__).resolve().parent.parent.parent


def apply(environment: MutableMapping[str, str]) -> Path | None:
    """Adds the file's variables that `environment` lacks; returns the file, or None when there is none to read."""
    path = find(environment)
    if path is None:
        return None
    for name, value in read(path):
        environment.setdefault(name, value)
    return path


def find(environment: Mapping[str, str]) -> Path | None:
    """The named file, else that of the local stack whose folder is named, else of the one with the default folder."""
    named = environment.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ConfigurationError(f"{named} is not a file.", place=VARIABLE, next_step="Correct or unset it.")
        return Path(named)
    folder = environment.get(STACK_FOLDER)
    candidates = (_PROJECT_ROOT / folder / NAME,) if folder else (Path.cwd() / DEFAULT, _PROJECT_ROOT / DEFAULT)
    return next((path for path in candidates if path.is_file()), None)


def read(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the file's variables: `KEY=VALUE`, comments and blank lines, optional `export` and quotes."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            # The line itself may hold a secret.
            raise ConfigurationError(
                "not a KEY=VALUE line.", place=f"{path}:{number}", next_step="Correct or comment it."
            )
        yield name.strip(), _unquoted(value.strip())


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value
