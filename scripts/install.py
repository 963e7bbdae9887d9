"""Install the virtual environments from hashed pins, only when something they are made of changed.

What this is: the body of `make install`, in nothing but the standard library, because nothing is installed yet.
Belongs here: making an environment, and recognising a finished one. What does not: which packages (requirements/*.txt)
and which Python (install.sh).
The concept: a *stamp*, written last. An environment without its stamp was interrupted and is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

HEARTBEAT_SECONDS = 5.0
TAIL_LINES = 15
_REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(?=\s*(==|@))", re.MULTILINE)
_COLLECTING = re.compile(r"^(?:Collecting|Processing) (?P<what>\S+)")


class InstallError(Exception):
    """Something that a person has to mend; the message says how."""


@dataclass(frozen=True)
class Venv:
    """One virtual environment of the project.

    Attributes:
        folder: Its folder, relative to the root.
        pins: The hashed requirements file it is made of, relative to the root.
        holds_project: Whether the project itself is installed into it, editable.
    """

    folder: str
    pins: str
    holds_project: bool = False


VENVS = (
    Venv(".venv", "requirements/dev.txt", holds_project=True),
    Venv(".venv-connectors", "requirements/connectors.txt"),
)


# ------------------------------------------------------------------------------------------------------ decisions


DEV_HOME_MARK = "# Written by `make install`: the home of bare `dagster dev` in this folder; `make up` has its own."
DEV_HOME_CONFIG = """\
# The home of bare `dagster dev`: definitions to look at, nothing that runs by itself. Written by `make install`.
telemetry: {enabled: false}
nux: {enabled: false}
"""


def digest(*files: Path) -> str:
    """One hash over the files' names and contents."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def stamp_wanted(root: Path, venv: Venv) -> dict[str, str]:
    """What the stamp of a finished environment says; its scripts name their folder, so a moved clone is another one."""
    stamp = {"folder": str(root / venv.folder), "pins": digest(root / venv.pins)}
    if venv.holds_project:
        stamp["project"] = digest(root / "pyproject.toml", root / "adinsights_orchestration" / "__init__.py")
    return stamp


def stamp_found(root: Path, venv: Venv) -> dict[str, str]:
    """What the environment's stamp says; empty when there is none, or no interpreter to go with it."""
    folder = root / venv.folder
    if not os.access(folder / "bin" / "python", os.X_OK):
        return {}
    try:
        stamp = json.loads((folder / ".installed").read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in stamp.items()} if isinstance(stamp, dict) else {}


# ---------------------------------------------------------------------------------------------------------- edge


def say(text: str) -> None:
    """One progress line, at once even when the output is a file."""
    print(text, flush=True)


