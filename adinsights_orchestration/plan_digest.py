"""The digest of a plan: what ties an execution to the plan that somebody read before.

Belongs here: naming everything that a plan would do in a few letters, and refusing a plan that is not the one that was
read. Does not belong here: what plans hold (`ingestion.repair`, `audit_log.leaving.erasure`). Notes for the reader,
such as a job that runs just now, are no part of it: they change what a person waits for, not what is done.
"""

from __future__ import annotations

import hashlib
import json
import shlex

from adinsights_orchestration.errors import AdinsightsError

_LETTERS = 12  # 48 bits: two plans for one thing that are taken for each other by chance will not happen


class PlanChangedError(AdinsightsError):
    """What would be done now is not what was read; nothing was changed."""


def plan_digest(*parts: object) -> str:
    """Names the parts, which are JSON values, in their order: the same parts have the same name everywhere."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:_LETTERS]


def require(digest: str, wanted: str, *, place: str = "") -> None:
    """Refuses a plan other than the wanted one; without a wanted one every plan will do.

    Args:
        digest: The plan as it is now.
        wanted: The plan that somebody read; empty where nobody named one.
        place: What it is about, where that needs saying: a partition key.

    Raises:
        PlanChangedError: They differ.
    """
    if wanted and digest != wanted:
        raise PlanChangedError(
            f"the plan changed since it was shown: {wanted} was asked for, it is {digest} now; nothing was changed",
            place=place,
            next_step=f"Read the plan as it is now; if it is still what you want, ask for {digest}.",
        )


def command(words: str, partition: str, digest: str, *options: str) -> str:
    """The command that carries out exactly this plan, for a person to copy."""
    return shlex.join(["adinsights", *words.split(), partition, "--yes", "--plan", digest, *options])
