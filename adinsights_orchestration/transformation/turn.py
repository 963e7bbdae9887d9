"""A build's turn: the build lock, kept for as long as dbt runs, and never beside another build's dbt.

Belongs here: taking the lock, looking after it, saying when it is lost. Does not belong here: what is built (`builds`).
The lock ends with its session, so a killed build holds nobody up; but a session also ends when Postgres restarts, and
the dbt of a killed build lives on for seconds. So whoever holds the lock also keeps a *lease*, a row with the time of
its last sign of life. One that cannot renew its lease has its dbt stopped in time; one that finds the lease of another
that did not end in order waits until that one's dbt is certainly gone (ADR 0014).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.errors import AdinsightsError, OpsStoreError
from adinsights_orchestration.liveness import this_worker
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor
from adinsights_orchestration.transformation.process import STOP_GRACE_SECONDS

BUILD_LOCK = "dbt:build"
LEASE = "dbt:build"

logger = get_logger(__name__)


class TurnLostError(AdinsightsError):
    """The build lock is gone and could not be had back; dbt was stopped."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each thing may take, in seconds.

    Args:
        poll: Between two attempts to get the lock.
        look: Between two renewals of the lease, and between attempts to get it back.
        keep: How long a renewal may fail before dbt is stopped.
        stop: How long dbt may take to stop.
        fence: The age of a lease at which its holder's dbt is certainly gone.
    """

    poll: float = 2.0
    look: float = 2.0
    keep: float = 18.0
    stop: float = STOP_GRACE_SECONDS
    fence: float = 45.0

    def __post_init__(self) -> None:
        if self.fence <= self.look + self.keep + self.stop:
            raise ValueError("a lease must last until its holder's dbt is certainly gone")


PACE = Pace()


class Turn:
    """One build's turn; a context manager that holds nothing yet, see `begin`.

    Args:
        store: The ops store.
        run_id: Whose turn it is, for people.
        wait: Sleeps so many seconds.
        pace: How long each thing may take.
    """

    def __init__(self, store: OpsStore, run_id: str, wait: Callable[[float], None], pace: Pace) -> None:
        self._session = store.session()
        self._run_id, self._wait, self._pace = run_id, wait, pace
        self._holder = uuid.uuid4().hex
        self._using = threading.Lock()  # the session
        self._state = threading.Lock()  # the two below
        self._lost: str | None = None
        self._stop: Callable[[], None] | None = None
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="dbt-turn", daemon=True)

    def __enter__(self) -> Self:
        self._session.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self._keeper.ident is not None:
            self._keeper.join()
        with self._using:
            try:
                self._give_back()
            except OpsStoreError as failed:
                # The next build finds the lease and waits until it is old: slower, never wrong.
                logger.warning("the dbt build's lease could not be given back", reason=failed.problem)
            finally:
                self._session.close()

    def begin(self) -> None:
        """Waits for the lock as long as another build takes, and until no dbt of a build before is left.

        Raises:
            OpsStoreError: The ops store does not answer, for longer than a restart takes.
            TurnLostError: The lock was lost again before anything was started.
        """
        unclean = self._claim_when_free()
        self._keeper.start()
        while unclean > 0:
            self.check()
            step = min(unclean, self._pace.poll)
            self._wait(step)
            unclean -= step

    def check(self) -> None:
        """Raises `TurnLostError` when the turn is over before its time."""
        with self._state:
            if self._lost is not None:
                raise TurnLostError(
                    f"the dbt build was stopped because it lost its lock in the ops store ({self._lost})",
                    next_step="Nothing is lost: `dbt_refresh` starts the next build by itself, or start it again.",
                )

    @contextmanager
    def guarding(self, stop: Callable[[], None]) -> Iterator[None]:
        """Calls `stop`, from another thread and at once, if the turn is lost inside the block."""
        with self._state:
            self._stop = stop
            if self._lost is not None:
                stop()
        try:
            yield
        finally:
            with self._state:
                self._stop = None

    def _claim_when_free(self) -> float:
        waited = failing = 0.0
        while True:
            try:
                with self._using:
                    unclean = self._claim()
                failing = 0.0
                if unclean is not None:
                    return unclean
            except OpsStoreError:
                failing += self._pace.poll
                if failing > self._pace.keep:
                    raise
            if not waited:
                logger.info("waiting for another dbt build to end")
            self._wait(self._pace.poll)
            waited += self._pace.poll

    def _claim(self) -> float | None:
        """Takes lock and lease; returns the seconds until the dbt of the lease before is gone, None while taken."""
        if not self._session.is_open:
            self._session.open()
        if not self._session.take(BUILD_LOCK):
            return None
        age = sa.func.extract("epoch", sa.func.clock_timestamp() - cursor.c.updated_at)
        before = self._session.run(sa.select(cursor.c.value, age.label("age")).where(cursor.c.name == LEASE)).first()
        value = {"holder": self._holder, "run_id": self._run_id, "worker": this_worker()}
        mine = {"value": value, "updated_at": sa.func.clock_timestamp()}
        upsert = insert(cursor).values(name=LEASE, **mine)
        self._session.run(upsert.on_conflict_do_update(index_elements=["name"], set_=mine))
        if before is None:
            return 0.0
        unclean = max(0.0, self._pace.fence - max(0.0, float(before.age)))
        logger.warning(
            "the dbt build before this one did not end in order; waiting until its dbt is certainly gone",
            before=dict(before.value),
            seconds=round(unclean),
        )
        return unclean

    def _give_back(self) -> None:
        """Deletes the lease, in a new session where the old one has ended: what is this turn's needs no lock."""
        mine = sa.delete(cursor).where(self._is_mine())
        if self._session.is_open:
            with suppress(OpsStoreError):
                self._session.run(mine)
                return
        self._session.open()
        self._session.run(mine)

    def _keep(self) -> None:
        """Renews the lease until the turn is over, in a thread of its own."""
        while not self._over.wait(self._pace.look) and self._lost is None:
            # A timer, because an attempt can hang for longer than there is time.
            reason = f"it did not answer for {self._pace.keep:.0f} seconds"
            deadline = threading.Timer(self._pace.keep, self._lose, [reason])
            deadline.daemon = True
            deadline.start()
            while not self._renew() and not self._over.wait(self._pace.look) and self._lost is None:
                pass
            deadline.cancel()

    def _renew(self) -> bool:
        """Renews the lease, in a new session if need be; returns whether there is nothing more to try for now."""
        with self._using:
            try:
                again = not self._session.is_open
                if again and not self._take_back():
                    return self._lost is not None
                renewed = self._session.run(
                    sa.update(cursor).where(self._is_mine()).values(updated_at=sa.func.clock_timestamp())
                )
            except OpsStoreError as error:
                logger.warning("the dbt build's session with the ops store ended", reason=error.problem)
                return False
        if not renewed.rowcount:
            self._lose("another build has taken it")
        elif again:
            logger.warning("the dbt build lock was lost with its session and taken again")
        return True

    def _take_back(self) -> bool:
        """Whether a new session has the lock. Not at once when the server still counts the old session as there."""
        self._session.open()
        if not self._session.run(sa.select(cursor.c.name).where(self._is_mine())).first():
            self._lose("another build has taken it")
        elif self._session.take(BUILD_LOCK):
            return True
        self._session.close()
        return False

    def _is_mine(self) -> sa.ColumnElement[bool]:
        return sa.and_(cursor.c.name == LEASE, cursor.c.value["holder"].astext == self._holder)

    def _lose(self, reason: str) -> None:
        with self._state:
            if self._lost is not None or self._over.is_set():
                return
            self._lost = reason
            logger.error("the dbt build lock is lost", reason=reason)
            if self._stop is not None:
                self._stop()
