"""How far a run is: said when it changed, and never in the way of the work."""

from __future__ import annotations

import threading

import pytest

from adinsights_orchestration.audit_log.telling import telling
from adinsights_orchestration.errors import OpsStoreError


def test_what_changed_is_said_once_and_nothing_and_failures_are_passed_over() -> None:
    answers = iter(["", "1 of 3", "1 of 3", None, "2 of 3"])
    said: list[str] = []
    enough = threading.Event()

    def progress() -> str:
        answer = next(answers, "")
        if answer is None:
            raise OpsStoreError("away")
        if answer == "2 of 3":
            enough.set()
        return answer

    with telling(said.append, progress, every_seconds=0.001):
        assert enough.wait(30)
        while "2 of 3" not in said:
            enough.wait(0.001)
    assert said == ["1 of 3", "2 of 3"]


def test_it_ends_with_the_work_that_fails() -> None:
    before = set(threading.enumerate())

    def work() -> None:
        with telling(print, lambda: "", every_seconds=60):
            raise ValueError("the work failed")

    with pytest.raises(ValueError, match="the work failed"):
        work()
    assert set(threading.enumerate()) <= before
