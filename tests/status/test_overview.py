"""The page that on-call opens first: red on top, rows that lead somewhere, and written when there is something new."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import component_health
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.links import CONNECTION_SECTION, OVERVIEW_SECTION, REGISTRY_SECTION, Links
from adinsights_orchestration.status.model import Status
from adinsights_orchestration.status.overview import EVERY, RENEWED, Written, headline, render, to_write
from adinsights_orchestration.status.reading import take_status
from tests.status.world import HOUR, NOON, World, late, state_of

SETTINGS = Settings()
LINKS = Links.of(SETTINGS)


@pytest.fixture
def world(ops_store: OpsStore) -> World:
    return World(ops_store).well()


def _status(world: World) -> Status:
    return take_status(SETTINGS, world.store, world.now)


def _page(world: World) -> str:
    return render(_status(world), LINKS)


def _rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose heading row starts so."""
    lines = page[page.index(f"| {heading}") :].split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:] if line[:1] == "|"]


def test_a_page_of_health_says_so_as_of_when_and_lists_no_connection(world: World) -> None:
    world.evaluated([state_of("acme/meta")])
    page = _page(world)
    assert page.startswith("## 🟢 OK\n")
    assert "**As of 2026-03-10 12:00 UTC**" in page
    assert "acme/meta" not in page
    assert "### Connections: 1 ok" in page


def test_red_stands_on_top_and_every_row_leads_to_its_asset_and_its_runbook(world: World) -> None:
    world.read({Component.SCHEDULER: Health.DEGRADED, Component.WAREHOUSE: Health.DOWN})
    page = _page(world)
    rows = _rows(page, " | component")
    assert page.startswith("## 🔴 DOWN\n")
    assert [row[0] for row in rows[:3]] == ["🔴", "🟠", "🟢"]
    assert rows[0][1] == f"[warehouse]({SETTINGS.dagster.ui_url}/assets/health/warehouse)"
    assert len(rows) == len(Component)
    assert all(row[-1].startswith(f"[runbook]({SETTINGS.runbook_url}#") for row in rows)
    assert "- warehouse is down: warehouse said down" in page


def test_late_connections_lead_to_their_partitions_and_say_why(world: World) -> None:
    world.evaluated([late("acme/meta-1f0c2a9b"), state_of("acme/x", Freshness.FAILING), state_of("acme/y")])
    page = _page(world)
    rows = _rows(page, " | connection")
    assert [(row[0], row[3]) for row in rows] == [("🔴", "stale"), ("🟠", "failing")]
    link = f"{SETTINGS.dagster.ui_url}/assets/airbyte/meta?view=partitions&partition=acme%2Fmeta-1f0c2a9b"
    assert rows[0][1] == f"[acme/meta-1f0c2a9b]({link})"
    assert rows[0][6] == "Last success 09:00; late."


def test_late_connections_stand_above_components_that_are_well_and_below_one_that_is_not(world: World) -> None:
    world.evaluated([late("acme/meta-1f0c2a9b")])
    page = _page(world)
    assert page.index("### Connections") < page.index("### Components")
    world.read({Component.WAREHOUSE: Health.DOWN})
    page = _page(world)
    assert page.index("### Components") < page.index("### Connections")


def test_a_cut_list_says_of_how_many_and_counts_stay_exact(world: World) -> None:
    world.evaluated([late(f"acme/meta-{number:03}") for number in range(45)])
    page = _page(world)
    assert len(_rows(page, " | connection")) == 20
    assert "The worst 20 of 45;" in page
    assert _rows(page, "provider") == [[f"[meta]({SETTINGS.dagster.ui_url}/assets/airbyte/meta?view=partitions)", "45"]]


def test_what_a_server_says_is_text_and_never_markup(world: World) -> None:
    world.read({Component.AIRBYTE: Health.DOWN}, detail="<script>a|b</script>\n# [click](http://evil) *now* `x`\\")
    page = _page(world)
    row = next(row for row in _rows(page, " | component") if row[1].startswith("[airbyte]"))
    assert row[3] == r"\<script\>a\|b\</script\> \# \[click\](http://evil) \*now\* \`x\`" + "\\\\"


def test_the_line_above_the_page_is_text_too(world: World) -> None:
    assert headline(_status(world)) == "All is well."
    world.read({Component.AIRBYTE: Health.DOWN}, detail="*now* <b>")
    assert headline(_status(world)) == r"airbyte is down: \*now\* \<b\>"


def test_a_moment_of_the_page_s_own_day_is_a_time_and_any_other_has_its_date(world: World) -> None:
    world.evaluated([late("acme/a"), state_of("acme/b", Freshness.FAILING, last_success_at=NOON - 24 * HOUR)])
    assert [row[4] for row in _rows(_page(world), " | connection")] == ["09:00", "2026-03-09 12:00"]


