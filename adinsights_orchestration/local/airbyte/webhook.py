"""Airbyte's own report of finished jobs to the backend's webhook.

Belongs here: one POST per finished sync, tried once, and the faults that lose or delay it. Does not belong here: what
the backend makes of it, and the orchestrator's repair of what was missed.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import structlog

from adinsights_orchestration.local.airbyte import config_views
from adinsights_orchestration.local.airbyte.faults import skew
from adinsights_orchestration.local.airbyte.model import Job
from adinsights_orchestration.local.airbyte.public_views import Telling
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

SECRET_HEADER = "X-Airbyte-Webhook-Secret"  # noqa: S105  (a header's name)
_POLL_SECONDS = 0.1
_TIMEOUT_SECONDS = 10.0
log = structlog.get_logger(component="local.airbyte.webhook")


@dataclass
class WebhookSender:
    """Posts finished jobs.

    Args:
        world: Whose jobs.
        url: The backend's webhook.
        secret: Value of the secret header.
    """

    world: AirbyteWorld
    url: str
    secret: str = field(repr=False)
    # (moment, job id, body), the earliest first: a post that is held back must not hold others back.
    _due: list[tuple[datetime, int, dict[str, Any]]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self.world.on_finished.append(self._finished)

    async def run(self) -> None:
        """Posts what is due, until cancelled."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, headers={SECRET_HEADER: self.secret}) as client:
            while True:
                while self._due and self._due[0][0] <= self.world.clock():
                    await self._post(client, heapq.heappop(self._due)[2])
                await asyncio.sleep(_POLL_SECONDS)

    def _finished(self, job: Job) -> None:
        knobs = self.world.knobs
        if knobs.take("webhook_drop_next"):
            log.info("airbyte.webhook_dropped", job=job.id)
            return
        moment = self.world.clock() + timedelta(milliseconds=knobs.get("webhook_delay_ms"))
        shown = config_views.job_with_attempts(job, Telling(skew(knobs)))
        heapq.heappush(self._due, (moment, job.id, {"connectionId": str(job.connection_id), **_body(shown)}))

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        try:
            reply = await client.post(self.url, json=body)
        except httpx.HTTPError as error:
            log.warning("airbyte.webhook_failed", connection=body["connectionId"], reason=repr(error))
            return
        if reply.status_code >= httpx.codes.BAD_REQUEST:
            log.warning("airbyte.webhook_refused", connection=body["connectionId"], status=reply.status_code)


def _body(shown: dict[str, Any]) -> dict[str, Any]:
    return {"job": {**shown["job"], "attempts": shown["attempts"]}}
