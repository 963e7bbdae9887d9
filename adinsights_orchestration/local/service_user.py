"""Root's Postgres: it runs as `nobody`, and what that user cannot reach lies below /var/tmp instead.

Belongs here: whom the server runs as, and where that user can get at data and binaries. Does not belong here: the
server (`postgres`). For an ordinary user all of this changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import Any

from adinsights_orchestration.errors import AdinsightsError

_NAME = "nobody"
_PLACES = Path("/var/tmp")  # noqa: S108  (root only; made below with safe modes)


class PlaceError(AdinsightsError):
    """A place below /var/tmp cannot be trusted."""


def as_service_user() -> dict[str, Any]:
    """What `subprocess` is told so that a child runs as the service user; nothing for an ordinary user."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_NAME)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def give_to_service_user(path: Path) -> None:
    """Makes the service user the owner of a file or an empty folder."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(_NAME)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def reachable_path(path: Path) -> Path:
    """The path itself, or where it lies instead; makes nothing."""
    return path if _reachable(path) else _place_of(path) / path.name


def make_reachable(path: Path) -> None:
    """Makes the folder that `reachable_path` names, with a link where the path itself would be.

    The folder is emptied when there is no such link: whoever removed the state folder meant its data too.
    """
    instead = reachable_path(path)
    if instead == path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    _make_place(path)
    if not path.is_symlink():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(instead, ignore_errors=True)
        path.symlink_to(instead)


def reachable_binaries(bin_dir: Path) -> Path:
    """The folder of programs itself, or that of a copy which the service user can execute."""
    install = bin_dir.parent
    if _reachable(bin_dir / "postgres"):
        return bin_dir
    _make_place(install)
    copy = _place_of(install) / "pginstall"
    if not (copy / "complete").exists():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(install, copy, symlinks=True)
        (copy / "complete").touch()
    return copy / "bin"


def _reachable(path: Path) -> bool:
    """Whether every parent folder lets the service user pass, or will once it is made."""
    if os.geteuid() != 0:
        return True
    mask = os.umask(0o022)
    os.umask(mask)
    parents = _spelled(path).parents
    return all((parent.stat().st_mode if parent.exists() else ~mask) & stat.S_IXOTH for parent in parents)


def _place_of(path: Path) -> Path:
    return _PLACES / f"adinsights-{hashlib.sha256(str(_spelled(path)).encode()).hexdigest()[:12]}"


def _spelled(path: Path) -> Path:
    """The path in one spelling; not through itself, which may be the link to where it lies instead."""
    return path.parent.resolve() / path.name


def _make_place(path: Path) -> None:
    place = _place_of(path)
    place.mkdir(mode=0o755, exist_ok=True)
    owner = place.lstat()
    if owner.st_uid != 0 or not stat.S_ISDIR(owner.st_mode):
        raise PlaceError(f"{place} is not root's own folder", next_step="Remove it, then try again.")
    place.chmod(0o755)  # whatever the umask
