"""This machine and this process: versions, variables, timezones, disk.

Belongs here: what can be told without any server. Does not belong here: whether addresses lead anywhere.
"""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import SecretStr

from adinsights_orchestration.doctor.model import Verdict, fail, ok, some, warn
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import LOCAL_DIR, LOCAL_PASSWORD, PROJECT_ROOT, Settings

SUPPORTED_PYTHONS = ((3, 11), (3, 12))
_DISTRIBUTION = "adinsights-orchestration"
_PINS = PROJECT_ROOT / "requirements" / "runtime.txt"
_LOW_BYTES, _NO_BYTES = 2 * 1024**3, 200 * 1024**2
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SAMPLE_TIMEZONES = ("America/Jamaica", "Europe/London", "UTC")
# Variables with our prefix that are not settings of the product.
_OTHER_VARIABLES = ("ADINSIGHTS_ENV_FILE", "ADINSIGHTS_COMPONENT")
_OTHER_PREFIXES = ("ADINSIGHTS_LOCAL_",)


def python(_world: World) -> Verdict:
    """The interpreter is one that the dependencies are tested with."""
    version = sys.version_info[:2]
    shown = ".".join(map(str, sys.version_info[:3]))
    if version not in SUPPORTED_PYTHONS:
        return fail(f"Python {shown}", "Use Python 3.11 or 3.12.")
    return ok(f"Python {shown}")


def dependencies(_world: World) -> Verdict:
    """Installed packages are the pinned ones; without a checkout, at least within the declared bounds."""
    wanted = dict(_pinned(_PINS.read_text())) if _PINS.is_file() else dict(_declared())
    found = {name: _installed(name) for name in wanted}
    missing = [name for name, version in found.items() if version is None]
    other = [f"{name} {found[name]} (pinned {wanted[name]})" for name in wanted if _differs(found[name], wanted[name])]
    if missing:
        return fail(f"not installed: {some(missing)}", "Run `make install`.")
    if other:
        return warn(f"other versions than the pinned ones: {some(other)}", "Run `make install`.")
    return ok(f"{len(wanted)} packages are as pinned")


def variables(world: World) -> Verdict:
    """Every variable with our prefix is a setting: a misspelt one would be ignored without a word."""
    from adinsights_orchestration.cli.settings_page import setting_rows

    known = {row.variable for row in setting_rows()}
    ours = {name for name in world.environment if name.startswith("ADINSIGHTS_")}
    unknown = sorted(name for name in ours - known - {*_OTHER_VARIABLES} if not name.startswith(_OTHER_PREFIXES))
    if not unknown:
        return ok(f"{len(ours & known)} settings come from the environment")
    meant = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"Did you mean {meant[0]}?" if meant else "docs/settings.md lists them all."
    return warn(f"no setting has the name {some(unknown)}; it is ignored", hint)


def local_defaults(world: World) -> Verdict:
    """Outside the local environment nothing still points at the local stack."""
    environment = world.settings.environment
    if environment is Environment.LOCAL:
        return ok("the local environment uses the local stack's defaults")
    left = list(_left_local(world.settings))
    if left:
        return fail(
            f"{environment} still has the local stack's default for {some(left)}", "Set it; see docs/settings.md."
        )
    return ok(f"no address, password or place in {environment} is a local default")


def timezones(world: World) -> Verdict:
    """Timezone data is there."""
    for name in (world.settings.home_timezone, *_SAMPLE_TIMEZONES):
        try:
            ZoneInfo(name)
        except ZoneInfoNotFoundError:
            return fail(f"no data for the timezone {name}", "Install the package tzdata.")
    return ok(f"home timezone {world.settings.home_timezone}")


def disk(world: World) -> Verdict:
    """There is room where builds, logs and run results are written."""
    places = {existing(path) for path in _written(world)}
    free = {place: shutil.disk_usage(place).free for place in places}
    place, least = min(free.items(), key=lambda item: item[1])
    shown = f"{least / 1024**3:.1f} GiB free at {place}"
    if least < _NO_BYTES:
        return fail(shown, "Free some space: builds and published run results fail without it.")
    return warn(shown, "Free some space soon.") if least < _LOW_BYTES else ok(shown)


def _pinned(text: str) -> Iterator[tuple[str, str]]:
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, flags=re.MULTILINE):
        yield canonicalize_name(name), version


def _declared() -> Iterator[tuple[str, str]]:
    for line in metadata.requires(_DISTRIBUTION) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name), str(requirement.specifier)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _differs(version: str | None, wanted: str) -> bool:
    if version is None:
        return False
    if wanted[:1].isdigit():
        return version != wanted
    return not Requirement(f"x{wanted}").specifier.contains(version, prereleases=True)


def _left_local(settings: Settings) -> Iterator[str]:
    """Variables that keep a default which leads to the local stack."""
    from adinsights_orchestration.cli.settings_page import setting_rows

    for row in setting_rows():
        value: object = settings
        for part in row.path:
            value = getattr(value, part)
        if value == row.default and of_the_local_stack(row.default):
            yield row.variable


def of_the_local_stack(default: object) -> bool:
    """Whether a default leads to this machine: an address on loopback, the local password, a place in `.local/`."""
    if isinstance(default, Path):
        return default.is_relative_to(LOCAL_DIR)
    text = default.get_secret_value() if isinstance(default, SecretStr) else default
    if not isinstance(text, str):
        return False
    host = urlsplit(text).hostname if "://" in text else text
    return host in _LOOPBACK or text == LOCAL_PASSWORD or text.startswith(f"{LOCAL_DIR.as_uri()}/")


def _written(world: World) -> Iterator[Path]:
    yield world.settings.dbt.run_results_path
    yield world.settings.dbt.project_dir
    yield Path(tempfile.gettempdir())
    for variable in ("DAGSTER_HOME", "DAGSTER_COMPUTE_LOG_DIR"):
        if world.environment.get(variable):
            yield Path(world.environment[variable])


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def host_of(url: str) -> str:
    """The host and port of an address, without credentials."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
