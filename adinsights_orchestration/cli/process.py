"""What commands share: the settings of this process, its log lines, and the consoles it writes to.

Belongs here: loading settings once with logging configured behind them, tables, JSON. Not here: any command.
Results go to standard output, log lines and progress to standard error, so that `--json` can be piped.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.redaction import redact, redact_value
from adinsights_orchestration.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from adinsights_orchestration.ops_store.store import OpsStore

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without this only the plan is printed.")]


def settings() -> Settings:
    """Reads the settings and configures logging: warnings and worse, everything that is enabled with `--debug`."""
    from adinsights_orchestration.logs import configure_logging

    loaded = load_settings()
    configure_logging(for_people(loaded), "cli")
    return loaded


def for_people(loaded: Settings) -> Settings:
    """The settings with log lines for whoever reads standard error: a person at a terminal, or a collector."""
    quiet = "--debug" not in sys.argv and loaded.log.level in ("DEBUG", "INFO")
    level = "WARNING" if quiet else loaded.log.level
    log = loaded.log.model_copy(update={"level": level, "json_lines": not sys.stderr.isatty()})
    return loaded.model_copy(update={"log": log})


def open_ops_store(loaded: Settings) -> OpsStore:
    """The ops store's handle; nothing is connected yet."""
    from adinsights_orchestration.ops_store.store import OpsStore

    return OpsStore(loaded.ops_store)


def console(*, stderr: bool = False) -> Console:
    """A console that wraps at the terminal, and writes wide plain lines into a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False, soft_wrap=False)


def say(text: str, *, style: str = "") -> None:
    """Prints one line of progress to standard error."""
    console(stderr=True).print(redact(text), style=style or None, markup=False)


def print_json(value: object, *, verbatim: bool = False) -> None:
    """Prints a value as JSON, redacted unless it is asked for as it is."""
    shown = plain(value) if verbatim else redact_value(plain(value))
    sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False, default=str) + "\n")


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    title: str = "",
    empty: str = "nothing to show",
    style: Callable[[Mapping[str, Any]], str] | None = None,
) -> None:
    """Prints rows as a table, or as JSON; the first row's keys are the columns."""
    if as_json:
        print_json(list(rows))
        return
    out = console()
    if not rows:
        out.print(empty)
        return
    out.print(table(rows, title=title, style=style))


def table(
    rows: Sequence[Mapping[str, Any]], *, title: str = "", style: Callable[[Mapping[str, Any]], str] | None = None
) -> Any:
    """A rich table of the rows."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in rows[0]:
        made.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        made.add_row(*(Text(redact_value(cell(value))) for value in row.values()), style=style(row) if style else None)
    return made


def cell(value: object) -> str:
    """A value as a person reads it in a table."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else str(value)


def plain(value: object) -> Any:
    """A value as JSON holds it: dataclasses as objects, moments in ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value