def write_stamp(path: Path, content: object) -> None:
    """Replaces the stamp in one step, after what it vouches for has reached the disk's cache in full."""
    half = path.with_suffix(".half")
    half.write_text(json.dumps(content, indent=1) + "\n")
    half.replace(path)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[int]:
    """Holds the folder's install lock and yields its descriptor, for children to inherit.

    A child keeps the lock as long as it lives: after a kill, the next install waits for an orphaned pip to end instead
    of removing files under its hands.
    """
    path = root / ".local" / "install.lock"
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("install: waiting for another installation in this folder to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _lines(process: subprocess.Popen[str]) -> Iterator[str | None]:
    """The process's output line by line, and None whenever it has been silent for a heartbeat."""
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stream = process.stdout
    assert stream is not None

    def read() -> None:
        for line in stream:
            found.put(line)
        found.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while True:
        try:
            line = found.get(timeout=HEARTBEAT_SECONDS)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


@contextlib.contextmanager
def _child(arguments: Sequence[str], lock: int) -> Iterator[subprocess.Popen[str]]:
    # A PIP_USER, a PIP_TARGET or a PYTHONPATH of the person's own would send packages elsewhere, silently.
    mine = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET"}}
    quiet = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=mine | quiet,
        pass_fds=(lock,),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


class Progress:
    """Progress of one pip, a line for every tenth of the packages and a sign of life while it unpacks."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._seen = 0
        self._started = time.monotonic()
        self._unpacking = False

    def take(self, line: str | None) -> None:
        """Takes one line of pip's output, or None for a silent heartbeat."""
        if line is None:
            say(f"{self._label}: {'unpacking' if self._unpacking else 'downloading'}, {self._elapsed()} s so far")
        elif line.startswith("Installing collected packages"):
            self._unpacking = True
            say(f"{self._label}: unpacking {self._total} packages")
        elif found := _COLLECTING.match(line):
            self._seen += 1
            if self._seen * 10 // self._total > (self._seen - 1) * 10 // self._total:
                say(f"{self._label}: {self._seen} of {self._total} packages found, now {found['what']}")

    def _elapsed(self) -> int:
        return round(time.monotonic() - self._started)


def run_logged(arguments: Sequence[str], *, log: Path, progress: Progress, lock: int, failure: str) -> None:
    """Runs a child, keeps all its output in a file and shows its end when it fails."""
    tail: list[str] = []
    with log.open("a") as record, _child(arguments, lock) as process:
        for line in _lines(process):
            progress.take(line)
            if line is not None:
                record.write(line)
                tail = [*tail[-TAIL_LINES + 1 :], line]
        code = process.wait()
    if code != 0:
        raise InstallError(f"{failure} (exit {code}; all of it in {log}):\n{''.join(tail)}")


def remove(folder: Path) -> None:
    """Removes a half-made or outdated environment, its stamp first: a kill in the middle leaves no liar behind."""
    try:
        (folder / ".installed").unlink(missing_ok=True)
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InstallError(f"cannot remove {folder} ({error.strerror}): remove it as the user it belongs to") from error


def make_venv(root: Path, venv: Venv, lock: int) -> None:
    """Makes the environment from nothing and fills it with its pins; leaves the stamp to the caller."""
    if importlib.util.find_spec("ensurepip") is None:
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        raise InstallError(f"{name} cannot make virtual environments; run: apt-get install {name}-venv")
    folder, pins = root / venv.folder, root / venv.pins
    remove(folder)
    total = len(_REQUIREMENT.findall(pins.read_text()))
    say(f"{venv.folder}: new environment, {total} pinned packages from {venv.pins}")
    log = root / ".local" / f"install{venv.folder}.log"
    log.write_text("")
    progress = Progress(venv.folder, total)
    create = [sys.executable, "-m", "venv", str(folder)]
    run_logged(create, log=log, progress=progress, lock=lock, failure=f"{venv.folder}: could not be created")
    # Every pin is a wheel and the set is complete, so nothing is built, resolved or fetched without its hash.
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar=off"]
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", *options, "--requirement", str(pins)]
    run_logged(install, log=log, progress=progress, lock=lock, failure=f"{venv.folder}: pip failed")


def install_project(root: Path, venv: Venv, lock: int) -> None:
    """Installs the project itself, editable, built by the pinned hatchling that is already in the environment."""
    say(f"{venv.folder}: the project itself")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    python = str(root / venv.folder / "bin" / "python")
    run_logged(
        [python, "-m", "pip", "install", *options, "--editable", str(root)],
        log=root / ".local" / f"install{venv.folder}.log",
        progress=Progress(venv.folder, 1),
        lock=lock,
        failure=f"{venv.folder}: the project could not be installed",
    )


def ensure_venv(root: Path, venv: Venv, lock: int) -> bool:
    """Makes the environment what its pins say; returns whether there was anything to do."""
    stamp, wanted, found = root / venv.folder / ".installed", stamp_wanted(root, venv), stamp_found(root, venv)
    if found == wanted:
        return False
    if any(found.get(name) != wanted[name] for name in ("folder", "pins")):
        make_venv(root, venv, lock)
        write_stamp(stamp, {name: wanted[name] for name in ("folder", "pins")})
    if venv.holds_project:
        install_project(root, venv, lock)
        write_stamp(stamp, wanted)
    return True


def give_dagster_dev_a_home(root: Path) -> None:
    """Lets bare `dagster dev` in this folder work: Dagster reads `.env`, and finds a home of its own there.

    Without one it would take the `dagster.yaml` beside it, which asks for a Postgres. Another `.env` is left alone.
    """
    env, home = root / ".env", root / ".local" / "dev"
    if env.exists() and not env.read_text().startswith(DEV_HOME_MARK):
        return
    home.mkdir(parents=True, exist_ok=True)
    write_text(home / "dagster.yaml", DEV_HOME_CONFIG)
    write_text(env, f'{DEV_HOME_MARK}\nDAGSTER_HOME="{home}"\n')


def write_text(path: Path, content: str) -> None:
    """Replaces a file in one step, where it differs."""
    if path.exists() and path.read_text() == content:
        return
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(content)
    unfinished.replace(path)


def main(root: Path) -> int:
    """Installs what is missing; returns the exit code."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    started = time.monotonic()
    try:
        with alone(root) as lock:
            done = [ensure_venv(root, venv, lock) for venv in VENVS]
            give_dagster_dev_a_home(root)
    except InstallError as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("install: interrupted; run it again to go on", file=sys.stderr)
        return 130
    if any(done):
        say(f"install: done in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(__file__).resolve().parent.parent))
