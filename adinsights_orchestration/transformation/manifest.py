"""The dbt manifest: made by `prepare`, read when a code location loads.

Belongs here: parsing the project into files below `target/prepared`, knowing whether they are current, reading them.
Does not belong here: what the manifest says (`project`). The manifest is prepared with the image in staging and
production, where nothing changes the project afterwards; locally, where people edit models, a missing or outdated one
is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.command import (
    Command,
    default_providers,
    parse_key,
    providers_argument,
)
from adinsights_orchestration.transformation.process import DbtProcess
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.targets import MAKE_ROOM, TargetError, Targets, writing

MANIFEST_FILE = "manifest.json"
_DIGEST_FILE = "digest"
_NOT_PROJECT = frozenset(("target", "logs", "dbt_packages"))
_PREPARE = "Run `adinsights dbt prepare`, in an image while it is built."

logger = get_logger(__name__)


def load(settings: Settings) -> Project:
    """Reads the prepared manifest.

    In the `local` environment a missing or outdated one is prepared first, with one line in the log. Elsewhere it is
    a `ConfigurationError`: a code location must not take half a minute to load, nor serve another graph than it was
    built for.
    """
    problem = staleness(settings)
    if problem is not None:
        if settings.environment is not Environment.LOCAL:
            raise ConfigurationError(problem, place=str(manifest_path(settings)), next_step=_PREPARE)
        logger.info("preparing the dbt manifest", reason=problem)
        prepare(settings)
    return Project(read(settings.dbt.project_dir))


def read(project_dir: Path) -> dict[str, Any]:
    """Reads the prepared manifest of a project as it is."""
    content: dict[str, Any] = json.loads((Targets(project_dir).prepared / MANIFEST_FILE).read_bytes())
    return content


def manifest_path(settings: Settings) -> Path:
    """Where the prepared manifest is."""
    return Targets(settings.dbt.project_dir).prepared / MANIFEST_FILE


def staleness(settings: Settings) -> str | None:
    """Says in one line why the prepared manifest cannot be used; None when it can."""
    folder = Targets(settings.dbt.project_dir).prepared
    try:
        prepared = (folder / _DIGEST_FILE).read_text(encoding="utf-8")
        (folder / MANIFEST_FILE).stat()
    except FileNotFoundError:
        return "there is no prepared dbt manifest"
    if prepared != digest(settings):
        return "the dbt manifest was prepared from other files or settings"
    return None


def digest(settings: Settings) -> str:
    """What a manifest depends on, as one hash: the project's files, the providers, the schema, dbt's version."""
    found = hashlib.sha256()
    parts = [version("dbt-core"), settings.dbt.schema_, *sorted(settings.dbt.enabled_providers)]
    found.update("\0".join(parts).encode())
    for path in _project_files(settings.dbt.project_dir):
        name = path.relative_to(settings.dbt.project_dir).as_posix()
        found.update(f"\0{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def prepare(settings: Settings) -> Path:
    """Parses the project, unless that was done already, and returns the manifest's path. Needs no database.

    A copy goes to `target/manifest.json`, where other programs look for it. This one does not: any dbt command by hand
    replaces it, with whatever variables it was given.

    Raises:
        ConfigurationError: The project does not parse; dbt's own message is in it.
        TargetError: What was parsed cannot be written.
    """
    targets = Targets(settings.dbt.project_dir)
    chosen = providers_argument(default_providers(settings.dbt.project_dir), settings.dbt.enabled_providers)
    with _alone(targets.prepared):
        if staleness(settings) is not None or not (targets.root / MANIFEST_FILE).exists():
            wanted = digest(settings)
            command = Command(("parse",), providers=chosen)
            with targets.fresh("parse", parse_key(settings, command)) as folder:
                _parse(settings, command, folder)
                with writing(targets.root):
                    # The digest comes last: a kill before it leaves a manifest that counts as outdated.
                    (targets.prepared / _DIGEST_FILE).unlink(missing_ok=True)
                    (folder / MANIFEST_FILE).replace(targets.prepared / MANIFEST_FILE)
                    _write_atomically(targets.prepared / _DIGEST_FILE, wanted.encode())
                    _write_atomically(targets.root / MANIFEST_FILE, (targets.prepared / MANIFEST_FILE).read_bytes())
    return targets.prepared / MANIFEST_FILE


def _parse(settings: Settings, command: Command, folder: Path) -> None:
    process = DbtProcess(settings, command, folder)
    code = process.run()
    if process.unwritable is not None and code != 0:
        problem = f"dbt could not write what it parsed ({process.unwritable})"
        raise TargetError(problem, place=str(folder), next_step=MAKE_ROOM)
    if code != 0 or not (folder / MANIFEST_FILE).exists():
        reason = process.errors[-1] if process.errors else f"dbt ended with code {code}"
        raise ConfigurationError(
            f"the dbt project does not parse: {reason.strip()}",
            place=str(settings.dbt.project_dir),
            next_step=f"dbt's own log is {folder / 'dbt.log'}.",
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time prepare; the next one then finds the work done."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _project_files(project_dir: Path) -> list[Path]:
    """Every file that dbt could read, by name; what dbt writes and hidden files are not among them."""
    found = []
    for parent, folders, files in os.walk(project_dir):
        top = Path(parent) == project_dir
        folders[:] = [name for name in folders if not name.startswith(".") and not (top and name in _NOT_PROJECT)]
        found += [Path(parent) / name for name in files if not name.startswith(".")]
    return sorted(found)


def _write_atomically(path: Path, content: bytes) -> None:
    replacement = path.with_name(f".{path.name}.new")
    replacement.write_bytes(content)
    replacement.replace(path)
