"""A damaged object is written anew from the table, where that still holds what was sealed."""

from __future__ import annotations

import pytest

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.leaving.mending import MendingReport, Witness, mend
from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from tests.audit_log.archive.test_run import archived, exactly
from tests.audit_log.conftest import LAST, NOW, Place
from tests.audit_log.living import archive_of, leave_the_table, objects, verified
from tests.audit_log.rows import FIRST


def mended(place: Place, *, apply: bool = True) -> MendingReport:
    return mend(archive_of(place, now=NOW), FIRST, LAST, apply=apply)


@pytest.fixture
def damaged(place: Place) -> Place:
    """One object has lost a byte, another is missing."""
    place.archive()
    first, second, *_ = sorted(objects(place))
    path = place.store.path(first)
    path.write_bytes(path.read_bytes()[:-1])
    place.store.delete(second)
    return place


def test_archiving_again_does_not_heal_and_mending_does(damaged: Place) -> None:
    damaged.archive()
    assert len(verified(damaged).problems) == 2
    key = min(objects(damaged))
    evidence = damaged.store.get(key)
    report = mended(damaged)
    assert (len(report.damages), len(report.mended), report.left) == (2, 2, [])
    found = verified(damaged)
    assert (found.problems, found.missing, found.rows) == ([], [], len(damaged.rows))
    assert archived(damaged) == exactly(damaged.rows)
    assert damaged.store.get(key) == evidence


def test_what_was_mended_keeps_no_question_about_earlier_revisions_from_being_answered(damaged: Place) -> None:
    evidence = min(objects(damaged))  # stays, and stays damaged; what was missing is there again
    with pytest.raises(ContentError):
        ask(damaged.store, AUDIT_LOG, Question(revisions=True, limit=0))
    mended(damaged)
    found = ask(damaged.store, AUDIT_LOG, Question(revisions=True, limit=0))
    assert (len(found.rows), found.unreadable) == (len(damaged.rows), (evidence,))
    assert ask(damaged.store, AUDIT_LOG, Question()).unreadable == ()


def test_by_hand_it_tells_what_is_damaged_and_who_else_has_the_rows(damaged: Place) -> None:
    report = mended(damaged, apply=False)
    assert {damage.witness for damage in report.left} == {Witness.TABLE}
    assert {chain.tenant_of_key(key) for key in sorted(objects(damaged))[:1]} <= {at[0] for at in report.damages}
    assert len(verified(damaged).problems) == 2


def test_what_has_left_the_table_is_named_and_left_alone(damaged: Place) -> None:
    leave_the_table(damaged)
    manifests = verified(damaged).manifests
    report = mended(damaged)
    assert (report.mended, {damage.witness for damage in report.left}) == ([], {Witness.NOBODY})
    assert verified(damaged).manifests == manifests


def test_what_the_table_holds_otherwise_by_now_is_not_taken_for_what_was_sealed(damaged: Place) -> None:
    damaged.backend.execute("update accounts_auditlog set action = 'logout'")
    before = verified(damaged).problems
    report = mended(damaged)
    assert (report.mended, {damage.witness for damage in report.left}) == ([], {Witness.CHANGED})
    assert verified(damaged).problems == before


def test_nothing_is_written_where_nothing_is_damaged(place: Place) -> None:
    place.archive()
    report = mended(place)
    assert (report.objects, report.damages) == (len(objects(place)), {})
    assert verified(place).manifests == report.objects // len(place.tenants)
