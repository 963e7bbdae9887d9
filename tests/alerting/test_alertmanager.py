"""The same random histories through Alertmanager and ours: the same notices, but for what docs/alerts.md lists.

Alertmanager runs in real time, ours in virtual. Everything happens on even seconds and groups speak on odd ones, so
that neither's delay decides anything. All histories run at once, each in groups of its own.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adinsights_orchestration.alerting.inhibition import Inhibition
from adinsights_orchestration.alerting.matching import Matcher, Routes, Silence
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.telling.grouping import Op, Options, Timing
from tests.alerting.alertmanager import Oracle, Told, find_alertmanager, running
from tests.alerting.support import NOON, World, finding

HISTORIES, STEPS = 200, 11  # an empty group keeps its clock until Alertmanager's clean-up, which comes after 30 s
WAIT, INTERVAL, REPEAT, STEP = 1, 4, 6, 2  # seconds
NAMES = ("a", "b", "c", "cause")
LATEST = 0.7  # seconds that an event may come late without being mistaken for another order of things


@dataclass
class History:
    """What fires at each step, and silences as (name, first step, last step)."""

    name: str
    firing: list[frozenset[str]]
    silences: list[tuple[str, int, int]] = field(default_factory=list)


def _histories() -> list[History]:
    return [_history(random.Random(seed), f"h{seed:03}") for seed in range(HISTORIES)]


def _history(dice: random.Random, name: str) -> History:
    firing: set[str] = set()
    steps = []
    with_cause, with_silence = dice.random() < 0.4, dice.random() < 0.4
    for _ in range(STEPS):
        for each in NAMES:
            if dice.random() < 0.3 and (each != "cause" or with_cause):
                firing ^= {each}
        steps.append(frozenset(firing))
    silences = []
    if with_silence:
        begin = dice.randrange(STEPS - 2)
        silences = [(dice.choice("abc"), begin, dice.randrange(begin + 1, STEPS))]
    return History(name, steps, silences)


def _kind(name: str) -> str:
    return "cause" if name == "cause" else "symptom"


def _through_alertmanager(oracle: Oracle, histories: list[History]) -> tuple[float, float]:
    """Plays all histories; returns when it began, and how late the latest event was."""
    begin, late = time.time() + 0.5, 0.0
    before = {each.name: frozenset[str]() for each in histories}
    for step in range(STEPS):
        due = begin + step * STEP
        time.sleep(max(due - time.time(), 0))
        now = datetime.now(UTC)
        for each in histories:
            for name, first, last in each.silences:
                if first == step:
                    ends = datetime.fromtimestamp(begin + last * STEP, UTC)
                    oracle.silence(_silence(each.name, name, now, ends))
        alerts = []
        for each in histories:
            for name in before[each.name] | each.firing[step]:
                changed = (name in each.firing[step]) is not (name in before[each.name])
                if changed:
                    alerts.append(_alert(each.name, name, now, over=name not in each.firing[step]))
            before[each.name] = each.firing[step]
        oracle.alerts(alerts)
        late = max(late, time.time() - due)
    time.sleep(max(begin + STEPS * STEP - time.time(), 0))
    return begin, late


def _alert(history: str, name: str, now: datetime, *, over: bool) -> dict[str, Any]:
    ends = now if over else now + timedelta(hours=1)
    labels = {"alertname": "x", "history": history, "kind": _kind(name), "resource": name}
    start = {} if over else {"startsAt": now.isoformat()}
    return {"labels": labels, "endsAt": ends.isoformat(), **start}


def _silence(history: str, name: str, now: datetime, ends: datetime) -> dict[str, Any]:
    matchers = [
        {"name": label, "value": value, "isRegex": False, "isEqual": True}
        for label, value in (("history", history), ("resource", name))
    ]
    times = {"startsAt": now.isoformat(), "endsAt": ends.isoformat()}
    return {"matchers": matchers, **times, "createdBy": "test", "comment": "test"}


@dataclass
class Ours:
    """What ours told, by group, and when a group first let an end pass that was silenced or explained."""

    told: dict[str, list[Told]] = field(default_factory=dict)
    quiet_end: dict[str, int] = field(default_factory=dict)


def _through_ours(history: History) -> Ours:
    seconds = timedelta(seconds=1)
    timing = Timing(WAIT * seconds, INTERVAL * seconds, REPEAT * seconds, linger=timedelta(hours=1))
    matches = Matcher.parse("kind=cause"), Matcher.parse("kind=symptom")
    inhibitions = (Inhibition((matches[0],), (matches[1],)),)
    # Alertmanager tells what was inhibited in the moment in which its cause is over.
    options = Options(Routes(("main",)), timing, None, inhibitions=inhibitions, grace=timedelta())
    silences = [
        Silence(
            number,
            (Matcher.parse(f"resource={name}"),),
            NOON + first * STEP * seconds,
            NOON + last * STEP * seconds,
            "test",
            "test",
        )
        for number, (name, first, last) in enumerate(history.silences)
    ]
    world = World(options, silences=silences)
    world.now = NOON - seconds
    ours = Ours()
    for second in range(STEPS * STEP):
        names = history.firing[second // STEP]
        before = dict(world.incidents)
        world.tick(*(_finding(name) for name in sorted(names)), after=seconds)
        spoke = {order.group for order in world.after.orders if order.op is not Op.UPDATE} if world.after else set()
        for kind in spoke:
            mine = [each for each in world.incidents.values() if each.finding.group_key == kind]
            loud = [each for each in mine if not each.suppressed_by]
            over = [each for each in loud if not each.is_firing and before[each.fingerprint].told]
            firing = frozenset(each.finding.resource for each in loud if each.is_firing)
            notice = Told(second, firing, frozenset(each.finding.resource for each in over))
            ours.told.setdefault(kind, []).append(notice)
        for each in world.incidents.values():
            was = before.get(each.fingerprint)
            if was is not None and was.told and not each.told and each.suppressed_by and not each.is_firing:
                ours.quiet_end.setdefault(each.finding.group_key, second)
    return ours


def _finding(name: str) -> Finding:
    return finding(name, rule="x", labels={"kind": _kind(name)}, group=(_kind(name),))


def _expected(told: list[Told]) -> tuple[list[tuple[frozenset[str], frozenset[str]]], float]:
    """What Alertmanager told, without the ends of what nobody was told of, and until when that can be compared.

    A notice that says only such an end is none of ours, and delays Alertmanager's next repetition.
    """
    known: set[str] = set()
    kept: list[tuple[frozenset[str], frozenset[str]]] = []
    last = 0.0
    for notice in told:
        resolved = notice.resolved & known
        repeated = bool(notice.firing) and (not notice.resolved or notice.at - last > REPEAT)
        if not (resolved or notice.firing - known or repeated):
            return kept, notice.at
        known = set(notice.firing)
        kept.append((notice.firing, resolved))
        last = notice.at
    return kept, float("inf")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = find_alertmanager(tmp_path_factory.mktemp("package"))
    if found is None:
        pytest.skip("Debian's prometheus-alertmanager is neither installed nor to be had")
    return found


def _played(program: Path, folder: Path, histories: list[History]) -> tuple[dict[tuple[str, str], list[Told]], float]:
    """What Alertmanager told, and when it began; played again when the machine was too busy to play in time."""
    late = 0.0
    for attempt in ("first", "second", "third"):
        (folder / attempt).mkdir()
        with running(program, folder / attempt, wait=WAIT, interval=INTERVAL, repeat=REPEAT) as oracle:
            begin, late = _through_alertmanager(oracle, histories)
        late = max(late, *(_late(each.at - begin) for notices in oracle.told.values() for each in notices))
        if late < LATEST:
            return oracle.told, begin
    pytest.skip(f"the machine is too busy to play in time: an event or a notice came {late:.1f} s late")


def _late(seconds: float) -> float:
    """How late a notice is that came so long after the beginning: groups speak on odd seconds."""
    return (seconds - WAIT) % STEP


def test_the_same_histories_lead_to_the_same_notices(program: Path, tmp_path: Path) -> None:
    histories = _histories()
    told, begin = _played(program, tmp_path, histories)
    wrong, compared, whole = [], 0, 0
    for history in histories:
        ours = _through_ours(history)
        for kind in ("symptom", "cause"):
            # From an end on that was kept quiet, Alertmanager goes on believing that its readers think it fires.
            quiet = ours.quiet_end.get(kind, STEPS * STEP)
            notices = told.get((history.name, kind), [])
            theirs, until = _expected([each for each in notices if each.at < begin + quiet - 0.5])
            until = min(until - begin - 0.5, quiet)
            mine = [(each.firing, each.resolved) for each in ours.told.get(kind, []) if each.at < until]
            compared, whole = compared + len(mine), whole + (until == STEPS * STEP)
            if theirs != mine:
                wrong.append((history, kind, theirs, mine))
    assert not wrong, f"{len(wrong)} groups, the first: {wrong[0]}"
    assert compared > 3 * HISTORIES, "notices compared"
    assert whole > 1.5 * HISTORIES, "groups compared to their end"
