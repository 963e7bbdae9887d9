"""One run of a job, started, followed in the ledger, and told.

Belongs here: what commands that run something on connections have in common. Does not belong here: which job and which
connections (`sync`, `repair`), asking Dagster (`runs`), reading the ledger (`watch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import typer

from adinsights_orchestration.cli import process, runs
from adinsights_orchestration.cli.entry import EXIT_INTERRUPTED, EXIT_NOT_WELL
from adinsights_orchestration.cli.watch import POLL_SECONDS, Shown, SyncWatch, row_style
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

_Answer = TypeVar("_Answer")
_PATIENCE_SECONDS = 120.0  # with a UI that restarts
# Progress is shown from the ledger; the run's own log lines stay in Dagster.
_SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What became of a run.

    Attributes:
        run_id: The run.
        rows: A row per connection that was asked for.
        reason: Why the run failed, in its own words; empty when it succeeded.
    """

    run_id: str
    rows: Sequence[Mapping[str, Any]]
    reason: str

    @property
    def failed(self) -> list[Mapping[str, Any]]:
        """The rows of exactly the connections that failed."""
        return [row for row in self.rows if row["state"] != "succeeded"]


class JobRun:
    """Starts a job's run and follows it.

    Args:
        settings: All settings.
        store: The ops store.
        job: The job's name.
        partitions: The partition keys that the run works on.
        as_json: Say nothing on the way.
    """

    def __init__(
        self, settings: Settings, store: OpsStore, job: str, partitions: Sequence[str], *, as_json: bool
    ) -> None:
        self._settings, self._store, self._job, self._partitions = settings, store, job, partitions
        self._as_json = as_json
        self._ui = runs.Ui(settings.dagster.asked_url, settings.dagster.ui_url)

    def start(self, op: str, config: Mapping[str, Any], *, here: bool) -> Conclusion:
        """Runs the job by the UI's queue, or in this process where the UI does not answer, and returns its end.

        Args:
            op: The job's op.
            config: The op's configuration.
            here: Run in this process even if the UI answers.
        """
        run_config = {"ops": {op: {"config": dict(config)}}}
        where = None if here else self._ui.location_of(self._job)
        if where is None:
            self._say(f"{self._job}: {len(self._partitions)} connections, in this process")
            return self._run_here(run_config)
        run_id = self._ui.launch(where, self._job, run_config, runs.run_tags())
        self._say(f"{self._job}: {len(self._partitions)} connections, {self._ui.run_url(run_id)}")
        return self._follow(run_id)

    def detach(self, op: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Puts the run into the UI's queue and returns where to find it."""
        where = self._ui.location_of(self._job)
        if where is None:
            raise runs.RunError(
                f"the UI at {self._ui.url} does not answer, and only it can run something detached",
                next_step="Start it, or leave --detach out.",
            )
        run_id = self._ui.launch(where, self._job, {"ops": {op: {"config": dict(config)}}}, runs.run_tags())
        return {"run_id": run_id, "url": self._ui.run_url(run_id), "partitions": list(self._partitions)}

    def _run_here(self, run_config: Mapping[str, Any]) -> Conclusion:
        run_id = runs.new_run_id()
        watch = SyncWatch(self._store, run_id, self._partitions)
        with Shown(watch.look, silent=self._as_json):
            failures = runs.run_here(
                self._settings, self._job, {**run_config, **_SILENT}, runs.run_tags(), run_id, store=self._store
            )
        return _concluded(run_id, watch, failures)

    def _follow(self, run_id: str) -> Conclusion:
        watch = SyncWatch(self._store, run_id, self._partitions)
        try:
            with Shown(watch.look, silent=self._as_json):
                self._until_over(run_id)
                failures = self._failures(run_id)
        except KeyboardInterrupt:
            process.say(f"The run goes on: {self._ui.run_url(run_id)}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        return _concluded(run_id, watch, failures)

    def _until_over(self, run_id: str) -> None:
        ended = self._patiently(lambda: self._ui.status(run_id), until=lambda status: status in runs.TERMINAL)
        if ended is None:
            raise runs.RunError(
                "the UI does not answer any more; the run goes on without it", next_step=self._ui.run_url(run_id)
            )

    def _failures(self, run_id: str) -> runs.Failures:
        """What failed; where the UI stays away, the ledger knows how each sync ended all the same."""
        failures = self._patiently(lambda: self._ui.failures(run_id))
        unknown = f"the UI does not answer any more, so the run's own reasons are not known: {self._ui.run_url(run_id)}"
        return runs.Failures(reason=unknown) if failures is None else failures

    def _patiently(
        self, ask: Callable[[], _Answer | None], until: Callable[[_Answer], bool] = lambda _: True
    ) -> _Answer | None:
        """Asks the UI until it says what is waited for; None when it has not answered at all for too long."""
        answered_at = time.monotonic()
        while True:
            answer = ask()
            if answer is not None and until(answer):
                return answer
            if answer is not None:
                answered_at = time.monotonic()
            elif time.monotonic() - answered_at > _PATIENCE_SECONDS:
                return None
            time.sleep(POLL_SECONDS)

    def _say(self, text: str) -> None:
        if not self._as_json:
            process.say(text)


def conclude(conclusion: Conclusion, *, title: str, as_json: bool) -> None:
    """Prints what became of the run, and ends the command: 0 when nothing failed, else 1."""
    failed = conclusion.failed
    if as_json:
        keys = [row["partition"] for row in failed]
        document = {"run_id": conclusion.run_id, "connections": conclusion.rows, "failed": keys}
        process.print_json({**document, "reason": conclusion.reason})
    else:
        process.console().print(process.table(conclusion.rows, title=title, style=row_style))
        if failed:
            rows = [{name: row[name] or None for name in ("partition", "state", "job", "reason")} for row in failed]
            process.print_rows(rows, as_json=False, title="Failed")
        if conclusion.reason and not any(row["reason"] for row in failed):
            process.say(conclusion.reason, style="red")
    raise typer.Exit(EXIT_NOT_WELL if failed or conclusion.reason else 0)


def _concluded(run_id: str, watch: SyncWatch, failures: runs.Failures) -> Conclusion:
    watch.look()
    return Conclusion(run_id, watch.fail(failures.by_partition), failures.reason)
