"""The table of commands, and a group that loads a command only when it is called.

Belongs here: every command's name, where it lives and its one line of help. Does not belong here: what it does. Loading
Dagster, dbt's adapters or a database driver takes seconds; `adinsights --help` must not.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

_PACKAGE = "adinsights_orchestration.cli"


@dataclass(frozen=True, slots=True)
class _Command:
    module: str
    attribute: str
    help: str
    panel: str


def _command(module: str, attribute: str, text: str, panel: str) -> _Command:
    return _Command(f"{_PACKAGE}.{module}", attribute, text, panel)


_DATA, _SETUP, _STACK = "Data", "Set-up and health", "Processes"
COMMANDS: dict[str, _Command] = {
    "connections": _command(
        "connections", "connections", "List connections with their last sync and next due time.", _DATA
    ),
    "sync": _command("sync", "sync", "Sync a tenant's connections now and follow them to the end.", _DATA),
    "refresh": _command("repair", "refresh", "Sync a connection's whole history again. Dry run unless --yes.", _DATA),
    "clear": _command("repair", "clear", "Delete a connection's data in the warehouse. Dry run unless --yes.", _DATA),
    "schema": _command("repair", "schema_app", "Show or approve a connection's schema change.", _DATA),
    "dbt": _command("dbt", "app", "Prepare the dbt project, or build its models.", _DATA),
    "registry": _command("registry", "app", "Show or refresh who is served.", _DATA),
    "audit": _command("audit", "app", "The audit log: archive, verify, query, status, retention, restore.", _DATA),
    "findings": _command("findings", "findings", "List what a person should know.", _DATA),
    "alerts": _command("alerts", "app", "List, acknowledge, silence, test and replay alerts.", _SETUP),
    "incidents": _command("incidents", "app", "Write an incident's report.", _SETUP),
    "healthcheck": _command("healthcheck", "healthcheck", "Whether alerting is alive; exit code 0 yes, 1 no.", _SETUP),
    "status": _command("status", "status", "Show how everything is; exit code 0 ok, 1 degraded, 2 down.", _SETUP),
    "doctor": _command("doctor", "doctor", "Check every setting against the world, with the next step.", _SETUP),
    "migrate": _command("setup", "migrate", "Bring the ops store to the newest schema.", _SETUP),
    "settings": _command("setup", "settings", "Show every setting in force; secrets stay hidden.", _SETUP),
    "exec": _command("exec", "execute", "Run a program with its output as the project's JSON log lines.", _STACK),
    "local": _command("local", "app", "The local stack: up, down, demo, status, env, logs.", _STACK),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports one when it is run."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The names, in the order of the table."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """One section of help for each kind of command."""
        for panel in dict.fromkeys(command.panel for command in COMMANDS.values()):
            with formatter.section(panel):
                formatter.write_dl([(name, known.help) for name, known in COMMANDS.items() if known.panel == panel])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """A stand-in with the one line of help: enough to list and complete commands."""
        known = COMMANDS.get(cmd_name)
        if known is None:
            return None
        return TyperCommand(cmd_name, help=known.help, short_help=known.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command that was typed, imported now."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        if stand_in is None or name is None:
            return name, stand_in, rest
        return name, load(name), rest


def load(name: str) -> Any:
    """Imports the command `name`: a group of commands, or a function."""
    known = COMMANDS[name]
    loaded = getattr(import_module(known.module), known.attribute)
    if isinstance(loaded, typer.Typer):
        return _named(get_command(loaded), name)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, help=None)(loaded)
    return _named(get_command(single), name)


def application() -> Any:
    """The whole command line, as a callable."""
    app = typer.Typer(
        cls=LazyGroup,
        rich_markup_mode=None,  # rich help imports a Markdown parser: half a second for every command
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="ADinsights Orchestration: Airbyte syncs, dbt models, and what watches them.",
    )
    app.callback()(_root)
    return get_command(app)


def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of failures, and log more.")] = False,
) -> None:
    """ADinsights Orchestration: Airbyte syncs, dbt models, and what watches them."""


def _named(command: Any, name: str) -> Any:
    command.name = name
    return command
