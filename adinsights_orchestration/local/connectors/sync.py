"""One sync from end to end: a connector process, its messages, the warehouse.

Belongs here: `ConnectorRuntime`, which the Airbyte API's part of the local stack calls, and the values it takes and
gives. Does not belong here: jobs, attempts, retries, schedules. A sync ends in a `SyncResult` whatever happens, with
the failure in Airbyte's own words: who failed (origin), how (type), for people and for developers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from adinsights_orchestration.errors import AdinsightsError, ConfigurationError
from adinsights_orchestration.local.connectors import catalog as catalogs
from adinsights_orchestration.local.connectors import messages, warehouse
from adinsights_orchestration.local.connectors.catalog import StreamSpec
from adinsights_orchestration.local.connectors.process import Command, ConnectorProcess, ForkServer
from adinsights_orchestration.local.connectors.rows import MissingKeyError
from adinsights_orchestration.tenants.model import Provider

_log = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 600.0  # a connector that says nothing for so long is given up, as Airbyte's heartbeat does


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What to sync.

    Args:
        job_id: The job, which every row names as its `sync_id`.
        attempt: The job's attempt, from 1.
        connection_id: Whose state and rows they are.
        tenant_id: The connection's tenant; its connector puts it on every record.
        provider: The platform, which chooses manifest and schema.
        config: The connector's configuration.
        streams: The streams to read, by name.
        generation_id: Rises with every clear and refresh: a state of an older one is not continued, and rows of an
            older one go once their stream has been read to its end.
        catalog: The schema that the connection has approved, as `discover` gave it; None takes the declared one.
    """

    job_id: int
    attempt: int
    connection_id: UUID
    tenant_id: UUID
    provider: Provider
    config: Mapping[str, object]
    streams: tuple[str, ...]
    generation_id: int
    catalog: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StreamStats:
    """What a stream has committed: records read, and bytes of their messages."""

    name: str
    namespace: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why it failed, in Airbyte's enumerations of origins and types."""

    origin: str
    type: str
    external_message: str
    internal_message: str
    stream: str | None


@dataclass(frozen=True, slots=True)
class SyncResult:
    """How a sync ended; a failed one keeps what its streams had committed."""

    succeeded: bool
    streams: tuple[StreamStats, ...]
    failure: Failure | None


