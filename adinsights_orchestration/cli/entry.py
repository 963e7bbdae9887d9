"""From arguments to an exit code.

Belongs here: running the application, and turning what went wrong into words and a code. Not here: commands.
Exit codes: 0 done, 1 the command ran and something it was asked about is not well, 2 wrong use or a failure with a next
step, 70 a defect, 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import MutableMapping, Sequence

from adinsights_orchestration.cli import environment_file
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.redaction import redact

EXIT_NOT_WELL = 1
EXIT_FAILURE = 2
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130


def run(arguments: Sequence[str], environment: MutableMapping[str, str]) -> int:
    """Runs the command line.

    Args:
        arguments: What was typed, without the program's name; `--debug` shows tracebacks of failures.
        environment: The process' environment; an environment file's variables are added to it.

    Returns:
        The exit code.
    """
    debug = "--debug" in arguments
    try:
        environment_file.apply(environment)
        from adinsights_orchestration.cli.app import application

        return _code(application()(args=[*arguments], prog_name="adinsights", standalone_mode=True))
    except SystemExit as ended:
        return _code(ended.code)
    except AdinsightsError as error:
        return _failed(error, debug)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the last place that can redact it)
        return _defect(error, debug)


def _code(value: object) -> int:
    if value is None:
        return 0
    return value if isinstance(value, int) else EXIT_FAILURE


def _failed(error: AdinsightsError, debug: bool) -> int:
    place = f"{error.place}: " if error.place else ""
    _red(f"{place}{error.problem}")
    if error.next_step:
        _red(f"  {error.next_step}")
    if debug:
        _traceback(error)
    return EXIT_FAILURE


def _defect(error: Exception, debug: bool) -> int:
    first = next(iter(str(error).splitlines()), "")
    _red(f"unexpected {type(error).__name__}: {first}")
    if debug:
        _traceback(error)
    else:
        _red("  This is a defect; `adinsights --debug ...` shows where.")
    return EXIT_DEFECT


def _red(text: str) -> None:
    text = redact(text)
    sys.stderr.write(f"\x1b[31m{text}\x1b[0m\n" if sys.stderr.isatty() else f"{text}\n")


def _traceback(error: BaseException) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(error))))
