"""The calls that ingestion makes on Airbyte, typed on both sides.

Belongs here: one method per call, its parameters and its reply as values. Does not belong here: connections, tokens,
repetition (`airbyte_http`), reading many pages (`job_feed`), when to call what. Starting and watching use
the public API, which is a promise; failure reasons, statistics per stream and catalogs exist only in the configuration
API, which is none: callers must get on without those.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from adinsights_orchestration.ingestion.airbyte_auth import TokenShelf
from adinsights_orchestration.ingestion.airbyte_errors import (
    AirbyteError,
    InvalidRequestError,
    MalformedReplyError,
    NotAirbyteError,
    NotFoundError,
    ServerError,
)
from adinsights_orchestration.ingestion.airbyte_http import READ_DEADLINE_SECONDS, AirbyteHttp, tls_context
from adinsights_orchestration.ingestion.airbyte_models import (
    AirbyteJob,
    JobType,
    as_promised,
    config_job,
    public_job,
)
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.settings import AirbyteSettings

_log = get_logger(__name__)
_CONFIG_TYPES = ("sync", "reset_connection", "refresh", "clear")
_UNFINISHED = ("pending", "queued", "running", "incomplete")
_NEWER_WORDS = frozenset(("refresh", "clear", "queued"))  # not known to every server since 0.50
# How long to go on asking for what can be done without, or what is asked for again soon anyway.
SHORT_PATIENCE_SECONDS = 4.0

# A public listing without a job type shows syncs and resets only; the others are asked for by name.
_LISTED_APART = (None, JobType.REFRESH, JobType.CLEAR)

ApiFactory = Callable[[], "AirbyteApi"]


@dataclass(frozen=True, slots=True)
class ListedJobs:
    """One page of a listing: its jobs about data, in the server's order, and whether it was full."""

    jobs: tuple[AirbyteJob, ...]
    full: bool


@dataclass(frozen=True, slots=True)
class AirbyteConnectionRead:
    """A connection as the configuration API tells it."""

    connection_id: UUID
    name: str
    status: str
    status_reason: str | None
    breaking_change: bool
    catalog: Mapping[str, Any]
    catalog_id: str | None = None