class ConnectorError(AdinsightsError):
    """A check or a discover failed; `failure` says why in Airbyte's terms."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.external_message, next_step="Correct the source's configuration, then test it again.")


class _FailedError(Exception):
    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.external_message)


class ConnectorRuntime:
    """Runs connectors and writes what they read.

    Args:
        python: Interpreter of the connectors' environment.
        warehouse_dsn: The warehouse, with a user that may create schemas and tables.
        state_dir: Folder for the connectors' temporary files and log.
        heartbeat_seconds: The longest silence of a connector.
        batch_rows: Rows per stream after which they are committed even without a state that covers them.
    """

    def __init__(
        self,
        python: Path,
        warehouse_dsn: str,
        state_dir: Path,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        batch_rows: int = warehouse.BATCH_ROWS,
    ) -> None:
        self._warehouse_dsn = warehouse_dsn
        self._heartbeat_seconds = heartbeat_seconds
        self._batch_rows = batch_rows
        self.state_dir = state_dir
        self._server = ForkServer(python, state_dir)
        self._manifests: dict[Provider, Mapping[str, Any]] = {}

    async def warm_up(self) -> None:
        """Starts what the first sync would otherwise wait for; `AdinsightsError` when it cannot start."""
        await self._server.start()

    async def sync(
        self,
        request: SyncRequest,
        *,
        on_progress: Callable[[StreamStats], None] | None = None,
        cancel: asyncio.Event | None = None,
    ) -> SyncResult:
        """Reads the streams into the warehouse.

        Args:
            request: What to sync.
            on_progress: Told what a stream has committed, after each commit.
            cancel: Ends the sync when set; what was committed stays.
        """
        progress = _Progress(request, on_progress)
        try:
            async with _unless(cancel):
                await self._read_and_write(request, progress)
        except _FailedError as failed:
            return progress.result(failed.failure)
        except (AdinsightsError, psycopg.Error, OSError, MissingKeyError) as error:
            return progress.result(_failure_of(error))
        return progress.result(None)

    async def clear(
        self, connection_id: UUID, provider: Provider, tenant_id: UUID, streams: tuple[str, ...]
    ) -> SyncResult:
        """Deletes exactly this connection's rows of these streams, and its place in them."""
        owner = _owner(connection_id, tenant_id, provider)
        try:
            async with warehouse.exclusive(self._warehouse_dsn, owner) as session:
                deleted = await session.clear(streams)
        except (AdinsightsError, psycopg.Error) as error:
            return SyncResult(False, (), _failure_of(error))
        _log.info("cleared %d rows of connection %s", sum(deleted.values()), connection_id)
        return SyncResult(True, tuple(StreamStats(name, owner.namespace, 0, 0) for name in streams), None)

    def declared(self, provider: Provider) -> Mapping[str, Any]:
        """Returns the catalog that the manifest alone declares, without asking the platform."""
        return catalogs.as_catalog(catalogs.declared_streams(provider, self._manifest(provider)))

    async def discover(self, provider: Provider, config: Mapping[str, object]) -> Mapping[str, Any]:
        """Returns the source's catalog as it is now; `ConnectorError` when the source fails."""
        found = [m for m in await self._ask("discover", provider, config) if isinstance(m, messages.Catalog)]
        if not found:
            raise ConnectorError(_failure("source", "system_error", "the source ended without a catalog"))
        return found[-1].catalog

    async def check(self, provider: Provider, config: Mapping[str, object]) -> None:
        """Tests the configuration; `ConnectorError` says what is wrong with it."""
        for message in await self._ask("check", provider, config):
            if isinstance(message, messages.ConnectionStatus) and message.status != "SUCCEEDED":
                raise ConnectorError(_failure("source", "config_error", message.message))

    def close(self) -> None:
        """Ends every connector; syncs under way end as failed."""
        self._server.close()

    async def _read_and_write(self, request: SyncRequest, progress: _Progress) -> None:
        manifest = self._manifest(request.provider)
        specs = catalogs.chosen(_specs(request, manifest), request.streams)
        owner = _owner(request.connection_id, request.tenant_id, request.provider)
        async with warehouse.exclusive(self._warehouse_dsn, owner, self._batch_rows) as session:
            states = await session.begin(request.job_id, request.generation_id, specs)
            command = _command(
                "read",
                catalogs.without_discovery(manifest, specs),
                request.config,
                catalog=catalogs.configured_catalog(specs, request.generation_id, request.job_id),
                state=_state_messages(specs, states),
            )
            async with self._server.running(command) as process:
                await self._pump(process, session, progress, catalogs.secrets_of(manifest, request.config))

    async def _pump(
        self,
        process: ConnectorProcess,
        session: warehouse.Session,
        progress: _Progress,
        secrets: tuple[str, ...],
    ) -> None:
        complete: list[str] = []
        errors: list[messages.TraceError] = []
        async for message in self._messages(process, secrets):
            match message:
                case messages.Record():
                    if (written := await session.add(message)) is not None:
                        progress.add(written)
                case messages.State():
                    progress.add(await session.checkpoint(message.stream, message.state))
                case messages.StreamStatus(stream=stream, status="COMPLETE"):
                    complete.append(stream)
                case messages.TraceError():
                    errors.append(message)
        code, stderr = await process.wait()
        for stream in complete:
            progress.add(await session.complete(stream))
        _raise_for(errors, code, _scrub(stderr, secrets))

    async def _messages(self, process: ConnectorProcess, secrets: tuple[str, ...]) -> AsyncIterator[messages.Message]:
        try:
            async for batch in process.lines(self._heartbeat_seconds):
                for line in batch:
                    message = messages.parse(line)
                    match message:
                        case messages.Log():
                            _log.debug("connector %d: %s", process.pid, _scrub(message.text, secrets))
                        case messages.TraceError():
                            yield _scrubbed(message, secrets)
                        case None:
                            pass
                        case _:
                            yield message
        except TimeoutError:
            silence = f"the source said nothing for {self._heartbeat_seconds:g} s"
            raise _FailedError(_failure("source", "heartbeat_timeout", silence)) from None

    async def _ask(self, name: str, provider: Provider, config: Mapping[str, object]) -> list[messages.Message]:
        manifest = self._manifest(provider)
        if name == "check":
            manifest = catalogs.without_discovery(manifest, catalogs.declared_streams(provider, manifest))
        command, secrets = _command(name, manifest, config), catalogs.secrets_of(manifest, config)
        try:
            async with self._server.running(command) as process:
                answers = [message async for message in self._messages(process, secrets)]
                code, stderr = await process.wait()
            if not any(isinstance(a, messages.Catalog | messages.ConnectionStatus) for a in answers):
                _raise_for([a for a in answers if isinstance(a, messages.TraceError)], code, _scrub(stderr, secrets))
        except _FailedError as failed:
            raise ConnectorError(failed.failure) from None
        except AdinsightsError as error:
            raise ConnectorError(_failure_of(error)) from error
        return answers

    def _manifest(self, provider: Provider) -> Mapping[str, Any]:
        if provider not in self._manifests:
            self._manifests[provider] = catalogs.load_manifest(provider)
        return self._manifests[provider]


