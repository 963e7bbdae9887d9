"""SIGKILL between any two statements, a Postgres that restarts within a tick: nothing lost, nothing said twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.ops_store.alert_tables import alert_event, alert_incident, alert_outbox
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from tests.alerting.killed_alerts import RESOURCES, work
from tests.alerting.support import NOON
from tests.conftest import PostgresServer, free_port

ROOT = Path(__file__).resolve().parents[2]
MINUTE = timedelta(minutes=1)


class Life:
    """One history on one database: ticks in processes that may be killed, and what their channel shows."""

    def __init__(self, store: OpsStore, dsn: str, folder: Path) -> None:
        self.store, self.dsn, self.folder, self.now = store, dsn, folder, NOON

    def process(self, what: str, at: int, wrong: tuple[str, ...] = RESOURCES) -> tuple[int, int]:
        """Runs a tick in a process; returns its exit code and how many points it passed."""
        given: dict[str, Any] = {"dsn": self.dsn, "what": what, "at": at, "folder": str(self.folder)}
        given |= {"wrong": wrong, "now": self.now.isoformat()}
        command = [sys.executable, "-m", "tests.alerting.killed_alerts", json.dumps(given)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, int(done.stdout.split()[-1]) if done.stdout.split() else 0

    def here(self, what: str, wrong: tuple[str, ...] = RESOURCES) -> dict[str, Any]:
        """Runs a tick in this process."""
        return work(self.store, what, self.folder, wrong, self.now)

    def settle(self, wrong: tuple[str, ...] = RESOURCES) -> None:
        """Lets the next processes take over, until nothing is left to do."""
        for _ in range(3):
            self.now += MINUTE
            self.here("evaluate", wrong)
            self.here("deliver")

    def posts(self) -> Counter[str]:
        """How many first messages each group has in the channel."""
        texts = [json.loads(path.read_text()) for path in self.folder.iterdir() if "-post-" in path.name]
        return Counter(each["group"] for each in texts)

    def episodes(self) -> dict[str, int]:
        with self.store.begin() as connection:
            query = sa.select(alert_incident.c.resource, alert_incident.c.episode)
            return {row[0]: row[1] for row in connection.execute(query)}

    def fired(self) -> Counter[str]:
        with self.store.begin() as connection:
            query = sa.select(alert_event.c.fingerprint).where(alert_event.c.kind == "fired")
            return Counter(connection.execute(query).scalars())

    def unsent(self) -> int:
        with self.store.begin() as connection:
            query = sa.select(sa.func.count()).where(alert_outbox.c.state.not_in(("sent",)))
            return int(connection.execute(query).scalar_one())


def assert_said_once(life: Life) -> None:
    assert life.posts() == dict.fromkeys(RESOURCES, 1)
    assert life.episodes() == dict.fromkeys(RESOURCES, 1)
    assert set(life.fired().values()) == {1}
    assert len(life.fired()) == len(RESOURCES)
    assert life.unsent() == 0


@pytest.fixture
def life(postgres_server: PostgresServer, migrated_ops_store: str, tmp_path: Path) -> Iterator[Callable[[], Life]]:
    lives: list[Life] = []

    def make() -> Life:
        dsn = postgres_server.copy_database(migrated_ops_store)
        folder = tmp_path / f"channel{len(lives)}"
        folder.mkdir()
        lives.append(Life(OpsStore(OpsStoreSettings(dsn=SecretStr(dsn))), dsn, folder))
        return lives[-1]

    yield make
    for each in lives:
        each.store.dispose()


def prepared(make: Callable[[], Life], what: str) -> Life:
    """A history in which the tick in question has something to do."""
    one = make()
    if what == "deliver":
        one.here("evaluate")
    return one


def killed_at(make: Callable[[], Life], what: str, at: int) -> None:
    one = prepared(make, what)
    code, _ = one.process(what, at)
    assert code == -signal.SIGKILL
    one.settle()
    assert_said_once(one)


@pytest.mark.parametrize("what", ["evaluate", "deliver"])
def test_a_process_that_is_killed_within_a_tick_loses_nothing_and_says_nothing_twice(
    life: Callable[[], Life], what: str
) -> None:
    code, count = prepared(life, what).process(what, 0)
    assert code == 0
    assert count > 10
    for share in (0.35, 0.85):
        killed_at(life, what, max(round(count * share), 1))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", ["evaluate", "deliver"])
def test_a_process_that_is_killed_before_any_statement_loses_nothing_and_says_nothing_twice(
    life: Callable[[], Life], what: str
) -> None:
    _, count = prepared(life, what).process(what, 0)
    for at in range(1, count + 1):
        killed_at(life, what, at)


def test_a_clock_that_jumps_back_for_a_day_neither_repeats_nor_silences_anything(life: Callable[[], Life]) -> None:
    one = life()
    one.here("evaluate")
    one.here("deliver")
    one.now -= timedelta(days=1)
    one.settle()
    assert_said_once(one)
    one.now += MINUTE
    one.here("evaluate", ())
    one.now += timedelta(minutes=6)
    one.settle(())
    assert one.unsent() == 0
    ended = [json.loads(path.read_text()) for path in one.folder.iterdir() if "-reply-" in path.name]
    assert Counter(each["group"] for each in ended) == dict.fromkeys(RESOURCES, 1), "the end was told once, too"


class Restarts:
    """A Postgres of its own that dies before a statement or commit, as with SIGQUIT, and starts again."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server, self.at, self.passed = server, 0, 0

    def point(self, connection: sa.Connection, *_: object) -> None:
        if connection.engine.url.port != self.server.port:
            return
        self.passed += 1
        if self.passed == self.at:
            self.restart()

    def restart(self) -> None:
        process = self.server.find()
        assert process is not None
        process.send_signal(signal.SIGQUIT)
        while self.server.find() is not None:
            assert self.server._process is not None
            self.server._process.poll()
            time.sleep(0.01)
        self.server.start()


