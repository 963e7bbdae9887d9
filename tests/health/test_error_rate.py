"""The error rate from counters, held against an oracle that knows every request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from adinsights_orchestration.health import prometheus
from adinsights_orchestration.health.error_rate import (
    NOTHING,
    Counters,
    Scrape,
    Series,
    Traffic,
    judge,
    observe,
    several_processes,
    traffic,
)
from adinsights_orchestration.health.model import Health
from adinsights_orchestration.health.prometheus import MetricsError, Selection, parse, query_value

START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
TICK, WINDOW = timedelta(seconds=30), timedelta(minutes=5)
SELECTION = Selection("responses_total", "status", "5..", {})


def scrape(
    tick: int, *, ok: float | None = None, bad: float | None = None, target: str = "a", group: str = ""
) -> Scrape:
    series = {}
    if ok is not None:
        series[f"{group},status=200"] = Series(ok, False, group)
    if bad is not None:
        series[f"{group},status=500"] = Series(bad, True, group)
    return Scrape(target, START + tick * TICK, series)


def counted(*scrapes: Scrape) -> Traffic:
    counters = NOTHING
    for one in scrapes:
        counters = Counters.from_json(observe(counters, [one], WINDOW).to_json())
    return traffic(counters, WINDOW, scrapes[-1].at)


def totals(found: Traffic) -> tuple[float, float]:
    return found.requests, found.errors


def test_what_was_counted_before_the_first_scrape_does_not_count() -> None:
    assert totals(counted(scrape(0, ok=1000, bad=50))) == (0, 0)
    assert totals(counted(scrape(0, ok=1000, bad=50), scrape(1, ok=1010, bad=51))) == (11, 1)


def test_a_reset_counts_from_zero() -> None:
    assert totals(counted(scrape(0, ok=1000, bad=50), scrape(1, ok=7, bad=2))) == (9, 2)


def test_the_first_error_of_a_process_counts_though_its_series_is_new() -> None:
    assert totals(counted(scrape(0, ok=100), scrape(1, ok=110, bad=3))) == (13, 3)


def test_a_series_that_vanishes_with_a_restart_counts_whole_when_it_comes_back() -> None:
    found = counted(scrape(0, ok=100, bad=10), scrape(1, ok=5), scrape(2, ok=9, bad=12))
    assert totals(found) == (5 + 4 + 12, 12)


def test_a_restart_that_has_grown_beyond_its_old_count_is_told_by_the_series_that_vanished() -> None:
    assert totals(counted(scrape(0, ok=10, bad=10), scrape(1, ok=15))) == (15, 0)


def test_the_restart_of_one_of_several_processes_leaves_the_others_as_they_are() -> None:
    def both(tick: int, first: tuple[float, float], second: tuple[float, float | None]) -> Scrape:
        one = scrape(tick, group="pid=1", ok=first[0], bad=first[1])
        other = scrape(tick, group="pid=2", ok=second[0], bad=second[1])
        return Scrape("a", one.at, {**one.series, **other.series})

    found = counted(both(0, (5000, 9), (100, 1)), both(1, (5010, 9), (4, None)))
    assert totals(found) == (14, 0)


def test_a_missed_scrape_loses_nothing_and_a_gap_longer_than_the_window_is_no_data() -> None:
    assert totals(counted(scrape(0, ok=100), scrape(6, ok=400))) == (300, 0)
    found = counted(scrape(0, ok=100), scrape(40, ok=5000))
    assert (totals(found), found.covered) == ((0, 0), timedelta())


def test_two_processes_behind_one_address_are_told_apart_by_their_start() -> None:
    def of(tick: int, started: float, ok: float) -> Scrape:
        return Scrape("a", START + tick * TICK, {"status=200": Series(ok, False)}, started)

    old, young = START.timestamp() - 9000, START.timestamp() - 50
    found = counted(of(0, old, 9000), of(1, young, 20), of(2, old, 9005), of(3, young, 22))
    assert totals(found) == (7, 0)


def _remembered(*scrapes: Scrape) -> Counters:
    counters = NOTHING
    for one in scrapes:
        counters = Counters.from_json(observe(counters, [one], WINDOW).to_json())
    return counters


def _in_turn(ticks: int, began: float | None = None, group: str = "") -> list[Scrape]:
    """Two processes behind one address, asked in turn: one counted much before the first scrape, the other little."""
    scrapes = []
    for tick in range(ticks):
        counts = (9000 + tick, 700) if tick % 2 else (20 + tick, 0)
        one = scrape(tick, ok=counts[0], bad=counts[1], group=f"{group}{tick % 2}" if group else "")
        scrapes.append(replace(one, started=began + tick % 2 if began else None))
    return scrapes


def test_several_processes_behind_one_address_are_found_out_and_for_longer_than_chance_hides_them() -> None:
    in_turn = _in_turn(8)
    assert several_processes(_remembered(*in_turn), WINDOW) == "a"
    sticky = [scrape(8 + tick, ok=27 + tick, bad=0) for tick in range(40)]
    assert several_processes(_remembered(*in_turn, *sticky), WINDOW) == "a"
    longer = [scrape(48 + tick, ok=67 + tick, bad=0) for tick in range(30)]
    assert several_processes(_remembered(*in_turn, *sticky, *longer), WINDOW) is None


def test_processes_that_say_when_they_began_or_have_a_label_are_several_without_harm() -> None:
    began = START.timestamp() - 9000
    assert several_processes(_remembered(*_in_turn(8, began)), WINDOW) is None
    labelled = _in_turn(8, group="pid=")
    assert several_processes(_remembered(*labelled), WINDOW) is None
    first_seen = 9001 + 700  # the one that answers second may have begun just now
    assert totals(counted(*labelled)) == (6 + 6 + first_seen, 700)


def test_a_restart_or_two_are_one_process() -> None:
    counts = [100, 110, 5, 9, 2, 30, 44]
    assert several_processes(_remembered(*(scrape(n, ok=ok) for n, ok in enumerate(counts))), WINDOW) is None


def test_a_process_that_began_since_the_last_scrape_counts_whole() -> None:
    begun = START.timestamp() + 10
    first = Scrape("a", START, {"status=200": Series(50, False)}, START.timestamp() - 100)
    second = Scrape("a", START + TICK, {"status=200": Series(8, False)}, begun)
    assert totals(counted(first, second)) == (8, 0)


def test_old_intervals_leave_the_window() -> None:
    scrapes = [scrape(tick, ok=tick * 10) for tick in range(60)]
    found = counted(*scrapes)
    assert found.requests <= 10 * 12
    assert found.requests >= 10 * 10


@dataclass
class _Server:
    """A process that counts, and an oracle that knows what could be seen of it."""

    counts: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] | None = None  # at the last scrape; None before the first


REQUESTS = st.tuples(st.integers(0, 30), st.integers(0, 10))
STEPS = st.lists(
    st.lists(st.tuples(REQUESTS, st.sampled_from(["go", "go", "go", "restart"])), min_size=3, max_size=3),
    min_size=2,
    max_size=10,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sets(st.integers(1, 9), max_size=3))
def test_several_processes_that_restart_and_miss_scrapes_are_counted_as_the_oracle_does(
    steps: list[list[tuple[tuple[int, int], str]]], missed: set[int]
) -> None:
    """Three processes, each under its own address, that say when they began: what was seen is counted exactly."""
    servers = [_Server() for _ in range(3)]
    begun = [START.timestamp() - 1] * 3
    counters, expected, last_scraped = NOTHING, Counter[str](), -1
    for tick, step in enumerate(steps):
        at = START + tick * TICK
        for number, ((good, bad), event) in enumerate(step):
            if event == "restart":
                servers[number] = _Server(seen=Counter() if last_scraped >= 0 else None)
                begun[number] = at.timestamp() - 0.5
            servers[number].counts.update({"200": good, "500": bad})
        if tick in missed:
            counters = observe(counters, [], WINDOW)
            continue
        scrapes = []
        for number, server in enumerate(servers):
            series = {s: Series(c, s == "500") for s, c in server.counts.items() if c}
            scrapes.append(Scrape(str(number), at, series, begun[number]))
            if server.seen is not None:
                expected.update(server.counts - server.seen)
            server.seen = Counter(server.counts)
        counters = Counters.from_json(observe(counters, scrapes, WINDOW).to_json())
        last_scraped = tick
    found = traffic(counters, WINDOW * 2, START + len(steps) * TICK)
    assert totals(found) == (expected.total(), expected["500"])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_counters_without_a_start_never_count_less_than_nothing_nor_more_errors_than_requests(
    values: list[tuple[int, int]],
) -> None:
    found = counted(*(scrape(tick, ok=ok, bad=bad) for tick, (ok, bad) in enumerate(values)))
    assert 0 <= found.errors <= found.requests


@pytest.mark.parametrize(
    ("requests", "errors", "health", "state"),
    [
        (199, 199, Health.UNKNOWN, "too_few_requests"),
        (0, 0, Health.UNKNOWN, "too_few_requests"),
        (200, 4, Health.OK, "ok"),
        (200, 5, Health.DEGRADED, "errors"),
        (1000, 50, Health.DEGRADED, "errors"),
        (1000, 51, Health.DOWN, "failing"),
    ],
)
def test_a_rate_is_judged_by_both_levels_and_says_what_it_rests_on(
    requests: int, errors: int, health: Health, state: str
) -> None:
    found = judge(Traffic(requests, errors, WINDOW), warn=2, page=5, at_least=200)
    assert found[:2] == (health, state)
    assert f"{errors} of {requests} requests" in found[2]


def test_our_own_requests_are_taken_out_and_never_more_than_there_were() -> None:
    assert Traffic(100, 20, WINDOW).less(40, 15) == Traffic(60, 5, WINDOW)
    assert Traffic(10, 2, WINDOW).less(40, 1) == Traffic(0, 0, WINDOW)


@pytest.mark.parametrize("kept", [None, {}, {"processes": 3}, {"processes": {}, "targets": {}, "intervals": [[1]]}])
def test_what_another_release_remembered_is_forgotten(kept: dict[str, object] | None) -> None:
    assert Counters.from_json(kept) == NOTHING


# ----------------------------------------------------------------------------------------------------------- Prometheus

TEXT = """# HELP responses_total Responses.
# TYPE responses_total counter
responses_total{status="200",method="GET"} 120
responses_total{status="500",method="GET"} 3 1395066363000
responses_total{status="503",method="PO\\"ST"} 1e1
responses_total{status="504",method="GET"} NaN
other_total{status="500"} 99
process_start_time_seconds 1.7e9
"""


def test_the_selected_counter_is_taken_out_of_the_text_format() -> None:
    found = parse(TEXT, "backend", SELECTION, START)
    assert found.started == 1.7e9
    assert sorted((one.count, one.is_error) for one in found.series.values()) == [(3, True), (10, True), (120, False)]


def _parsed_as_a_whole(text: str) -> tuple[list[tuple[float, bool]], float | None]:
    """What the parser makes of the whole text, as an oracle."""
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    counters = [(one.value, one.labels["status"] == "500") for one in samples if one.name == "responses_total"]
    return sorted(counters), next((one.value for one in samples if one.name == "process_start_time_seconds"), None)


LINES = st.sampled_from(
    [
        "# HELP responses_total Responses, \\n escaped.",
        "# TYPE responses_total counter",
        "# TYPE responses counter",
        '  responses_total{status="200",method="GET"} 5',
        '\tresponses_total{status="500"} 2 1395066363000',
        'responses_total_more{status="500"} 9',
        'responses_total:rate{status="500"} 9',
        'my_responses_total{status="500"} 9',
        'other{text="responses_total{status=500} 9"} 1',
        "# EOF",
        "",
        "process_start_time_seconds 1.7e9",
        "process_start_time_seconds_other 3",
        "# TYPE latency histogram",
        'latency_bucket{le="0.1"} 7',
        "responses_created 1.0",
    ]
)


@given(st.lists(LINES, max_size=25, unique=True))
def test_of_the_lines_that_are_not_asked_for_none_is_parsed_and_none_is_missed(lines: list[str]) -> None:
    text = "\n".join(['responses_total{status="200"} 1', *lines]) + "\n"
    found = parse(text, "backend", SELECTION, START)
    assert (sorted((one.count, one.is_error) for one in found.series.values()), found.started) == _parsed_as_a_whole(
        text
    )


def test_a_large_scrape_costs_the_parser_only_the_lines_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def noted(text: str) -> Any:
        parsed.append(text)
        return text_string_to_metric_families(text)

    monkeypatch.setattr(prometheus, "text_string_to_metric_families", noted)
    others = "".join(f'latency_bucket{{le="0.1",view="v{n}"}} {n}\n' for n in range(50_000))
    assert parse(others + TEXT, "backend", SELECTION, START).series
    assert len(parsed[0]) < len(TEXT) < 1000


def test_labels_choose_among_the_series() -> None:
    only = Selection("responses_total", "status", "5..", {"method": "GET"})
    assert len(parse(TEXT, "backend", only, START).series) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.rstrip("\n"), "end in the middle"),
        ("", "end in the middle"),
        ("other_total 3\n", "no counter responses_total"),
        ("responses_total{status= 3\n", "cannot be read"),
        ("responses_total many\n", "cannot be read"),
    ],
)
def test_what_is_no_metrics_says_so(text: str, said: str) -> None:
    with pytest.raises(MetricsError, match=said):
        parse(text, "backend", SELECTION, START)


def test_a_process_that_has_served_nothing_has_counted_nothing() -> None:
    text = "# HELP responses_total Responses.\n# TYPE responses_total counter\n"
    assert parse(text, "backend", SELECTION, START).series == {}


def test_the_queries_quote_what_they_are_given() -> None:
    requests, errors = Selection("responses_total", "status", "5..", {"job": 'the "api"'}).queries(WINDOW)
    assert requests == 'sum(increase(responses_total{job="the \\"api\\""}[300s]))'
    assert errors == 'sum(increase(responses_total{job="the \\"api\\"",status=~"5.."}[300s]))'


def test_an_answer_of_prometheus_is_a_number_or_no_series() -> None:
    vector = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "412.5"]}]}
    assert query_value({"status": "success", "data": vector}) == 412.5
    assert query_value({"status": "success", "data": {"resultType": "vector", "result": []}}) is None
    nan = {"resultType": "scalar", "result": [1, "NaN"]}
    assert query_value({"status": "success", "data": nan}) is None
    for broken in ({"status": "error", "errorType": "bad_data"}, {"status": "success"}, {}):
        with pytest.raises(MetricsError):
            query_value(broken)
