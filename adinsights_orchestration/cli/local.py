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
    from adinsights_orchestration.local.turn import Holder

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
    """Start the whole stack with its automation and show the first cycle; Ctrl-C stops what was started."""
    from adinsights_orchestration.clock import utc_now
    from adinsights_orchestration.local import first_cycle
    from adinsights_orchestration.local.interrupts import interruptible, undone_on

    stack = _stack()
    since = utc_now()
    with interruptible():
        with stack.turn.taken("up"):
            was_up = stack.is_up()
            with undone_on(BaseException, lambda: _undo(stack), unless=was_up):
                stack.make_room(ui=True)
                stack.start_data_plane()
                stack.prepare_dagster_home()
                stack.start_dagster()
        if follow and not was_up:
            with undone_on(KeyboardInterrupt, lambda: _take_down(stack)):
                first_cycle.follow(process.settings(), process.say, since=since)
    _where(stack, already=was_up)


@app.command()
def down() -> None:
    """Stop the stack, and an `up` or a `demo` that is at work; its data stays for the next time."""
    stopped = _take_down(_stack())
    process.say(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def demo() -> None:
    """Run one cycle without the UI: sync every connection, build the models, publish; with a table at the end."""
    from adinsights_orchestration.local import cycle
    from adinsights_orchestration.local.interrupts import deaf, interruptible, undone_on

    stack = _stack(for_one_command=True)
    with interruptible(), stack.turn.taken("demo"):
        stack.make_room(ui=False)
        was_up = stack.is_up()
        with undone_on(BaseException, lambda: _undo(stack), unless=was_up):
            stack.start_data_plane()
            stack.prepare_dagster_home()
            result = cycle.run(process.settings(), process.say)
        if not was_up:
            with deaf():
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


def _undo(stack: Stack) -> None:
    if stopped := stack.stop():
        process.say(f"stopped again: {', '.join(stopped)}")


def _take_down(stack: Stack) -> list[str]:
    with stack.turn.taken_over("down", _ask_to_end):
        return stack.stop()


def _ask_to_end(holder: Holder) -> None:
    """Has an `up` or a `demo` undo itself; a `down` is only waited for."""
    who = f"`adinsights local {holder.command}` (pid {holder.process.pid})"
    if holder.command in ("up", "demo"):
        process.say(f"asking {who} to end")
        holder.process.terminate()
    else:
        process.say(f"waiting for {who}")


def _stack(*, for_one_command: bool = False) -> Stack:
    """The stack of this machine's settings, with its variables in force for this process too."""
    from adinsights_orchestration.local.settings import load_local_settings
    from adinsights_orchestration.local.stack import Stack

    stack = Stack(load_local_settings(), process.say, for_one_command=for_one_command)
    os.environ.update(stack.variables)
    return stack


def _where(stack: Stack, *, already: bool) -> None:
    lines = [f"  {part.name:<18}{part.where}" for part in stack.parts()]
    lines += [
        f"  {'logs':<18}{stack.state_dir / 'run'}",
        f"  {'published results':<18}{stack.state_dir / 'run_results.json'}",
    ]
    head = "The local stack was up already:" if already else "The local stack is up:"
    process.say("\n".join(["", head, *lines, "", "Stop it with `make down`; its data stays."]))
