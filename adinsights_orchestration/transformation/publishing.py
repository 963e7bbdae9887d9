"""The file that the backend's dbt health reads: brought up to date as a whole, or left as it was.

Belongs here: writing that one file. Does not belong here: what stands in it (`run_results`). Publishing is the ops
store's state laid out and compared with the file, not a step of a build: whoever publishes next, a build or a tick,
mends what an earlier one could not write, and a model that left the project leaves the file without a build.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from adinsights_orchestration import whole_file
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.transformation.invocations import latest_build, lock_results, node_results
from adinsights_orchestration.transformation.run_results import document


class PublishError(AdinsightsError):
    """The run results file could not be replaced; the one before it is whole."""


def publish(store: OpsStore, path: Path, nodes: Collection[str]) -> bool:
    """Brings the file at `path` up to date with the ops store; returns whether it had to be replaced.

    Before the first completed build there is nothing to say, and no file is written. One publisher at a time: the file
    never goes back to an older state.

    Args:
        store: The ops store.
        path: The file; its folder is made when it is missing.
        nodes: Unique ids of the project's nodes.

    Raises:
        PublishError: The file could not be written (disk full, no permission).
    """
    with store.begin() as connection:
        lock_results(connection)
        latest = latest_build(connection)
        if latest is None:
            return False
        content = json.dumps(document(latest, node_results(connection).values(), nodes)).encode()
        if _current(path) == content:
            return False
        replace_whole(path, content)
    return True


def replace_whole(path: Path, content: bytes) -> None:
    """Replaces a file so that any reader, and any crash, sees the old content or the new, never a part of either.

    Raises:
        PublishError: It could not be written; the old file is as it was.
    """
    try:
        whole_file.replace_whole(path, content)
    except OSError as error:
        raise PublishError(
            f"the run results could not be written ({error.strerror or error}); the file before them is whole",
            place=str(path),
            next_step="Make room or give write permission to its folder; the next build or tick publishes them.",
        ) from error


def _current(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
