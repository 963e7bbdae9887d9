"""Whether the process behind a run is still there: the proof that it gives, and how its absence is judged.

Belongs here: the lock that a living run holds in the ops store, and the decision over what was seen of it. Does not
belong here: Dagster (`dead_runs`). Dagster's default launcher cannot ask after a worker; Postgres can, on any host: a
lock ends with the session, and the session with the process. A lock that is free is no proof of death by itself (the
server restarted a moment ago, the run is just beginning or ending), so nothing is judged by one look.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.lock_session import LockSession
from adinsights_orchestration.ops_store.store import OpsStore

# A run that never gave proof may still be loading definitions.
BOOT = timedelta(minutes=3)
# Longer than a living run can be without its lock: a build that cannot get it back has stopped by then (`turn.Pace`).
GONE_AFTER = timedelta(seconds=50)
_LOOK_SECONDS = 2.0

logger = get_logger(__name__)


def life_lock(run_id: str) -> str:
    """The name of the lock that a living run holds."""
    return f"run:{run_id}"


def this_worker() -> str:
    """This process, for people: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def living(store: OpsStore, run_id: str, *, look_seconds: float = _LOOK_SECONDS) -> Iterator[None]:
    """Gives proof that the run lives for as long as the block takes; a lock lost with its session is taken again.

    Raises:
        OpsStoreError: The ops store does not answer at the beginning.
    """
    session = store.session()
    session.open()
    session.take(life_lock(run_id))
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(session, run_id, over, look_seconds), name="life", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        session.close()


def _keep(session: LockSession, run_id: str, over: threading.Event, look_seconds: float) -> None:
    while not over.wait(look_seconds):
        try:
            if not session.is_open:
                session.open()
            # Taking a lock that this session has is free, and says whether the session is there.
            session.take(life_lock(run_id))
        except OpsStoreError as error:
            logger.warning("the run cannot give proof that it lives", reason=error.problem)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found of a run that Dagster calls started.

    Args:
        alive: Its lock is held.
        proven: It has held it before.
        started_at: When it started.
        newest_event: Id of the newest entry in its log.
    """

    alive: bool
    proven: bool
    started_at: datetime
    newest_event: int


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Since when a run has held no lock and said nothing."""

    since: datetime
    newest_event: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The runs that are dead, by id, and those that may be."""

    dead: frozenset[str]
    suspected: Mapping[str, Suspicion]


def judge(seen: Mapping[str, Seen], suspected: Mapping[str, Suspicion], now: datetime) -> Verdict:
    """Decides which of the runs are dead.

    Args:
        seen: The started runs that promise proof of life.
        suspected: What the look before this one suspected.
        now: The time.
    """
    found = {run_id: _suspicion(run, suspected.get(run_id), now) for run_id, run in seen.items()}
    still = {run_id: suspicion for run_id, suspicion in found.items() if suspicion is not None}
    dead = frozenset(run_id for run_id, suspicion in still.items() if now - suspicion.since >= GONE_AFTER)
    return Verdict(dead, {run_id: suspicion for run_id, suspicion in still.items() if run_id not in dead})


def _suspicion(run: Seen, before: Suspicion | None, now: datetime) -> Suspicion | None:
    if run.alive or (not run.proven and now - run.started_at < BOOT):
        return None
    if before is not None and before.newest_event == run.newest_event and before.since <= now:
        return before
    return Suspicion(now, run.newest_event)


def alive(store: OpsStore, run_ids: Iterable[str]) -> set[str]:
    """Returns those of the runs that hold their lock at this moment."""
    names = {life_lock(run_id): run_id for run_id in run_ids}
    return {names[name] for name in store.held(names)} if names else set()
