"""`adinsights local` where nothing has to run: ports that are taken, a stack that is down, settings that are wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adinsights_orchestration.local import environment
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.local.stack import Stack, StackError
from adinsights_orchestration.local.turn import Turn
from adinsights_orchestration.settings import PROJECT_ROOT
from tests.conftest import free_port

PORTS = ("POSTGRES_PORT", "SERVICE_PORT", "UI_PORT")


@dataclass(frozen=True)
class Machine:
    """Three free ports and a folder of its own."""

    ports: dict[str, int]
    folder: Path

    def local(self, *arguments: str, **others: str) -> subprocess.CompletedProcess[str]:
        """Runs `adinsights local` there."""
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith(("ADINSIGHTS_", "DAGSTER_"))
        }
        mine = {f"ADINSIGHTS_LOCAL_{name}": str(port) for name, port in self.ports.items()}
        mine |= {"ADINSIGHTS_LOCAL_STATE_DIR": str(self.folder), **others}
        command = [sys.executable, "-m", "adinsights_orchestration.cli", "local", *arguments]
        return subprocess.run(
            command, cwd=PROJECT_ROOT, env=outside | mine, capture_output=True, text=True, timeout=120, check=False
        )

    def stack(self) -> Stack:
        """The stack there, in this process."""
        postgres, service, ui = (self.ports[name] for name in PORTS)
        local = LocalSettings(postgres_port=postgres, service_port=service, ui_port=ui, state_dir=self.folder)
        return Stack(local, print)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine({name: free_port() for name in PORTS}, tmp_path / "state")


@pytest.fixture
def taken(machine: Machine, request: pytest.FixtureRequest) -> Iterator[str]:
    """The port of this name, taken by somebody else."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", machine.ports[request.param]))
        other.listen()
        yield request.param


@pytest.mark.parametrize("taken", PORTS, indirect=True)
def test_a_taken_port_is_one_line_that_names_it_one_with_the_way_out_and_nothing_starts(
    machine: Machine, taken: str
) -> None:
    done = machine.local("up")
    assert done.stderr.splitlines() == [
        f"port {machine.ports[taken]} on 127.0.0.1 is taken",
        f"  Stop what uses it, or set ADINSIGHTS_LOCAL_{taken}.",
    ]
    assert done.returncode == 2
    assert not (machine.folder / "postgres").exists()


@pytest.mark.parametrize("taken", ["POSTGRES_PORT", "SERVICE_PORT"], indirect=True)
def test_a_demo_names_the_port_that_it_needs(machine: Machine, taken: str) -> None:
    done = machine.local("demo")
    assert done.stderr.splitlines()[0] == f"port {machine.ports[taken]} on 127.0.0.1 is taken"
    assert done.returncode == 2


@pytest.mark.parametrize("taken", ["UI_PORT"], indirect=True)
def test_a_demo_has_no_use_for_the_ui_s_port(machine: Machine, taken: str) -> None:
    machine.stack().make_room(ui=False)
    with pytest.raises(StackError, match=str(machine.ports[taken])):
        machine.stack().make_room(ui=True)


def test_taking_down_what_is_not_up_is_no_failure_however_often(machine: Machine) -> None:
    for _ in range(2):
        done = machine.local("down")
        assert (done.returncode, done.stderr) == (0, "nothing was running\n")


def test_the_status_of_a_stack_that_is_down_says_so_with_its_addresses(machine: Machine) -> None:
    done = machine.local("status", "--json")
    assert done.returncode == 1
    assert done.stdout.count('"no"') == 3
    assert f"http://127.0.0.1:{machine.ports['UI_PORT']}" in done.stdout


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ADINSIGHTS_LOCAL_UI_PORT", "abc", "ADINSIGHTS_LOCAL_UI_PORT: Input should be a valid integer"),
        ("ADINSIGHTS_LOCAL_DAYS", "0", "ADINSIGHTS_LOCAL_DAYS: Input should be greater than or equal to 1"),
        ("ADINSIGHTS_LOCAL_UI_PORT", "the service's", "ADINSIGHTS_LOCAL_*: two of POSTGRES_PORT, SERVICE_PORT"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(
    machine: Machine, variable: str, value: str, said: str
) -> None:
    value = str(machine.ports["SERVICE_PORT"]) if value == "the service's" else value
    done = machine.local("up", **{variable: value})
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert not machine.folder.exists()


def test_a_second_command_is_told_who_is_at_work(machine: Machine) -> None:
    with Turn(machine.folder).taken("up"):
        done = machine.local("demo")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"{machine.folder}: `adinsights local up` (pid {os.getpid()}) is at work"


def test_other_settings_than_those_that_it_runs_with_are_refused(machine: Machine) -> None:
    stack = machine.stack()
    machine.folder.mkdir()
    environment.write_environment_file(machine.folder / "stack.env", stack.variables)
    stack.postgres.start()
    try:
        stack.make_room(ui=True)
        moved = Machine({**machine.ports, "UI_PORT": free_port()}, machine.folder)
        with pytest.raises(StackError, match=r"already runs with other settings \(ADINSIGHTS_LOCAL_UI_PORT\)"):
            moved.stack().make_room(ui=True)
    finally:
        assert stack.stop() == ["postgres"]