class AirbyteApi:
    """One process' client of one Airbyte server; an asynchronous context manager.

    Args:
        settings: Addresses, credentials, deadlines, bounds.
        shelf: Where tokens are kept between clients; one of its own when None.
        tls: The TLS context; made when needed.
        read_deadline_seconds: How long one read may take with its repetitions.
    """

    def __init__(
        self,
        settings: AirbyteSettings,
        shelf: TokenShelf | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        read_deadline_seconds: float = READ_DEADLINE_SECONDS,
    ) -> None:
        self._settings = settings
        self._http = AirbyteHttp(
            settings, shelf or TokenShelf(time.monotonic), tls=tls, read_deadline_seconds=read_deadline_seconds
        )
        self._public = settings.public_api_url
        self._config = settings.config_api_url
        self._short_patience = min(SHORT_PATIENCE_SECONDS, 2 * settings.request_timeout_seconds)
        self._unknown_words: frozenset[str] = frozenset()

    async def __aenter__(self) -> Self:
        """Opens the client."""
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the client."""
        await self._http.__aexit__(kind, error, trace)

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self._http.requests

    @property
    def trouble(self) -> AirbyteError | None:
        """What went wrong last and another try may mend; None once one did."""
        return self._http.trouble

    def hurry(self) -> None:
        """Makes reads give up early, for a caller that asks again soon and must be able to stop in between."""
        self._http.read_deadline_seconds = self._short_patience

    @property
    def page_size(self) -> int:
        """Rows that a full page of the public API's listings has."""
        return self._settings.page_size

    @property
    def detailed_page_size(self) -> int:
        """Rows that a full page of the configuration API's listings has: its default is twice the public maximum."""
        return 2 * self._settings.page_size

    # --------------------------------------------------------------------------------------------------- public API

    async def start(
        self, connection_id: UUID, job_type: JobType, *, deadline_seconds: float | None = None
    ) -> AirbyteJob:
        """Starts a sync or a clear, with one request and never a second one.

        Args:
            connection_id: Which connection.
            job_type: `sync` or `clear`; a server that does not know `clear` is asked for its older name, `reset`.
            deadline_seconds: How long to wait for the reply; the settings' deadline when None.

        Raises:
            AirbyteError: `nothing_happened` tells whether a job may have been started all the same.
        """
        try:
            return await self._post_job(connection_id, job_type, deadline_seconds)
        except InvalidRequestError:
            if job_type is not JobType.CLEAR:
                raise
        return await self._post_job(connection_id, JobType.RESET, deadline_seconds)

    async def refresh(self, connection_id: UUID, *, deadline_seconds: float | None = None) -> AirbyteJob | None:
        """Asks for all history to be read again, rows staying in place until the new ones are there.

        Returns:
            The job, or None when a job is running and the next sync will carry the refresh out.

        Raises:
            NotFoundError: The server's version has no refreshes.
        """
        body = {"connectionId": str(connection_id), "refreshMode": "Truncate"}
        url = f"{self._config}/connections/refresh"
        reply = await self._http.act("POST", url, body=body, deadline_seconds=deadline_seconds)
        job = reply.get("job")
        return config_job({"job": job}) if job else None

    async def has_refresh(self) -> bool:
        """Whether the server's version can refresh: a call without a connection is refused by one that can."""
        try:
            await self._http.act("POST", f"{self._config}/connections/refresh", body={})
        except (NotFoundError, NotAirbyteError):
            return False
        except (InvalidRequestError, ServerError):
            return True
        return True

    async def job(self, job_id: int) -> AirbyteJob:
        """Reads one job; `NotFoundError` when there is none."""
        return _known(public_job(await self._http.read("GET", f"{self._public}/jobs/{job_id}")))

    async def connection_jobs(self, connection_id: UUID, *, since: datetime | None = None) -> tuple[AirbyteJob, ...]:
        """Returns a connection's newest jobs of every type, newest first: at most one page of each type."""
        found: dict[int, AirbyteJob] = {}
        for kind in _LISTED_APART:
            page = await self._newest(connection_id, kind, since)
            found |= {job.job_id: job for job in page.jobs}
        return tuple(sorted(found.values(), key=lambda job: (job.created_at, job.job_id), reverse=True))

    async def running_job(self, connection_id: UUID) -> AirbyteJob | None:
        """Returns the connection's job that is not over, of whatever type; a connection has at most one."""
        for kind in _LISTED_APART:
            page = await self._newest(connection_id, kind, None)
            running = next((job for job in page.jobs if not job.status.terminal), None)
            if running is not None:
                return running
        return None

    async def _newest(self, connection_id: UUID, kind: JobType | None, since: datetime | None) -> ListedJobs:
        params = {"connectionId": str(connection_id), "orderBy": "createdAt|DESC", "limit": str(self.page_size)}
        if since is not None:
            params["createdAtStart"] = _iso(since)
        return await self._public_page(params, kind)

    async def public_changes(
        self, since: datetime, workspaces: Iterable[UUID], kind: JobType | None, *, offset: int = 0
    ) -> ListedJobs:
        """One page of jobs that changed at or after `since`, in that order; syncs and resets when `kind` is None."""
        params: dict[str, Any] = {"updatedAtStart": _iso(since), "orderBy": "updatedAt|ASC"}
        params |= {"limit": str(self.page_size), "offset": str(offset)}
        if ids := ",".join(str(workspace) for workspace in workspaces):
            params["workspaceIds"] = ids
        return await self._public_page(params, kind)

    async def workspaces(self) -> tuple[UUID, ...]:
        """Returns the ids of every workspace that the credentials may see."""
        found: list[UUID] = []
        while True:
            params = {"limit": str(self.page_size), "offset": str(len(found))}
            rows = _rows(await self._http.read("GET", f"{self._public}/workspaces", params=params))
            with as_promised("a workspace"):
                fresh = [UUID(str(row["workspaceId"])) for row in rows]
            found += [workspace for workspace in fresh if workspace not in found]
            if len(rows) < self.page_size:
                return tuple(found)

    # -------------------------------------------------------------------------------------------- configuration API

    async def changes(self, since: datetime, workspaces: Iterable[UUID], *, offset: int = 0) -> ListedJobs:
        """One page of jobs that changed at or after `since`, in that order, with attempts, reasons and statistics."""
        return await self._listed_with_attempts(since, workspaces, offset, statuses=None)

    async def running_changes(self, since: datetime, workspaces: Iterable[UUID], *, offset: int = 0) -> ListedJobs:
        """As `changes`, of jobs that are not over."""
        return await self._listed_with_attempts(since, workspaces, offset, statuses=_UNFINISHED)

    async def detailed_job(self, job_id: int) -> AirbyteJob:
        """Reads one job with its attempts, failure reasons and statistics."""
        url = f"{self._config}/jobs/get_without_logs"
        reply = await self._http.read("POST", url, body={"id": job_id}, patience_seconds=self._short_patience)
        return _known(config_job(reply))

    async def connection(self, connection_id: UUID, *, rediscover: bool = False) -> AirbyteConnectionRead:
        """Reads a connection with its catalog.

        Args:
            connection_id: Which connection.
            rediscover: Ask the source what it offers now: the catalog is then the new one, with today's choices.
        """
        url = f"{self._config}/web_backend/connections/get"
        body = {"connectionId": str(connection_id), "withRefreshedCatalog": rediscover}
        reply = await self._http.read("POST", url, body=body)
        return _connection(reply)

    async def apply_catalog(
        self, connection_id: UUID, catalog: Mapping[str, Any], catalog_id: str | None
    ) -> AirbyteConnectionRead:
        """Makes a rediscovered catalog the connection's own and switches the connection on; nothing is cleared."""
        body = {
            "connectionId": str(connection_id),
            "syncCatalog": catalog,
            "sourceCatalogId": catalog_id,
            "status": "active",
            "skipReset": True,
        }
        url = f"{self._config}/web_backend/connections/update"
        return _connection(await self._http.act("POST", url, body=body))

    async def _listed_with_attempts(
        self, since: datetime, workspaces: Iterable[UUID], offset: int, *, statuses: Sequence[str] | None
    ) -> ListedJobs:
        body: dict[str, Any] = {
            "workspaceIds": [str(workspace) for workspace in workspaces],
            "pagination": {"pageSize": self.detailed_page_size, "rowOffset": offset},
            "updatedAtStart": _iso(since),
            "orderByField": "updatedAt",
            "orderByMethod": "ASC",
        }
        rows = await self._rows_in_any_version(body, statuses)
        return ListedJobs(_parsed(rows, config_job), full=len(rows) >= self.detailed_page_size)

    async def _rows_in_any_version(
        self, body: Mapping[str, Any], statuses: Sequence[str] | None
    ) -> Sequence[Mapping[str, Any]]:
        """Older servers refuse a list that names a job type or status which they do not know yet."""
        url = f"{self._config}/jobs/list_for_workspaces"
        words: dict[str, Any] = {"configTypes": [t for t in _CONFIG_TYPES if t not in self._unknown_words]}
        if statuses is not None:
            words["statuses"] = [status for status in statuses if status not in self._unknown_words]
        try:
            reply = await self._http.read("POST", url, body={**body, **words}, patience_seconds=self._short_patience)
        except InvalidRequestError:
            if self._unknown_words:
                raise
            self._unknown_words = _NEWER_WORDS
            return await self._rows_in_any_version(body, statuses)
        return _rows(reply, "jobs")

    async def _post_job(self, connection_id: UUID, job_type: JobType, deadline_seconds: float | None) -> AirbyteJob:
        body = {"connectionId": str(connection_id), "jobType": job_type.value}
        reply = await self._http.act("POST", f"{self._public}/jobs", body=body, deadline_seconds=deadline_seconds)
        return _known(public_job(reply))

    async def _public_page(self, params: Mapping[str, Any], kind: JobType | None) -> ListedJobs:
        wanted = dict(params) if kind is None else {**params, "jobType": kind.value}
        try:
            rows = _rows(await self._http.read("GET", f"{self._public}/jobs", params=wanted))
        except InvalidRequestError:
            if kind is None:
                raise
            return ListedJobs((), full=False)  # a server that does not know the type has no such jobs
        return ListedJobs(_parsed(rows, public_job), full=len(rows) >= self.page_size)


