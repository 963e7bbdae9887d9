"""From arguments to an exit code.

Belongs here: running the application, and turning what went wrong into words and a code. Not here: commands.
Exit codes: 0 done, 1 the command ran and something it was asked about is not well, 2 wrong use or a failure with a next
step, 70 a defect, 130 interrupted. `status` says with 2 that something is down, so its wrong use is 64 and its wrong
configuration 78, as in sysexits.h.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import MutableMapping, Sequence

from adinsights_orchestration.cli import environment_file
from adinsights_orchestration.cli.concluded import Concluded
from adinsights_orchestration.errors import AdinsightsError, OpsStoreError
from adinsights_orchestration.redaction import redact

EXIT_NOT_WELL = 1
EXIT_FAILURE = 2
EXIT_USAGE, EXIT_CONFIGURATION = 64, 78  # of `status`
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
    except Concluded as ended:
        return _code(ended.code)
    except SystemExit as ended:
        code = _code(ended.code)
        return EXIT_USAGE if code == EXIT_FAILURE and _is_status(arguments) else code
    except AdinsightsError as error:
        _tell(error, debug)
        return _of_status(error) if _is_status(arguments) else EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the last place that can redact it)
        return _defect(error, debug)


def _code(value: object) -> int:
    if value is None:
        return 0
    return value if isinstance(value, int) else EXIT_FAILURE


def _is_status(arguments: Sequence[str]) -> bool:
    return next((each for each in arguments if not each.startswith("-")), "") == "status"


def _of_status(error: AdinsightsError) -> int:
    """Without an ops store everything is down; whatever else keeps `status` from looking says nothing of that."""
    from adinsights_orchestration.cli.selection import SelectionError

    if isinstance(error, OpsStoreError):
        return EXIT_FAILURE
    return EXIT_USAGE if isinstance(error, SelectionError) else EXIT_CONFIGURATION


def _tell(error: AdinsightsError, debug: bool) -> None:
    place = f"{error.place}: " if error.place else ""
    _red(f"{place}{error.problem}")
    if error.next_step:
        _red(f"  {error.next_step}")
    if debug:
        _traceback(error)


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
