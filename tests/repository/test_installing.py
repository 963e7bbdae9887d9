"""`make install` on a tiny project: real interpreters and real pip, on pins in a folder; nothing is downloaded."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from scripts.install import (
    InstallError,
    Venv,
    alone,
    ensure_venv,
    give_dagster_dev_a_home,
    make_venv,
    stamp_found,
    stamp_wanted,
)
from tests.repository.checkout import ROOT

VENV = Venv(".venv", "requirements/dev.txt", holds_project=True)
# A pinned package that also builds the project, as hatchling does: proof that no build is isolated and none is fetched.
BUILDER = """
import pathlib, zipfile
INFO = {
    "METADATA": "Metadata-Version: 2.1\\nName: tiny-project\\nVersion: 1.0\\n",
    "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "RECORD": "",
}
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "tiny_project-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("tiny_project.pth", str(pathlib.Path.cwd()))
        for part, text in INFO.items():
            wheel.writestr(f"tiny_project-1.0.dist-info/{part}", text)
    return name
"""


def _wheel(folder: Path, version: str) -> str:
    """Writes a wheel of the builder and returns its pin."""
    path = folder / f"tiny_builder-{version}-py3-none-any.whl"
    info = f"tiny_builder-{version}.dist-info"
    members = {
        "tiny_builder.py": BUILDER + f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-builder\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for name, text in members.items()
    ]
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in members.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"tiny-builder @ {path.as_uri()} --hash=sha256:{digest}\n"


def _project(root: Path) -> Path:
    """A project with a space in its path: one pin in each environment."""
    (root / "requirements").mkdir(parents=True)
    for name in ("dev", "connectors"):
        (root / "requirements" / f"{name}.txt").write_text(_wheel(root, "1.0"))
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["nothing-of-the-kind"]\nbuild-backend = "tiny_builder"\n'
    )
    (root / "adinsights_orchestration").mkdir()
    (root / "adinsights_orchestration" / "__init__.py").write_text('__version__ = "1.0"\n')
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return _project(tmp_path / "a project")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose environment was installed once, because that takes seconds; tests leave it finished."""
    root = _project(tmp_path_factory.mktemp("install") / "a project")
    with alone(root) as lock:
        assert ensure_venv(root, VENV, lock)
    return root


def _in_venv(root: Path, code: str) -> str:
    python = root / ".venv" / "bin" / "python"
    return subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True, check=True).stdout.strip()


def _install(root: Path) -> subprocess.Popen[str]:
    script = [sys.executable, str(root / "scripts" / "install.py")]
    return subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_pins_and_the_project_are_installed_in_a_path_with_spaces(finished: Path) -> None:
    code = "import tiny_builder, adinsights_orchestration as a; print(tiny_builder.__name__, a.__file__)"
    assert _in_venv(finished, code) == f"tiny_builder {finished / 'adinsights_orchestration' / '__init__.py'}"


def test_the_second_installation_has_nothing_to_do(finished: Path) -> None:
    with alone(finished) as lock:
        assert not ensure_venv(finished, VENV, lock)


def test_a_new_version_of_the_project_keeps_the_packages(finished: Path) -> None:
    mark = finished / ".venv" / "still-the-same"
    mark.touch()
    (finished / "adinsights_orchestration" / "__init__.py").write_text('__version__ = "1.1"\n')
    with alone(finished) as lock:
        assert ensure_venv(finished, VENV, lock)
    assert mark.exists()
    assert stamp_found(finished, VENV) == stamp_wanted(finished, VENV)


def test_a_lost_interpreter_counts_as_no_environment(finished: Path) -> None:
    python = finished / ".venv" / "bin" / "python"
    target = python.readlink()
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    try:
        assert stamp_found(finished, VENV) == {}
    finally:
        python.unlink()
        python.symlink_to(target)


def test_a_clone_that_was_moved_has_no_environment_yet(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished, moved, symlinks=True)
    assert stamp_found(moved, VENV) != stamp_wanted(moved, VENV)


def test_an_installation_waits_for_the_one_that_is_under_way(finished: Path) -> None:
    with (finished / ".local" / "install.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = _install(finished)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "install: waiting for another installation in this folder to end\n"
        waiting.kill()
        waiting.wait()
        waiting.stdout.close()


def test_other_pins_make_another_environment(finished: Path) -> None:
    (finished / VENV.pins).write_text(_wheel(finished, "2.0"))
    (finished / ".venv" / "left-over").touch()
    with alone(finished) as lock:
        assert ensure_venv(finished, VENV, lock)
    assert _in_venv(finished, "import tiny_builder; print(tiny_builder.VERSION)") == "2.0"
    assert not (finished / ".venv" / "left-over").exists()


def test_a_file_with_another_hash_is_refused_and_leaves_no_stamp(root: Path) -> None:
    pin = (root / VENV.pins).read_text()
    (root / VENV.pins).write_text(pin.split("sha256:")[0] + "sha256:" + "0" * 64 + "\n")
    with alone(root) as lock, pytest.raises(InstallError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        ensure_venv(root, VENV, lock)
    assert stamp_found(root, VENV) == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_a_kill_in_the_middle_is_mended_by_the_next_installation(root: Path, number: signal.Signals) -> None:
    killed = _install(root)
    while not (root / ".venv" / "bin" / "python").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(number)
    killed.communicate()
    assert stamp_found(root, VENV) == {}
    again = _install(root)
    output, _ = again.communicate()
    assert (again.returncode, "install: done in" in output) == (0, True), output
    assert _in_venv(root, "import tiny_builder; print(tiny_builder.VERSION)") == "1.0"


def test_a_python_without_venv_is_answered_with_debian_s_package(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with alone(root) as lock, pytest.raises(InstallError, match=r"^python3\.\d+ .* apt-get install python3\.\d+-venv$"):
        make_venv(root, VENV, lock)


def test_a_machine_without_python_is_told_what_to_install_in_one_line(root: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [str(root / "scripts" / "install.sh")], env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "apt-get install python3.11 python3.11-venv" in done.stderr


def test_an_interpreter_that_was_asked_for_is_never_replaced_by_another(root: Path) -> None:
    done = subprocess.run(
        [str(root / "scripts" / "install.sh")],
        env=os.environ | {"PYTHON": "python2.7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "install: PYTHON=python2.7 is not a Python 3.11 or 3.12\n")


def test_bare_dagster_dev_gets_a_home_of_its_own_in_a_path_with_spaces(tmp_path: Path) -> None:
    root = tmp_path / "a project"
    root.mkdir()
    give_dagster_dev_a_home(root)
    give_dagster_dev_a_home(root)
    mark, home_line = (root / ".env").read_text().splitlines()
    assert mark.startswith("# Written by `make install`")
    assert home_line == f'DAGSTER_HOME="{root / ".local" / "dev"}"'
    home = yaml.safe_load((root / ".local" / "dev" / "dagster.yaml").read_text())
    assert home == {"telemetry": {"enabled": False}, "nux": {"enabled": False}}


def test_an_env_file_of_somebody_s_own_is_left_alone(tmp_path: Path) -> None:
    mine = "DAGSTER_HOME=/somewhere/else\n"
    (tmp_path / ".env").write_text(mine)
    give_dagster_dev_a_home(tmp_path)
    assert (tmp_path / ".env").read_text() == mine
