"""`adinsights exec`: any program, with everything it prints turned into the project's log lines.

Belongs here: joining a program's output to the log forwarder and becoming that program. Does not belong here: what
happens to a line (`log_stream`). The program keeps this process' id and gets its signals and exit code directly; the
forwarder is its child, and ends when the last process that writes into it has ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Annotated

import typer

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.log_stream import COMPONENT_VARIABLE


def execute(
    program: Annotated[
        list[str], typer.Argument(help="The program and its arguments, after `--`.", metavar="PROGRAM...")
    ],
    component: Annotated[str, typer.Option(help="The name of the process in its log lines.")] = "process",
) -> None:
    """Run a program with its output as the project's JSON log lines.

    Example: adinsights exec --component daemon -- dagster-daemon run -w workspace.yaml
    """
    path = shutil.which(program[0])
    if path is None:
        raise ConfigurationError(f"there is no program {program[0]!r} on PATH.", next_step="Check the spelling.")
    environment = {**os.environ, COMPONENT_VARIABLE: component}
    _join_forwarder(environment)
    os.execve(path, program, environment)  # noqa: S606  (no shell: the arguments are given as a list)


def _join_forwarder(environment: dict[str, str]) -> None:
    """Starts the forwarder on this process' standard output, then puts a pipe to it in the place of both outputs."""
    reading, writing = os.pipe()
    subprocess.Popen(
        [sys.executable, "-m", "adinsights_orchestration.log_stream"],
        stdin=reading,
        stderr=subprocess.STDOUT,
        env=environment,
        close_fds=True,
    )
    os.close(reading)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
