"""From the fact in the ledger to the message in Slack, with many incidents that open together.

The three sensors that tell facts (`freshness_evaluate`, which judges, has news told at once, and shows it in Dagster;
`alert_evaluate`; `alert_deliver`) tick by themselves, each at its interval and from a random moment on, as Dagster
ticks them; syncs fail together, at a random moment. An incident is told once Slack has taken a message that counts it:
the real sink speaks over HTTP to the local Slack, which answers 429 to more than a few messages at once. Between two
rounds nothing ticks, and what alerts keep is deleted: a group that was open a moment ago speaks again only minutes
later, by design, and that is not what is measured.

Prints one JSON line. `whole_s` is the way from the ledger's commit to Slack, for every incident of every round.
`beyond_tick_s` is what of it is not waiting for the one tick that finds it: if work took no time and Slack took
everything, the message would be there when the first tick of `freshness_evaluate` after the fact begins.

Target: one tick plus one second at the 99th percentile, with 200 incidents that open together.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.alerting.channels.sinks import Attempted, Later, LookedUp, Notice, Outcome, Sent, Sink
from adinsights_orchestration.alerting.channels.slack import SlackSink, make_client
from adinsights_orchestration.alerting.message import Message
from adinsights_orchestration.alerting.message import Standing as Fires
from adinsights_orchestration.clock import TickClock, utc_now
from adinsights_orchestration.freshness.automation import BUDGET_SECONDS, evaluate_and_show
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.local.slack.app import create_slack_app
from adinsights_orchestration.local.slack.world import AREA, CHANNELS, SLACK_KNOBS, TOKEN, SlackWorld
from adinsights_orchestration.ops_store.alert_tables import alert_channel, alert_group, alert_incident, alert_outbox
from adinsights_orchestration.ops_store.tables import cursor, sync_job
from adinsights_orchestration.settings import SlackSettings
from adinsights_orchestration.tenants.model import Provider
from benchmarks._alerting import JOBS_OF_A_CONNECTION, SLA, Platform
from benchmarks._databases import databases
from benchmarks._machine import cpu_seconds

_HANGS_AFTER_SECONDS = 300.0


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000, help="connections of the platform")
    parser.add_argument("--together", type=int, default=200, help="incidents that open together")
    parser.add_argument(
        "--providers", default="1,6", help="numbers of providers that they are spread over: a message each"
    )
    parser.add_argument("--rounds", type=int, default=20, help="how many times")
    parser.add_argument("--freshness", type=float, default=30.0, help="seconds between ticks of freshness_evaluate")
    parser.add_argument("--evaluate", type=float, default=30.0, help="seconds between ticks of alert_evaluate")
    parser.add_argument("--deliver", type=float, default=10.0, help="seconds between ticks of alert_deliver")
    options = parser.parse_args()
    every = {"freshness": options.freshness, "evaluate": options.evaluate, "deliver": options.deliver}
    with databases() as (store, instance), _slack() as sink:
        platform = Platform(store, instance, options.connections, 0, channel=sink)
        platform.populate()
        for providers in map(int, options.providers.split(",")):
            facts = _Facts(platform, options.together, providers)
            print(json.dumps(_measured(platform, sink, facts, every, options.rounds)), flush=True)


def _measured(
    platform: Platform, sink: TimedSink, facts: _Facts, every: Mapping[str, float], rounds: int
) -> dict[str, Any]:
    facts.mend(all_of_them=True)
    dice, cpu = random.Random(1), cpu_seconds()
    done = [_Round(platform, sink, facts, every, dice).run() for _ in range(rounds)]
    return {
        "benchmark": "alert_latency",
        "connections": platform.connections,
        "together": facts.together,
        "messages": facts.providers,
        "rounds": rounds,
        "ticks_s": every,
        "whole_s": _percentiles([told for each in done for told in each.told]),
        "beyond_tick_s": _percentiles([told - each.waiting for each in done for told in each.told]),
        "longest_tick_s": {name: round(max(each.longest[name] for each in done), 3) for name in every},
        "rate_limited": sink.limited,
        "cpu_s_a_round": round((cpu_seconds() - cpu) / rounds, 2),
    }


def _percentiles(found: Sequence[float]) -> dict[str, float]:
    """By nearest rank."""
    ordered = sorted(found)
    shares = {"p50": 0.5, "p99": 0.99, "worst": 1.0}
    return {name: round(ordered[math.ceil(share * len(ordered)) - 1], 2) for name, share in shares.items()}


class TimedSink:
    """A sink, with when it took which message, by a clock that only runs forward."""

    def __init__(self, inner: Sink) -> None:
        self._inner, self.name, self.traits = inner, inner.name, inner.traits
        self.taken: list[tuple[float, Message]] = []
        self.limited = 0

    def post(self, notice: Notice) -> Outcome:
        """Says something new."""
        return self._noted(notice, self._inner.post(notice))

    def update(self, notice: Notice, ref: str) -> Outcome:
        """Edits it."""
        return self._noted(notice, self._inner.update(notice, ref))

    def reply(self, notice: Notice, root: str) -> Outcome:
        """Says a line of the story, which is not measured."""
        return self._inner.reply(notice, root)

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:
        """Searches."""
        return self._inner.lookup(notice, attempted)

    def _noted(self, notice: Notice, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Sent):
            self.taken.append((time.monotonic(), notice.message))
        self.limited += isinstance(outcome, Later)
        return outcome


@contextmanager
def _slack() -> Iterator[TimedSink]:
    """The real sink, and the local Slack with its limit of messages."""
    world = SlackWorld(Knobs().declare(AREA, SLACK_KNOBS))
    with running(create_slack_app(world)) as url:
        settings = SlackSettings(token=SecretStr(TOKEN), api_url=f"{url}/api")
        yield TimedSink(SlackSink(CHANNELS[0], make_client(settings), timeout_seconds=settings.timeout_seconds))


@dataclass(frozen=True)
class _Facts:
    """So many syncs of so many providers, one of a connection, that fail together."""

    platform: Platform
    together: int
    providers: int

    def fail(self) -> float:
        """Lets them fail; returns when that was committed."""
        job, at = sync_job.c, utc_now()
        wanted = [each.value for each in tuple(Provider)[: self.providers]]
        newest = sa.select(sync_job).where(job.job_id % JOBS_OF_A_CONNECTION == 0, job.provider.in_(wanted))
        with self.platform.store.begin() as connection:
            found = connection.execute(newest.order_by(job.job_id).limit(self.together)).mappings().all()
            failed = {
                "status": "failed",
                "rows_synced": None,
                "failure_message": "the token has expired",
                "started_at": at - timedelta(minutes=1),
                **_observed(at),
            }
            connection.execute(sa.insert(sync_job), [{**row, **failed, "job_id": row["job_id"] + 50} for row in found])
        return time.monotonic()

    def mend(self, *, all_of_them: bool) -> None:
        """Lets those that failed have succeeded just now, or every connection of the platform a while ago.

        A while, since freshness looks again for two minutes at what it has seen: ten thousand syncs at once are no
        platform's every day.
        """
        job = sync_job.c
        newest = sa.update(sync_job).where(job.job_id % JOBS_OF_A_CONNECTION == 0)
        with self.platform.store.begin() as connection:
            failed = sa.delete(sync_job).where(job.status == "failed").returning(job.partition_key)
            keys = connection.execute(failed).scalars().all()
            if all_of_them:
                connection.execute(newest.values(**_observed(utc_now() - timedelta(minutes=5))))
            connection.execute(newest.where(job.partition_key.in_(keys)).values(**_observed(utc_now())))


def _observed(at: datetime) -> dict[str, datetime]:
    return dict.fromkeys(("ended_at", "first_observed_at", "observed_at", "end_observed_at"), at)


class _Round:
    """One time: nothing is wrong, the sensors tick, the syncs fail, and Slack is told of all of them."""

    def __init__(
        self, platform: Platform, sink: TimedSink, facts: _Facts, every: Mapping[str, float], dice: random.Random
    ) -> None:
        self._platform, self._sink, self._facts, self._every = platform, sink, facts, every
        self._phases = {name: dice.uniform(0, seconds) for name, seconds in every.items()}
        self._moment = max(every.values()) + dice.uniform(0, max(every.values()))
        self._stop, self._failures = threading.Event(), list[BaseException]()
        self._begun: dict[str, list[float]] = defaultdict(list)
        self.longest: dict[str, float] = defaultdict(float)
        self.told: list[float] = []
        self.waiting = 0.0

    def run(self) -> _Round:
        """Plays it; `told` and `waiting` say how it went, in seconds since the fact."""
        self._begin_anew()
        work: dict[str, Callable[[datetime], object]] = {
            "freshness": self._platform.judge_show_and_tell,
            "evaluate": self._platform.evaluate_and_tell,
            "deliver": self._platform.deliver,
        }
        threads = [threading.Thread(target=self._ticks, args=(name, each), daemon=True) for name, each in work.items()]
        for thread in threads:
            thread.start()
        try:
            self._stop.wait(self._moment)
            failed_at = self._facts.fail()
            self._wait_until_told()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise RuntimeError("a tick failed") from self._failures[0]
        self.told = [at - failed_at for at in self._told_at()]
        self.waiting = self._first_judgement(failed_at) - failed_at
        return self

    def _begin_anew(self) -> None:
        """All syncs succeed, and alerting knows of nothing. Nothing ticks meanwhile."""
        self._facts.mend(all_of_them=False)
        with self._platform.store.begin() as connection:
            for table in (alert_outbox, alert_group, alert_incident, alert_channel):
                connection.execute(sa.delete(table))
            connection.execute(sa.delete(cursor).where(cursor.c.name == "alert_evaluate"))
        self._platform.begin_anew()
        evaluate_and_show(self._platform.instance, self._platform.store, SLA, TickClock(utc_now(), BUDGET_SECONDS))
        if self._platform.alerter.evaluate(self._platform.instance).firing:
            with self._platform.store.begin() as connection:
                wrong = connection.execute(sa.select(alert_incident.c.fingerprint, alert_incident.c.finding).limit(3))
                raise RuntimeError(f"something is wrong before anything failed: {wrong.all()}")
        self._sink.taken.clear()

    def _ticks(self, name: str, work: Callable[[datetime], object]) -> None:
        """Ticks as Dagster does: at its interval, later where the last tick takes longer."""
        self._stop.wait(self._phases[name])
        while not self._stop.is_set():
            began = time.monotonic()
            self._begun[name].append(began)
            try:
                work(utc_now())
            except BaseException as error:  # noqa: BLE001  (told by the main thread)
                self._failures.append(error)
                self._stop.set()
            took = time.monotonic() - began
            self.longest[name] = max(self.longest[name], took)
            self._stop.wait(max(self._every[name] - took, 0.0))

    def _wait_until_told(self) -> None:
        hangs_at = time.monotonic() + _HANGS_AFTER_SECONDS
        while (told := len(self._told_at())) < self._facts.together and not self._failures:
            if time.monotonic() > hangs_at:
                raise RuntimeError(f"only {told} of {self._facts.together} were told in {_HANGS_AFTER_SECONDS:.0f} s")
            time.sleep(0.01)

    def _told_at(self) -> list[float]:
        """When Slack had each incident: of a group's n-th, when a message of it first counted n."""
        told: list[float] = []
        most: dict[str, int] = defaultdict(int)
        for at, message in list(self._sink.taken):
            if message.standing is Fires.FIRING:
                count = len(message.items) + message.more
                told += [at] * (count - most[message.group])
                most[message.group] = max(most[message.group], count)
        return told

    def _first_judgement(self, failed_at: float) -> float:
        """When the first tick began that could find the fact."""
        return min(each for each in self._begun["freshness"] if each >= failed_at)


if __name__ == "__main__":
    main()
