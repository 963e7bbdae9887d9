"""dbt's run results: reading one build's, merging it into what is known, laying them out for the backend.

Belongs here: decisions over plain values. Does not belong here: where they are kept (`invocations`) and written
(`publishing`). The backend's dbt health reads one file: it calls every result that is neither `success` nor `skipped`
failing, and the whole stale once `metadata.generated_at` is 24 hours old. So the file holds models only (a passed test
says `pass`), the newest word about each, and the time of the last build that dbt completed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ARTIFACT = "run_results.json"
NODE_PREFIXES = ("model.", "snapshot.", "seed.")
SUCCESS, SKIPPED = "success", "skipped"
# dbt found nothing to do; the relation stands as it was. The backend knows only two words that are not failures.
_AS_SKIPPED = frozenset(("no-op", "reused"))
_BUILT = frozenset((SUCCESS, *_AS_SKIPPED))


@dataclass(frozen=True, slots=True)
class NodeResult:
    """The newest that is known about one node (model, snapshot or seed).

    `result` is dbt's own result object; `generated_at` that of the build it comes from; `built_at` that of the last
    build after which the node stood as it should.
    """

    unique_id: str
    invocation_id: str
    status: str
    message: str | None
    execution_seconds: float
    generated_at: datetime
    result: Mapping[str, Any]
    built_at: datetime | None = None

    @property
    def failing(self) -> bool:
        """Whether the backend would call it failing."""
        return self.status not in (SUCCESS, SKIPPED)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One dbt command's results.

    `failed_tests` names tests that failed (not those that only warned); they are never published.
    """

    invocation_id: str
    generated_at: datetime
    elapsed_seconds: float
    metadata: Mapping[str, Any]
    nodes: tuple[NodeResult, ...]
    failed_tests: tuple[str, ...]

    @property
    def built(self) -> frozenset[str]:
        """The nodes that stand as this command's code and data say."""
        return frozenset(node.unique_id for node in self.nodes if node.result["status"] in _BUILT)

    @property
    def skipped(self) -> frozenset[str]:
        """The nodes that dbt skipped because of a failure."""
        return frozenset(node.unique_id for node in self.nodes if node.result["status"] == SKIPPED)

    @property
    def failed_nodes(self) -> tuple[str, ...]:
        """The nodes that could not be built, those that were skipped for it not among them."""
        return tuple(node.unique_id for node in self.nodes if node.failing)

    @property
    def models_run(self) -> int:
        """Models that dbt tried to build."""
        return sum(node.unique_id.startswith("model.") and node.status != SKIPPED for node in self.nodes)


def read_artifact(folder: Path) -> Artifact | None:
    """Reads the results that a dbt process left in its target folder; None when it left none, or half a file."""
    try:
        content = json.loads((folder / ARTIFACT).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return parse_artifact(content)


def parse_artifact(content: Mapping[str, Any]) -> Artifact:
    """Takes dbt's `run_results.json` apart."""
    metadata: Mapping[str, Any] = content["metadata"]
    generated_at = datetime.fromisoformat(metadata["generated_at"]).astimezone(UTC)
    invocation_id = str(metadata["invocation_id"])
    results: Sequence[Mapping[str, Any]] = content["results"]
    return Artifact(
        invocation_id,
        generated_at,
        float(content["elapsed_time"]),
        {key: value for key, value in metadata.items() if key != "env"},
        tuple(_node(r, invocation_id, generated_at) for r in results if r["unique_id"].startswith(NODE_PREFIXES)),
        tuple(r["unique_id"] for r in results if _is_failed_test(r)),
    )


def merged(known: NodeResult | None, new: NodeResult) -> NodeResult:
    """Returns what is known of a node after a build said `new`.

    Only newer results count, in whatever order builds are recorded. A skipped node was not built, so it cannot clear
    its own earlier failure.
    """
    if known is None:
        return new
    if new.generated_at <= known.generated_at or (new.status == SKIPPED and known.failing):
        return known
    return new


def document(latest: PublishedBuild, nodes: Iterable[NodeResult], project: Collection[str]) -> dict[str, Any]:
    """Lays out the file for the backend, in dbt's own schema.

    Args:
        latest: The build that completed last.
        nodes: What is known of every node.
        project: Unique ids of the project's nodes; a model that left it would otherwise fail for ever.
    """
    models = [node for node in nodes if node.unique_id.startswith("model.") and node.unique_id in project]
    return {
        "metadata": {**latest.metadata, "env": {}},
        "results": [_published(node) for node in sorted(models, key=lambda node: node.unique_id)],
        "elapsed_time": latest.elapsed_seconds,
        "args": {"which": "build"},
    }


@dataclass(frozen=True, slots=True)
class PublishedBuild:
    """What the file says of the build that completed last."""

    metadata: Mapping[str, Any]
    elapsed_seconds: float


def _node(result: Mapping[str, Any], invocation_id: str, generated_at: datetime) -> NodeResult:
    status = str(result["status"])
    return NodeResult(
        unique_id=result["unique_id"],
        invocation_id=invocation_id,
        status=SKIPPED if status in _AS_SKIPPED else status,
        message=result.get("message"),
        execution_seconds=float(result.get("execution_time") or 0.0),
        generated_at=generated_at,
        result={**result, "compiled_code": None},  # of no use to the backend, and most of the file's size
        built_at=generated_at if status in _BUILT else None,
    )


def _is_failed_test(result: Mapping[str, Any]) -> bool:
    return not result["unique_id"].startswith(NODE_PREFIXES) and result["status"] in ("fail", "error", "runtime error")


def _published(node: NodeResult) -> dict[str, Any]:
    return {**node.result, "status": node.status}
