"""What people do to alerts: acknowledge, silence, look; and what the next evaluation makes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from adinsights_orchestration.alerting.bookkeeping import outbox, rows
from adinsights_orchestration.alerting.evaluation.engine import Before, Surroundings, advance
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Severity, Standing
from adinsights_orchestration.alerting.model import Absent, Finding
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.alerting.telling.grouping import Op, Options
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.support import NOON, finding

HOUR = timedelta(hours=1)


def _evaluate(
    store: OpsStore, *findings: Finding, after: timedelta = timedelta(minutes=1)
) -> list[tuple[Op, Standing]]:
    now = NOON + after
    with store.begin() as connection:
        before = rows.load_incidents(connection, {each.fingerprint for each in findings})
        groups = rows.load_groups(connection, [each.group_key for each in findings])
        silences = rows.load_silences(connection, now)
        done = advance(
            Before(before, groups),
            findings,
            lambda _: Absent(),
            Surroundings(Options(Routes(("main",))), silences=silences),
            now,
        )
        rows.save_incidents(connection, done.incidents)
        rows.save_groups(connection, done.groups)
        outbox.enqueue(connection, done.orders, now)
    return [(order.op, order.message.standing) for order in done.orders]


def test_an_acknowledgement_by_a_part_of_the_id_is_kept_with_who_and_when_and_shown(ops_store: OpsStore) -> None:
    one = finding("a")
    _evaluate(ops_store, one)
    (acked,) = hands.acknowledge(ops_store, one.fingerprint[:6].upper(), "ann", NOON + HOUR)
    assert (acked.acked_by, acked.acked_at) == ("ann", NOON + HOUR)
    assert hands.acknowledge(ops_store, acked.id, "bob", NOON + HOUR) == []
    assert _evaluate(ops_store, one, after=2 * HOUR) == [(Op.UPDATE, Standing.ACKNOWLEDGED)]
    told = hands.story(ops_store, acked.id)
    assert [event.kind for event in told.history] == ["acknowledged"]


def test_a_group_is_acknowledged_as_a_whole_and_only_while_its_message_is_the_same(ops_store: OpsStore) -> None:
    _evaluate(ops_store, finding("a", group=("g",)), finding("b", group=("g",)))
    with ops_store.begin() as connection:
        assert hands.acknowledge_group(connection, "g", 2, "ann", NOON) == []
    with ops_store.begin() as connection:
        assert len(hands.acknowledge_group(connection, "g", 1, "ann", NOON)) == 2
    assert {each.acked_by for each in hands.open_incidents(ops_store)} == {"ann"}


def test_the_most_urgent_is_listed_first_and_what_is_over_is_not(ops_store: OpsStore) -> None:
    _evaluate(ops_store, finding("a"), finding("b", Severity.PAGE), finding("c"))
    _evaluate(ops_store, finding("a"), finding("b", Severity.PAGE), after=HOUR)
    assert [each.finding.resource for each in hands.open_incidents(ops_store)] == ["b", "a"]


@pytest.mark.parametrize("text", ["", "abc", "xyzxyz", "ffffffffff", "%"])
def test_an_id_that_is_none_is_refused_with_where_to_look(ops_store: OpsStore, text: str) -> None:
    with pytest.raises(ConfigurationError, match="alerts list"):
        hands.story(ops_store, text)


def test_what_is_over_cannot_be_acknowledged(ops_store: OpsStore) -> None:
    one = finding("a")
    _evaluate(ops_store, one)
    _evaluate(ops_store, after=HOUR)
    with pytest.raises(ConfigurationError, match="does not fire"):
        hands.acknowledge(ops_store, one.fingerprint, "ann", NOON)


def test_a_silence_holds_until_it_is_ended_by_hand(ops_store: OpsStore) -> None:
    made = hands.silence(ops_store, ["rule=connection_stale", "tenant=~ac.*"], HOUR, "ann", "known", NOON)
    one = finding("a", tenant="acme")
    assert _evaluate(ops_store, one) == []
    assert hands.unsilence(ops_store, made.id, "ann", NOON)
    assert not hands.unsilence(ops_store, made.id, "ann", NOON)
    assert hands.silences(ops_store, NOON) == []
    assert _evaluate(ops_store, one, after=2 * HOUR) == [(Op.POST, Standing.FIRING)]


@pytest.mark.parametrize(
    ("matchers", "lasts", "reason"),
    [
        ([], HOUR, "x"),
        (["colour=red"], HOUR, "x"),
        (["tenant=a"], 0 * HOUR, "x"),
        (["tenant=a"], 800 * HOUR, "x"),
        (["tenant=a"], HOUR, "  "),
    ],
)
def test_a_silence_of_everything_for_ever_or_without_a_reason_is_refused(
    ops_store: OpsStore, matchers: list[str], lasts: timedelta, reason: str
) -> None:
    with pytest.raises(ConfigurationError):
        hands.silence(ops_store, matchers, lasts, "ann", reason, NOON)
