"""The page of a connection as a person sees it: its newest jobs, and why one failed.

Belongs here: HTML at the address of Airbyte's own timeline, so that links into Airbyte lead somewhere on a laptop too.
Does not belong here: the APIs, any job.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.airbyte.index import JobQuery
from adinsights_orchestration.local.airbyte.model import AirbyteConnection, Job, NotFoundError
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

JOBS_SHOWN = 50
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #1a194d }}
article {{ border-left: 4px solid #ddd; margin: .8rem 0; padding: .2rem .9rem }}
article.asked {{ border-color: #615eff; background: #f6f6ff }} pre {{ white-space: pre-wrap }}
</style></head><body><h1>{name}</h1><p>{status} · Airbyte of the local stack</p>{jobs}</body></html>"""


def timeline_route(world: AirbyteWorld) -> Route:
    """Returns the page's route; `openLogs=true&jobId=7` shows that job's attempts, as Airbyte does."""
    return Route("/workspaces/{workspace}/connections/{id}/timeline", _timeline(world), methods=["GET"])


def _timeline(world: AirbyteWorld) -> Callable[[Request], Awaitable[Response]]:
    async def timeline(request: Request) -> Response:
        try:
            connection = world.resources.connection(UUID(request.path_params["id"]))
            workspace = UUID(request.path_params["workspace"])
        except (ValueError, NotFoundError):
            return _nothing()
        if workspace != connection.workspace_id:
            return _nothing()
        newest = JobQuery(connection_id=connection.id, order_by="createdAt", descending=True, limit=JOBS_SHOWN)
        asked = request.query_params.get("jobId") if request.query_params.get("openLogs") == "true" else None
        return HTMLResponse(_page(connection, world.list_jobs(newest), asked))

    return timeline


def _nothing() -> Response:
    return HTMLResponse("<h1>There is no such connection in this workspace.</h1>", 404)


def _page(connection: AirbyteConnection, jobs: list[Job], asked: str | None) -> str:
    shown = "".join(_job(job, is_asked=str(job.id) == asked) for job in jobs)
    nothing = "<p>It has not synced yet.</p>"
    return _PAGE.format(name=html.escape(connection.name), status=connection.status.value, jobs=shown or nothing)


def _job(job: Job, *, is_asked: bool) -> str:
    head = f"Job {job.id}: {job.config_type.value}, {job.status.value}, {job.created_at:%Y-%m-%d %H:%M:%S} UTC"
    attempts = "".join(_attempts(job)) if is_asked else ""
    return f'<article class="{"asked" if is_asked else "job"}"><h2>{head}</h2>{attempts}</article>'


def _attempts(job: Job) -> Iterator[str]:
    for each in job.attempts:
        why = f": {each.failure.external_message}\n{each.failure.internal_message}" if each.failure else ""
        yield f"<pre>{html.escape(f'Attempt {each.number + 1}, {each.status}{why}')}</pre>"
