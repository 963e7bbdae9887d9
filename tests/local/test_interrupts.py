"""A signal ends a command by undoing what it began: none is lost, and none disturbs the undoing."""

from __future__ import annotations

import signal
import time
import weakref
from contextlib import suppress

import pytest

from adinsights_orchestration.local.interrupts import interruptible, never_swallowed, undone_on


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_ending_signal_is_an_interrupt_in_the_block_and_what_it_was_after_it(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_what_the_caller_had_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class _Thing:
    pass


def _drop_something_that_calls_back() -> None:
    thing = _Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    del thing  # Python calls back, drops what is raised there, and goes on
    assert reference() is None


def _drop_something_and_go_on() -> None:
    _drop_something_that_calls_back()
    time.sleep(20)  # the interrupt comes in here


def _drop_something_and_be_interrupted_at_once() -> None:
    _drop_something_that_calls_back()
    signal.raise_signal(signal.SIGTERM)


def test_an_interrupt_that_fell_into_a_finalizer_comes_again() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        _drop_something_and_go_on()


def test_an_interrupt_that_ended_the_block_already_does_not_hit_what_comes_after_it() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        _drop_something_and_be_interrupted_at_once()
    time.sleep(0.3)


def _keep_an_interrupt() -> None:
    before = signal.signal(signal.SIGINT, lambda *_: None)  # as Dagster does while it runs a job
    signal.raise_signal(signal.SIGHUP)
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_the_code_inside_kept_for_itself_comes_out_of_it() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible(), never_swallowed():
        _keep_an_interrupt()


def test_code_that_is_not_interrupted_ends_as_it_does() -> None:
    with interruptible(), never_swallowed():
        pass
    with pytest.raises(ValueError, match="its own"), interruptible(), never_swallowed():
        raise ValueError("its own")


def test_undoing_is_not_disturbed_and_the_interrupt_goes_on() -> None:
    done: list[str] = []

    def undo() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        done.append("undone")

    with pytest.raises(KeyboardInterrupt), interruptible(), undone_on(KeyboardInterrupt, undo):
        signal.raise_signal(signal.SIGTERM)
    assert done == ["undone"]


def test_only_what_was_asked_for_is_undone_and_never_what_was_there_before() -> None:
    done: list[str] = []
    with suppress(ValueError), undone_on(KeyboardInterrupt, lambda: done.append("of another kind")):
        raise ValueError
    with suppress(ValueError), undone_on(BaseException, lambda: done.append("there before"), unless=True):
        raise ValueError
    with suppress(ValueError), undone_on(BaseException, lambda: done.append("begun")):
        raise ValueError
    assert done == ["begun"]
