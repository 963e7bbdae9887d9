"""From the fact in the ledger to the message in the channel, with many incidents that open together.

The three sensors that a fact passes (`freshness_evaluate`, `alert_evaluate`, `alert_deliver`) tick by themselves, each
at its interval, as Dagster ticks them; failed syncs are written into the ledger together, at random moments between
ticks. An incident is told when the message of its group arrives, or an edit that counts it. Prints one JSON line: the
whole way, and what of it is work rather than waiting for a tick.

Target: one tick plus one second at the 99th percentile, with 200 incidents that open together. A fact waits for three
sensors; `ticks_s` is their intervals together.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.alerting.message import Message
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.tables import sync_job
from benchmarks._alerting import Platform
from benchmarks._databases import databases
from benchmarks._machine import cpu_seconds

_FIRST_JOB = 10_000_000


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1200, help="connections of the platform")
    parser.add_argument("--together", type=int, default=200, help="incidents that open together")
    parser.add_argument("--rounds", type=int, default=10, help="how many times")
    parser.add_argument("--freshness", type=float, default=3.0, help="seconds between ticks of freshness_evaluate")
    parser.add_argument("--evaluate", type=float, default=3.0, help="seconds between ticks of alert_evaluate")
    parser.add_argument("--deliver", type=float, default=1.0, help="seconds between ticks of alert_deliver")
    options = parser.parse_args()
    with databases() as (store, instance):
        platform = Platform(store, instance, options.connections, 0)
        platform.populate()
        print(json.dumps({"benchmark": "alert_latency", **_run(platform, options)}), flush=True)


def _run(platform: Platform, options: argparse.Namespace) -> dict[str, Any]:
    now = utc_now()
    _freshen(platform, now)
    platform.judge(now)
    platform.evaluate(now)
    stop, spent = threading.Event(), _Spent()
    ticks: dict[str, tuple[float, Callable[[], object]]] = {
        "freshness": (options.freshness, lambda: platform.judge(utc_now())),
        "evaluate": (options.evaluate, lambda: platform.evaluate(utc_now())),
        "deliver": (options.deliver, lambda: platform.deliver(utc_now())),
    }
    threads = [
        threading.Thread(target=_tick, args=(name, every, work, stop, spent), daemon=True)
        for name, (every, work) in ticks.items()
    ]
    for thread in threads:
        thread.start()
    dice, took, cpu = random.Random(1), [], cpu_seconds()
    for number in range(options.rounds):
        time.sleep(dice.uniform(0, max(options.freshness, options.evaluate)))
        took.append(_one_round(platform, number, options.together))
    stop.set()
    for thread in threads:
        thread.join()
    took.sort()
    ticks_s = options.freshness + options.evaluate + options.deliver
    return {
        "connections": options.connections,
        "together": options.together,
        "rounds": options.rounds,
        "ticks_s": ticks_s,
        "p50_s": round(took[len(took) // 2], 2),
        "worst_s": round(took[-1], 2),
        "worst_beyond_ticks_s": round(took[-1] - ticks_s, 2),
        "longest_tick_s": {name: round(seconds, 2) for name, seconds in sorted(spent.longest.items())},
        "posts_and_edits": len(platform.sink.messages),
        "cpu_s_a_round": round((cpu_seconds() - cpu) / options.rounds, 2),
    }


class _Spent:
    """The longest tick of each sensor."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}


def _tick(name: str, every: float, work: Callable[[], object], stop: threading.Event, spent: _Spent) -> None:
    while not stop.is_set():
        began = time.monotonic()
        work()
        took = time.monotonic() - began
        spent.longest[name] = max(spent.longest.get(name, 0.0), took)
        stop.wait(max(every - took, 0.0))


def _one_round(platform: Platform, number: int, together: int) -> float:
    """Lets so many syncs fail, and returns the seconds until the channel says so of all of them."""
    before = len(platform.sink.messages)
    began = time.monotonic()
    _fail(platform, number, together)
    while _told(platform.sink.messages[before:]) < together:
        if time.monotonic() - began > 120:
            raise RuntimeError(f"only {_told(platform.sink.messages[before:])} of {together} were told")
        time.sleep(0.01)
    took = time.monotonic() - began
    # They succeed again, and the next round waits until nothing is open, so that it opens messages anew.
    _freshen(platform, utc_now())
    while platform.evaluate(utc_now()).firing:
        time.sleep(0.2)
    _close_groups(platform)
    return took


def _told(messages: list[Message]) -> int:
    """How many incidents the newest form of each message speaks of."""
    newest = {message.group: message for message in messages}
    return sum(len(message.items) + message.more for message in newest.values())


def _fail(platform: Platform, number: int, together: int) -> None:
    at = utc_now()
    with platform.store.begin() as connection:
        query = sa.select(sync_job).where(sync_job.c.job_id < _FIRST_JOB).order_by(sync_job.c.partition_key)
        newest = connection.execute(query.distinct(sync_job.c.partition_key).limit(together)).mappings().all()
        rows = [
            {
                **row,
                "job_id": _FIRST_JOB + 2 * (number * together + n),
                "status": "failed",
                "rows_synced": None,
                "failure_message": "the token has expired",
                "started_at": at - timedelta(minutes=1),
                "ended_at": at,
                "first_observed_at": at,
                "observed_at": at,
                "end_observed_at": at,
            }
            for n, row in enumerate(newest)
        ]
        connection.execute(sa.insert(sync_job), rows)


def _freshen(platform: Platform, at: datetime) -> None:
    """Every connection has just succeeded."""
    with platform.store.begin() as connection:
        connection.execute(sa.delete(sync_job).where(sync_job.c.job_id >= _FIRST_JOB))
        moved = dict.fromkeys(("ended_at", "first_observed_at", "observed_at", "end_observed_at"), at)
        newest = sa.select(sa.func.max(sync_job.c.job_id)).group_by(sync_job.c.partition_key)
        connection.execute(sa.update(sync_job).where(sync_job.c.job_id.in_(newest)).values(**moved))


def _close_groups(platform: Platform) -> None:
    """Forgets the clocks of groups: between two notices of one five minutes pass, which is not what is measured."""
    with platform.store.begin() as connection:
        connection.execute(sa.text("delete from adinsights_ops.alert_outbox"))
        connection.execute(sa.text("delete from adinsights_ops.alert_group"))
        connection.execute(sa.text("delete from adinsights_ops.alert_incident"))
        connection.execute(sa.text("delete from adinsights_ops.cursor where name = 'alert_evaluate'"))


if __name__ == "__main__":
    main()
