"""Asking the store right before rows are deleted: what it does when it is away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adinsights_orchestration.audit_log.reading import held
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.errors import AwayError, RefusedError
from adinsights_orchestration.audit_log.store.folder import Folder
from tests.audit_log.conftest import Place


class _Failing(Folder):
    """A store that fails for some keys, and counts how often it was asked for one of them."""

    def __init__(self, place: Place, error: Exception, when: Callable[[str], bool]) -> None:
        super().__init__(place.folder)
        self._error, self._when, self.asked = error, when, 0

    def get(self, key: str) -> bytes:
        if not self._when(key):
            return super().get(key)
        self.asked += 1
        raise self._error


@pytest.mark.parametrize("what", ["manifests", "objects"])
def test_a_store_that_is_away_is_waited_for_once_and_keeps_everything(
    place: Place, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place.archive()
    suffix = ".json" if what == "manifests" else ".parquet"
    store = _Failing(place, AwayError("no answer in time"), lambda key: key.endswith(suffix))
    monkeypatch.setattr(held, "open_store", lambda _: store)
    wanted = sorted({(row.tenant, row.day) for row in place.rows})
    problems = held.not_held(place.settings, place.ops, AUDIT_LOG, wanted)
    assert problems == dict.fromkeys(wanted, "the store did not answer: no answer in time")
    if what == "manifests":
        assert store.asked == 1


def test_an_object_that_is_refused_keeps_its_own_rows_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.archive()
    key = next(iter(key for key in place.store.keys("audit/") if key.endswith(".parquet")))
    store = _Failing(place, RefusedError("not ours to read"), lambda each: each == key)
    monkeypatch.setattr(held, "open_store", lambda _: store)
    wanted = sorted({(row.tenant, row.day) for row in place.rows})
    ((tenant, day),) = held.not_held(place.settings, place.ops, AUDIT_LOG, wanted)
    assert (str(tenant) in key, str(day) in key) == (True, True)