def test_what_is_not_watched_has_no_colour(world: World) -> None:
    with world.store.begin() as connection:
        connection.execute(sa.delete(component_health).where(component_health.c.component == Component.SCHEDULER))
    row = _rows(_page(world), " | component")[-1]
    assert (row[0], row[2]) == ("", "not watched")


def test_a_long_text_is_cut(world: World) -> None:
    world.read({Component.AIRBYTE: Health.DOWN}, detail="x" * 5000)
    assert len(_page(world)) < 10_000


def test_an_evaluation_that_stands_still_is_white_and_not_green(world: World) -> None:
    assert "⚪ Evaluated " in render(_status(world.later(timedelta(minutes=30))), LINKS)


def _seconds_later(world: World, seconds: float) -> Status:
    return take_status(SETTINGS, world.store, world.now + timedelta(seconds=seconds))


def _written(status: Status) -> Written:
    written = to_write(status, None)
    assert written is not None
    return written


def test_the_first_page_is_written_and_the_same_picture_not_again_before_an_hour(world: World) -> None:
    first = _status(world)
    last = _written(first)
    assert to_write(_at(first, RENEWED - timedelta(seconds=1)), last) is None
    assert to_write(_at(first, RENEWED), last) is not None


def test_a_transition_is_written_at_once(world: World) -> None:
    last = _written(_status(world))
    world.read({Component.WEBHOOK: Health.DEGRADED})
    assert to_write(_seconds_later(world, 1), last) is not None


def test_a_detail_waits_until_the_page_is_five_minutes_old(world: World) -> None:
    world.evaluated([late("acme/a")])
    last = _written(_status(world))
    world.evaluated([late("acme/b")])
    changed = _status(world)
    assert to_write(_at(changed, EVERY - timedelta(seconds=1)), last) is None
    assert to_write(_at(changed, EVERY), last) is not None


def test_growing_older_alone_is_no_change(world: World) -> None:
    world.evaluated([late("acme/a")])
    last = _written(_status(world))
    world.read(dict.fromkeys(Component, Health.OK), latency_ms=99.0, since=NOON - HOUR, detail="62 s old")
    world.evaluated(at=NOON + timedelta(seconds=60))
    later = _seconds_later(world, 60)
    assert to_write(_at(later, EVERY), Written(last.at, last.transition, _written(later).picture)) is None


def test_a_clock_that_was_set_back_writes_instead_of_waiting_for_it(world: World) -> None:
    status = _status(world)
    assert to_write(_at(status, -HOUR), _written(status)) is not None


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 2), st.booleans()), max_size=30))
def test_however_the_picture_moves_only_transitions_come_more_often_than_every_five_minutes(
    moves: list[tuple[int, int, bool]],
) -> None:
    blank = take_nothing()
    last, now, problems = _written(blank), timedelta(), 0
    for seconds, count, turns in moves:
        now += timedelta(seconds=seconds)
        problems += count
        health = Health.DEGRADED if turns else Health.OK
        parts = {"registry": blank.registry.model_copy(update={"problems": problems, "health": health})}
        new = to_write(_at(blank, now).model_copy(update=parts), last)
        if new is not None:
            assert new.transition != last.transition or new.at - last.at >= EVERY
            last = new
        else:
            assert NOON + now - last.at < RENEWED


def take_nothing() -> Status:
    """A picture without an ops store, for what is only compared."""
    from adinsights_orchestration.errors import OpsStoreError
    from adinsights_orchestration.status.reading import down

    return down(SETTINGS, OpsStoreError("nothing"), NOON)


def test_every_component_s_section_of_the_runbook_is_there() -> None:
    runbook = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text(encoding="utf-8")
    headings = [line.lstrip("#").strip().lower() for line in runbook.splitlines() if line.startswith("#")]
    anchors = {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}
    sections = {LINKS.component_runbook(component).rpartition("#")[2] for component in Component}
    assert {*sections, OVERVIEW_SECTION, REGISTRY_SECTION, CONNECTION_SECTION} - anchors == set()


@pytest.mark.parametrize("kept", [None, "", "{}", "nonsense", "[]", '{"at": "yesterday"}'])
def test_a_cursor_that_is_none_is_as_if_nothing_was_written(kept: str | None) -> None:
    assert Written.from_json(kept) is None


def test_what_was_written_last_is_remembered_between_ticks(world: World) -> None:
    last = _written(_status(world))
    assert Written.from_json(last.to_json()) == last


def _at(status: Status, passed: timedelta) -> Status:
    return status.model_copy(update={"as_of": NOON + passed})
