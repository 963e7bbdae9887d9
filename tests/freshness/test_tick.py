"""Evaluations over time, on a real Postgres: what is looked at, what is written, and what is true afterwards."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid5

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.freshness import states, tick
from adinsights_orchestration.freshness.facts import DATA_JOB_TYPES, FACTS, HISTORY, load_facts, parameters
from adinsights_orchestration.freshness.model import Facts, Freshness
from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.ingestion.airbyte_models import DATA_TYPES, AirbyteJob, JobStatus, JobType
from adinsights_orchestration.ingestion.ledger import Place, Placed, record_jobs
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import connection_freshness, sync_job
from adinsights_orchestration.settings import OpsStoreSettings
from adinsights_orchestration.tenants.model import Provider, Schedule, ScheduleType, Tenant
from tests.conftest import free_port
from tests.freshness.world import ACME, HOUR, HOURLY, MINUTE, SPACE, START, World, became, connection

META, GA4 = connection("meta"), connection("ga4", Provider.GA4)
GLOBEX = Tenant(uuid5(SPACE, "globex"), "Globex", "globex")


def test_only_a_connection_that_stopped_turns_stale_at_its_deadline_and_back_after_its_next_success(
    world: World,
) -> None:
    world.serve(META, GA4)
    for one in (META, GA4):
        world.sync(one, ended=START + 5 * MINUTE, observed=START + 5 * MINUTE)
    assert became(world.evaluate(6 * MINUTE)) == {key.partition_key: Freshness.OK for key in (META, GA4)}
    world.now = START + 65 * MINUTE
    world.sync(GA4)
    assert became(world.evaluate(14 * MINUTE)) == {}
    assert became(world.evaluate(MINUTE)) == {META.partition_key: Freshness.STALE}  # 09:20, sixty and fifteen after
    assert world.states()[META.partition_key].since == START + 80 * MINUTE
    world.now += 10 * MINUTE
    world.sync(META)
    assert became(world.evaluate()) == {META.partition_key: Freshness.OK}


def test_an_idle_healthy_connection_is_neither_looked_at_nor_written(world: World) -> None:
    world.serve(META)
    world.sync(META)
    world.evaluate()
    world.evaluate(5 * MINUTE)  # what was read last is read again for two minutes
    evaluation = world.evaluate(MINUTE)
    assert (evaluation.evaluated, evaluation.written) == (0, 0)


def test_reading_a_job_again_writes_nothing(world: World) -> None:
    world.serve(META)
    world.sync(META)
    assert world.evaluate().written == 1
    evaluation = world.evaluate(MINUTE)
    assert (evaluation.evaluated, evaluation.written) == (1, 0)


def test_a_job_that_was_committed_late_is_still_seen(world: World) -> None:
    world.serve(META)
    world.evaluate()
    world.now += MINUTE
    world.evaluate()
    world.sync(META, observed=world.now - 50 * timedelta(seconds=1))
    assert became(world.evaluate()) == {META.partition_key: Freshness.OK}


def test_a_success_that_nobody_noticed_is_found_before_a_connection_is_called_stale(world: World) -> None:
    world.serve(META)
    world.sync(META, ended=START + 5 * MINUTE, observed=START + 5 * MINUTE)
    world.evaluate(6 * MINUTE)
    world.now += 2 * HOUR
    world.sync(META, observed=world.now - HOUR)  # committed an hour after it was stamped
    assert became(world.evaluate()) == {}


def test_a_job_from_the_future_makes_nothing_look_fresh(world: World) -> None:
    world.serve(META)
    world.sync(META, ended=START + 30 * 24 * HOUR, observed=START)
    world.evaluate()
    assert became(world.evaluate(2 * HOUR)) == {META.partition_key: Freshness.STALE}


def test_a_success_from_the_future_hides_no_failure_that_came_after_it(world: World) -> None:
    world.serve(META)
    world.sync(META, ended=START + 30 * HOUR, observed=START)
    for attempt in range(1, 6):
        world.now = START + attempt * 5 * MINUTE
        world.sync(META, "failed")
    world.evaluate()
    state = world.states()[META.partition_key]
    assert (state.verdict.state, state.facts.failures) == (Freshness.FAILING, 5)
    assert (state.facts.last_job_status, state.facts.last_job_ended_at) == ("failed", world.now)
    world.evaluate(31 * HOUR)
    assert world.states()[META.partition_key].facts.failures == 5, "nor once that moment has come"


def test_a_failure_from_the_future_is_over_with_the_next_success(world: World) -> None:
    world.serve(META)
    world.sync(META, "failed", ended=START + 30 * HOUR, observed=START)
    world.evaluate()
    assert world.state(META) is Freshness.FAILING
    world.now += 5 * MINUTE
    world.sync(META)
    world.evaluate()
    assert world.state(META) is Freshness.OK
    assert world.states()[META.partition_key].facts.last_job_status == "succeeded"


def test_jobs_from_the_future_that_were_seen_at_one_moment_follow_their_numbers(world: World) -> None:
    world.serve(META)
    world.sync(META, ended=START + 31 * HOUR, observed=START)
    world.sync(META, "failed", ended=START + 30 * HOUR, observed=START)
    world.evaluate()
    facts = world.states()[META.partition_key].facts
    assert (facts.failures, facts.last_job_status) == (1, "failed")


def test_the_newest_jobs_are_found_by_an_index_however_long_the_history(world: World) -> None:
    world.serve(META)
    with world.store.begin() as transaction:
        transaction.execute(sa.text("set local enable_seqscan = off"))
        plan = "\n".join(transaction.execute(sa.text(f"explain {FACTS}"), parameters([META])).scalars())
    assert plan.count("ix_sync_job_partition_over") == 3, plan


def test_a_sync_that_was_seen_while_it_ran_counts_from_its_end(world: World) -> None:
    world.serve(META)
    running = AirbyteJob(1, META.connection_id, JobType.SYNC, JobStatus.RUNNING, world.now)
    place = Place(META.partition_key, META.provider, META.tenant_id)
    for job in (running, replace(running, status=JobStatus.SUCCEEDED, ended_at=world.now + 50 * MINUTE)):
        with world.store.begin() as transaction:
            record_jobs(transaction, [Placed(job, place)], job.ended_at or world.now)
    world.evaluate(55 * MINUTE)
    assert world.states()[META.partition_key].facts.last_success_at == START + 50 * MINUTE


def test_a_clock_that_jumps_back_neither_hides_news_nor_breaks(world: World) -> None:
    world.serve(META)
    world.evaluate(3 * HOUR)
    world.now -= 2 * HOUR
    world.sync(META)
    assert world.evaluate().skipped == ""
    assert world.states()[META.partition_key].facts.last_success_at == world.now


def test_a_new_connection_appears_and_one_that_left_goes(world: World) -> None:
    world.serve(META)
    world.evaluate()
    world.serve(META, GA4)
    assert became(world.evaluate(MINUTE)) == {GA4.partition_key: Freshness.PENDING}
    world.serve(GA4)
    assert world.evaluate(MINUTE).forgotten == 1
    assert set(world.states()) == {GA4.partition_key}


def test_a_connection_that_existed_before_the_first_evaluation_gets_no_grace_for_it(world: World) -> None:
    world.serve(META, GA4, seen_at=START - 9 * 24 * HOUR)
    world.sync(META, ended=START - 24 * HOUR)
    assert became(world.evaluate()) == {
        META.partition_key: Freshness.STALE,
        GA4.partition_key: Freshness.NO_RECENT_SYNC,
    }


def test_a_paused_connection_is_not_late_and_gets_a_slot_after_it_is_resumed(world: World) -> None:
    world.serve(META)
    world.sync(META)
    world.evaluate()
    paused = world.change(META, is_active=False)
    assert became(world.evaluate(HOUR)) == {META.partition_key: Freshness.PAUSED}
    assert became(world.evaluate(72 * HOUR)) == {}
    world.change(paused, is_active=True)
    assert became(world.evaluate(MINUTE)) == {META.partition_key: Freshness.OK}
    assert became(world.evaluate(75 * MINUTE)) == {META.partition_key: Freshness.STALE}


def test_another_schedule_excuses_no_connection_that_is_late(world: World) -> None:
    world.serve(META)
    world.sync(META)
    world.evaluate()
    world.evaluate(3 * HOUR)
    world.change(META, schedule=HOURLY)
    world.evaluate(MINUTE)
    assert world.state(META) is Freshness.STALE


def test_a_tenants_own_sla_applies_to_its_connections_only(world: World) -> None:
    often = replace(META, schedule=Schedule(ScheduleType.INTERVAL, interval=15 * MINUTE))
    theirs = replace(connection("theirs"), schedule=often.schedule, tenant_id=GLOBEX.id)
    world.tenants = (replace(ACME, sla={"sync_age_warn_minutes": 240.0}), GLOBEX)
    world.serve(often, theirs)
    for one in (often, theirs):
        world.sync(one)
    world.evaluate()
    assert became(world.evaluate(2 * HOUR)) == {theirs.partition_key: Freshness.STALE}
    assert became(world.evaluate(2 * HOUR)) == {often.partition_key: Freshness.STALE}


def test_another_sla_table_judges_everything_again(world: World) -> None:
    world.serve(META)
    world.sync(META)
    world.evaluate()
    world.evaluate(70 * MINUTE)
    short = replace(world.sla[Sla.SYNC_GRACE], warn=1, page=1)
    world.sla = replace(world.sla, thresholds={**world.sla.thresholds, Sla.SYNC_GRACE: short})
    assert became(world.evaluate()) == {META.partition_key: Freshness.STALE}


def test_failures_show_before_the_deadline_and_are_counted_since_the_last_success(world: World) -> None:
    world.serve(META)
    world.sync(META)
    world.evaluate()
    for _ in range(2):
        world.now += 5 * MINUTE
        world.sync(META, "failed")
    assert became(world.evaluate()) == {META.partition_key: Freshness.FAILING}
    facts = world.states()[META.partition_key].facts
    assert (facts.failures, facts.last_job_reason) == (2, "the token was revoked")


def test_a_cancelled_sync_is_no_failure_and_a_clear_is_no_success(world: World) -> None:
    world.serve(META)
    world.sync(META)
    world.evaluate()
    world.sync(META, "cancelled", ended=START + MINUTE)
    world.sync(META, "succeeded", job_type="clear", ended=START + 2 * MINUTE)
    world.evaluate(3 * MINUTE)
    facts = world.states()[META.partition_key].facts
    assert (world.state(META), facts.failures, facts.last_success_at) == (Freshness.OK, 0, START)


def test_a_sync_that_never_ends_is_shown_without_any_news(world: World) -> None:
    daily = connection("daily", schedule=Schedule(ScheduleType.CRON, cron="0 8 * * *"))
    world.serve(daily)
    world.sync(daily)
    world.start(daily, START + HOUR)
    world.now += HOUR
    world.evaluate()
    assert became(world.evaluate(119 * MINUTE)) == {}
    assert became(world.evaluate(MINUTE)) == {daily.partition_key: Freshness.RUNNING_STALE}


def test_the_kinds_of_jobs_that_count_are_those_that_the_ingestion_calls_data() -> None:
    assert set(DATA_JOB_TYPES) == set(DATA_TYPES)


def test_two_evaluations_at_once_leave_one_result(world: World) -> None:
    many = [connection(f"c{number}") for number in range(40)]
    world.serve(*many)
    for one in many:
        world.sync(one)
    done: list[tick.Evaluation] = []
    threads = [
        threading.Thread(target=lambda: done.append(tick.run(world.store, world.sla, world.now))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(each.transitions) for each in done) == 40
    assert {state.verdict.state for state in world.states().values()} == {Freshness.OK}


def test_an_evaluation_that_dies_half_way_leaves_everything_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(META)
    world.sync(META)
    with monkeypatch.context() as patch:
        patch.setattr(states, "save_place", _die)
        with pytest.raises(KeyboardInterrupt):
            world.evaluate()
    assert world.states() == {}
    assert became(world.evaluate(MINUTE)) == {META.partition_key: Freshness.OK}


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_registry_that_was_never_read_is_said_and_an_ops_store_that_is_away_is_an_error(world: World) -> None:
    assert "never read" in world.evaluate().skipped
    away = OpsStore(OpsStoreSettings(dsn=f"postgresql://nobody@127.0.0.1:{free_port()}/x"))  # type: ignore[arg-type]
    with pytest.raises(OpsStoreError):
        tick.run(away, world.sla, world.now)


# ------------------------------------------------------------------------------------------- facts, against an oracle

JOBS = st.lists(
    st.tuples(
        st.sampled_from(["succeeded", "failed", "cancelled"]),
        st.integers(0, 5000),
        st.integers(-30, 30),
        st.integers(1, 9000),
        st.booleans(),
        st.sampled_from(["sync", "refresh", "clear"]),
    ),
    max_size=45,
    unique_by=lambda job: job[1],
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=JOBS, order=st.randoms(use_true_random=False))
def test_facts_follow_from_the_jobs_in_whatever_order_they_were_observed(
    world: World, jobs: list, order: random.Random
) -> None:
    with world.store.begin() as transaction:
        transaction.execute(sa.delete(sync_job))
    shuffled = list(jobs)
    order.shuffle(shuffled)
    ids = {}
    for job in shuffled:
        status, minute, skew, seconds, reported, job_type = job
        ended = START + minute * MINUTE
        observed = ended + skew * MINUTE
        ids[job] = world.sync(
            META, status, ended=ended, seconds=seconds, observed=observed, reported=reported, job_type=job_type
        )
    with world.store.begin() as transaction:
        found = load_facts(transaction, [META])[META.partition_key]
    expected = by_hand([job for job in jobs if job[5] != "clear"], ids)
    assert found.usual_seconds == pytest.approx(expected.usual_seconds)
    assert replace(found, usual_seconds=None) == replace(expected, usual_seconds=None)


def by_hand(jobs: list, ids: dict) -> Facts:
    """The facts, the slow way."""

    def place(job: tuple) -> tuple[datetime, int]:
        return _moment(job), ids[job]

    ended = sorted(jobs, key=place)
    successes = [job for job in ended if job[0] == "succeeded"][-HISTORY:]
    last = ended[-1] if ended else None
    reported = [job for job in successes if job[4]]
    return Facts(
        META.partition_key,
        META.provider,
        META.tenant_id,
        last_success_at=max((_moment(job) for job in successes), default=None),
        last_job_id=ids[last] if last else None,
        last_job_status=last[0] if last else None,
        last_job_reason="the token was revoked" if last and last[0] == "failed" else None,
        last_job_ended_at=_moment(last) if last else None,
        failures=sum(1 for job in ended if job[0] == "failed" and (not successes or place(job) > place(successes[-1]))),
        usual_seconds=_percentile(sorted(float(job[3]) for job in successes)),
        materialized_job=ids[max(reported, key=lambda job: (job[1] + job[2], ids[job]))] if reported else None,
    )


def _moment(job: tuple) -> datetime:
    return START + min(job[1], job[1] + job[2]) * MINUTE


def _percentile(values: list[float]) -> float | None:
    if not values:
        return None
    place = 0.95 * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def test_a_tick_over_ten_thousand_idle_connections_reads_no_row_of_theirs(world: World) -> None:
    world.serve(META)
    world.sync(META)
    world.evaluate()
    world.evaluate(5 * MINUTE)
    with world.store.begin() as transaction:
        copies = sa.text(
            "insert into adinsights_ops.connection_freshness select 'other/' || n, provider, tenant_id, state, detail,"
            " since, expected_since, expectation, valid_until, deadline, last_success_at, last_job_id, last_job_status,"
            " last_job_reason, last_job_ended_at, running_since, failures, usual_seconds, materialized_job, shown_job,"
            " shown_state, evaluated_at from adinsights_ops.connection_freshness, generate_series(1, 10000) n"
        )
        transaction.execute(copies)
    evaluation = world.evaluate(MINUTE)
    assert (evaluation.evaluated, evaluation.written) == (0, 0)
    with world.store.begin() as transaction:
        assert transaction.scalar(sa.select(sa.func.count()).select_from(connection_freshness)) == 10_001
