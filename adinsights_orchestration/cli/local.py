"""`adinsights local`: the local stack's commands.

Belongs here: arguments, progress lines and exit codes. Does not belong here: what the stack is (`local.stack`) and
what one cycle does (`local.cycle`). This is the only module outside `local/` that knows the local stack exists.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from adinsights_orchestration.cli import process

if TYPE_CHECKING:
    from adinsights_orchestration.local.stack import Stack

app = typer.Typer(
    help="The local stack: a real Postgres, real connectors, Dagster, on loopback only.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
_LOG_LINES = 40


@app.command()
def up(
    follow: Annotated[bool, typer.Option(help="Show the first cycle before returning.")] = True,
) -> None:
    """Start the whole stack with its automation and show the first cycle."""
    from adinsights_orchestration.local import cycle

    stack = _stack()
    with stack.alone():
        since = cycle.now()
        stack.start_data_plane()
        stack.prepare_dagster_home()
        stack.start_dagster()
    if follow:
        cycle.follow_first(process.settings(), process.say, since=since)
    _where(stack)


@app.command()
def down() -> None:
    """Stop the stack; its data stays for the next time."""
    stack = _stack()
    with stack.alone():
        stopped = stack.stop()
    process.say(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def demo() -> None:
    """Run one cycle without the UI: sync every connection, build the models, publish; with a table at the end."""
    from adinsights_orchestration.local import cycle

    stack = _stack()
    with stack.alone():
        running = [part.name for part in stack.parts() if part.running]
        try:
            stack.start_data_plane()
            stack.prepare_dagster_home()
            result = cycle.run(process.settings(), process.say)
        finally:
            if not running:
                stack.stop()
    cycle.show(result)
    raise typer.Exit(0 if result.succeeded else 1)


@app.command()
def status(as_json: process.JsonOption = False) -> None:
    """Show what runs and where it is."""
    parts = _stack().parts()
    rows = [{"part": part.name, "running": "yes" if part.running else "no", "where": part.where} for part in parts]
    process.print_rows(rows, as_json=as_json)
    raise typer.Exit(0 if all(part.running for part in parts) else 1)


@app.command()
def env() -> None:
    """Print the stack's environment as shell exports: `eval "$(adinsights local env)"`."""
    import shlex

    for name, value in sorted(_stack().variables.items()):
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="dagster or service.")] = "dagster",
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.")] = _LOG_LINES,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
) -> None:
    """Print a process' log lines."""
    stack = _stack()
    known = {each.name: each.log for each in (stack.dagster, stack.service)}
    if name not in known:
        raise typer.BadParameter(f"one of {', '.join(known)}")
    if not known[name].exists():
        process.say(f"{name} has not run yet")
        raise typer.Exit(1)
    with known[name].open(errors="replace") as log:
        sys.stdout.write("".join(log.readlines()[-lines:]))
        while follow:
            line = log.readline()
            sys.stdout.write(line) if line else time.sleep(0.3)
            sys.stdout.flush()


def _stack() -> Stack:
    """The stack of this machine's settings, with its variables in force for this process too."""
    from adinsights_orchestration.local.settings import LocalSettings
    from adinsights_orchestration.local.stack import Stack

    stack = Stack(LocalSettings(), process.say)
    os.environ.update(stack.variables)
    return stack


def _where(stack: Stack) -> None:
    lines = [f"  {part.name:<18}{part.where}" for part in stack.parts()]
    lines += [
        f"  {'logs':<18}{stack.state_dir / 'run'}",
        f"  {'published results':<18}{stack.state_dir / 'run_results.json'}",
    ]
    process.say("\n".join(["", "The local stack is up:", *lines, "", "Stop it with `make down`; its data stays."]))