class _Progress:
    """What a sync's streams have committed so far."""

    def __init__(self, request: SyncRequest, listener: Callable[[StreamStats], None] | None) -> None:
        namespace = _namespace(request.provider)
        self._stats = {name: StreamStats(name, namespace, 0, 0) for name in request.streams}
        self._listener = listener

    def add(self, written: warehouse.Written) -> None:
        stats = StreamStats(written.stream, written.namespace, written.rows, written.size)
        self._stats[written.stream] = stats
        if self._listener is not None:
            self._listener(stats)

    def result(self, failure: Failure | None) -> SyncResult:
        return SyncResult(failure is None, tuple(self._stats.values()), failure)


@asynccontextmanager
async def _unless(cancel: asyncio.Event | None) -> AsyncIterator[None]:
    """Runs the block until `cancel` is set, then ends it as cancelled by a person."""
    if cancel is None:
        yield
        return
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.create_task(cancel.wait())
    running, stopped = True, False

    def stop(done: asyncio.Task[bool]) -> None:
        nonlocal stopped
        if running and not done.cancelled():
            stopped = True
            task.cancel()

    watcher.add_done_callback(stop)
    try:
        yield
    except asyncio.CancelledError:
        if not stopped or task.uncancel() > 0:  # somebody else cancels us too: theirs goes first
            raise
        raise _FailedError(_failure("airbyte_platform", "manual_cancellation", "the sync was cancelled")) from None
    finally:
        running = False
        watcher.cancel()


def _command(name: str, manifest: Mapping[str, Any], config: Mapping[str, object], **inputs: object) -> Command:
    documents = {"manifest-path": dict(manifest), "config": dict(config), **inputs}
    return Command(name, documents, str(config.get("base_url", "")))


def _namespace(provider: Provider) -> str:
    return f"raw_{provider.value}"


def _owner(connection_id: UUID, tenant_id: UUID, provider: Provider) -> warehouse.Owner:
    return warehouse.Owner(connection_id, tenant_id, provider.value, _namespace(provider))


def _specs(request: SyncRequest, manifest: Mapping[str, Any]) -> tuple[StreamSpec, ...]:
    if request.catalog is None:
        return catalogs.declared_streams(request.provider, manifest)
    return catalogs.discovered_streams(request.provider, request.catalog)


def _state_messages(specs: Iterable[StreamSpec], states: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """States to continue from; a stream that is read in full each time has none worth continuing."""
    return [
        {"type": "STREAM", "stream": {"stream_descriptor": {"name": spec.name}, "stream_state": states[spec.name]}}
        for spec in specs
        if spec.name in states and spec.cursor_field is not None
    ]


def _raise_for(errors: list[messages.TraceError], code: int, stderr: str) -> None:
    """Raises the failure that the connector named: a stream's own before the summary that follows it."""
    if errors:
        first = next((error for error in errors if error.stream is not None), errors[0])
        raise _FailedError(Failure("source", first.type, first.message, first.internal_message, first.stream))
    if code != 0:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        failure = _failure("source", "system_error", f"the source {how} without saying why")
        raise _FailedError(replace(failure, internal_message=stderr or failure.internal_message))


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, psycopg.OperationalError):
        text = "the warehouse could not be reached, went away or was busy for too long"
        return replace(_failure("destination", "transient_error", text), internal_message=str(error).strip())
    if isinstance(error, psycopg.Error | warehouse.WarehouseError | MissingKeyError):
        return _failure("destination", "system_error", str(error).strip())
    kind = "config_error" if isinstance(error, ConfigurationError) else "system_error"
    return _failure("airbyte_platform", kind, str(error))


def _failure(origin: str, kind: str, text: str) -> Failure:
    return Failure(origin, kind, text, text, None)


def _scrub(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "****")
    return text


def _scrubbed(error: messages.TraceError, secrets: tuple[str, ...]) -> messages.TraceError:
    return replace(
        error, message=_scrub(error.message, secrets), internal_message=_scrub(error.internal_message, secrets)
    )