def api_factory(settings: AirbyteSettings) -> ApiFactory:
    """Returns what makes clients; they share tokens and the TLS context, so that making one costs next to nothing."""
    shelf = TokenShelf(time.monotonic)
    tls = cache(lambda: tls_context(settings))
    return lambda: AirbyteApi(settings, shelf, tls=tls())


def _known(job: AirbyteJob | None) -> AirbyteJob:
    if job is None:
        raise MalformedReplyError("the server spoke of a job of another kind than was asked for")
    return job


def _rows(reply: Mapping[str, Any], name: str = "data") -> Sequence[Mapping[str, Any]]:
    rows = reply.get(name)
    if not isinstance(rows, list):
        raise MalformedReplyError(f"a listing without `{name}`")
    return rows


def _parsed(
    rows: Iterable[Mapping[str, Any]], parse: Callable[[Mapping[str, Any]], AirbyteJob | None]
) -> tuple[AirbyteJob, ...]:
    """Every readable job: one that cannot be read must not hide the others of its page for ever."""
    jobs: list[AirbyteJob] = []
    for row in rows:
        try:
            job = parse(row)
        except MalformedReplyError as error:
            _log.warning("an unreadable job was passed over", reason=error.problem)
            continue
        if job is not None:
            jobs.append(job)
    return tuple(jobs)


def _connection(reply: Mapping[str, Any]) -> AirbyteConnectionRead:
    with as_promised("a connection"):
        return _connection_of(reply)


def _connection_of(reply: Mapping[str, Any]) -> AirbyteConnectionRead:
    catalog = reply.get("syncCatalog") or {"streams": []}
    if not isinstance(catalog["streams"], list):
        raise TypeError
    return AirbyteConnectionRead(
        connection_id=UUID(str(reply["connectionId"])),
        name=str(reply.get("name", "")),
        status=str(reply.get("status", "")),
        status_reason=reply.get("statusReason"),
        breaking_change=bool(reply.get("breakingChange")) or reply.get("schemaChange") == "breaking",
        catalog=catalog,
        catalog_id=reply.get("catalogId") or reply.get("sourceCatalogId"),
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