@pytest.fixture(scope="module")
def restarts() -> Iterator[tuple[Restarts, str]]:
    with tempfile.TemporaryDirectory(prefix="adinsights-alert-restarts-") as folder:
        Path(folder).chmod(0o755)
        # A crash of the server alone loses nothing that was written, synchronized or not.
        unsafe = {"fsync": "off", "full_page_writes": "off"}
        server = EmbeddedPostgres(Path(folder) / "pg", free_port(), settings=unsafe, die_with_parent=True)
        server.start()
        try:
            store = OpsStore(OpsStoreSettings(dsn=SecretStr(server.create_database("template_of_alerts"))))
            store.migrate()
            store.dispose()
            yield Restarts(server), "template_of_alerts"
        finally:
            server.stop()


@pytest.mark.parametrize("share", [0.5, pytest.param(0.2, marks=pytest.mark.soak), 1.0])
@pytest.mark.parametrize("what", ["evaluate", "deliver"])
def test_a_postgres_that_restarts_within_a_tick_loses_nothing_and_nothing_is_said_twice(
    restarts: tuple[Restarts, str], tmp_path: Path, what: str, share: float
) -> None:
    points, template = restarts
    count = 0
    for at in (0, 1):
        dsn = PostgresServer(points.server).copy_database(template)
        folder = tmp_path / str(at)
        folder.mkdir()
        one = prepared(lambda: Life(OpsStore(OpsStoreSettings(dsn=SecretStr(dsn))), dsn, folder), what)  # noqa: B023
        points.passed, points.at = 0, max(round(count * share), 1) if at else 0
        sa.event.listen(sa.Engine, "before_cursor_execute", points.point)
        sa.event.listen(sa.Engine, "commit", points.point)
        try:
            with suppress(OpsStoreError):  # that it says so is all that a tick owes
                one.here(what)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", points.point)
            sa.event.remove(sa.Engine, "commit", points.point)
        count = points.passed
        assert points.passed >= points.at
        one.settle()
        assert_said_once(one)
        one.store.dispose()
