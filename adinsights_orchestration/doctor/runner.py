"""All checks at once, within one deadline.

Belongs here: threads, the deadline, turning an error into a verdict. Does not belong here: any check. The threads are
daemons and are left behind when the time is over: a server that takes a connection and never answers would otherwise
hold up the whole report.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from adinsights_orchestration.doctor.model import Check, Result, Status, Verdict, fail, skipped
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.redaction import redact

DEADLINE_SECONDS = 10.0
_SELF = re.compile(r"; `adinsights doctor` shows more\.")  # good advice everywhere but here
Told = Callable[[Result], None]


def examine(
    world: World, checks: Sequence[Check], *, deadline_seconds: float = DEADLINE_SECONDS, told: Told | None = None
) -> list[Result]:
    """Runs every check and returns the results in the order of the checks.

    Args:
        world: What they look at.
        checks: What to look at.
        deadline_seconds: When to stop waiting; whatever has not answered by then has failed.
        told: Called with each result as it comes.
    """
    answers: queue.SimpleQueue[Result] = queue.SimpleQueue()
    for check in checks:
        thread = threading.Thread(target=_answer, args=(world, check, answers), name=check.name, daemon=True)
        thread.start()
    known: dict[str, Result] = {}
    for result in _arriving(answers, len(checks), time.monotonic() + deadline_seconds):
        known[result.name] = result
        if told is not None:
            told(result)
    return [known.get(check.name) or _late(world, check, deadline_seconds) for check in checks]


def _arriving(answers: queue.SimpleQueue[Result], count: int, deadline: float) -> Iterator[Result]:
    for _ in range(count):
        try:
            yield answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return


def _answer(world: World, check: Check, answers: queue.SimpleQueue[Result]) -> None:
    verdict = _looked(world, check)
    answers.put(Result(check.name, verdict.status, redact(verdict.detail), redact(verdict.next_step)))


def _looked(world: World, check: Check) -> Verdict:
    for need in check.needs:
        try:
            getattr(world, need).get()
        except Exception:  # noqa: BLE001  (another check reports it)
            return skipped(f"cannot be told without: {need.replace('_', ' ')}")
    try:
        return check.look(world)
    except AdinsightsError as error:
        place = f"{error.place}: " if error.place else ""
        return fail(f"{place}{error.problem}", _SELF.sub(".", error.next_step))
    except Exception as error:  # noqa: BLE001  (a defect of one check must not hide the others' results)
        first = next(iter(str(error).splitlines()), "")
        return fail(f"{type(error).__name__}: {first}", "`adinsights --debug doctor` says where.")


def _late(world: World, check: Check, seconds: float) -> Result:
    for need in check.needs:
        if not getattr(world, need).settled:
            return Result(check.name, Status.SKIPPED, f"cannot be told in time without: {need.replace('_', ' ')}")
    return Result(check.name, Status.FAIL, f"no answer within {seconds:g} s", "Something takes connections and hangs.")
