"""What the checks look at: settings, environment, and facts that several checks share.

Belongs here: facts that are expensive to find out, each found out once however many checks ask. Does not belong here:
verdicts. A fact that could not be found out raises the same error for everybody who asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

if TYPE_CHECKING:
    from adinsights_orchestration.backend.database import BackendDatabase
    from adinsights_orchestration.doctor.airbyte_facts import AirbyteFacts
    from adinsights_orchestration.tenants.model import Registry

_Fact = TypeVar("_Fact")
CONNECT_SECONDS = 5  # every connection attempt and every request of the doctor


class Once(Generic[_Fact]):
    """A fact that is found out at the first question; later ones, from any thread, wait for that answer."""

    def __init__(self, find: Callable[[], _Fact]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._known: _Fact | None = None
        self._error: Exception | None = None

    @property
    def settled(self) -> bool:
        """Whether the fact, or why it cannot be found out, is known by now."""
        return self._known is not None or self._error is not None

    def get(self) -> _Fact:
        """Returns the fact, or raises what finding it out raised."""
        with self._lock:
            if self._error is None and self._known is None:
                try:
                    self._known = self._find()
                except Exception as error:
                    self._error = error
                    raise
            if self._error is not None:
                raise self._error
        assert self._known is not None
        return self._known


class World:
    """Everything that a check may look at.

    Args:
        settings: The settings that are checked, with the doctor's own short deadlines put in by `hasty`.
        environment: The process' environment.
        now: The moment of the examination.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str], now: datetime) -> None:
        self.settings = settings
        self.environment = environment
        self.now = now
        self.hasty = hasty(settings)
        self.airbyte: Once[AirbyteFacts] = Once(self._ask_airbyte)
        self.ops_store: Once[OpsStore] = Once(self._open_ops_store)
        self.registry: Once[Registry] = Once(self._load_registry)
        self.backend_database: Once[BackendDatabase] = Once(self._open_backend)

    def _ask_airbyte(self) -> AirbyteFacts:
        from adinsights_orchestration.doctor.airbyte_facts import ask

        return ask(self.hasty.airbyte)

    def _open_ops_store(self) -> OpsStore:
        import sqlalchemy as sa

        store = OpsStore(self.hasty.ops_store)
        with store.begin() as connection:
            connection.execute(sa.text("select 1"))
        return store

    def _open_backend(self) -> BackendDatabase:
        from adinsights_orchestration.backend.database import BackendDatabase

        database = BackendDatabase(self.hasty.backend)
        with database.session():
            return database

    def _load_registry(self) -> Registry:
        from adinsights_orchestration.tenants.store import load_registry

        return load_registry(self.ops_store.get())


def hasty(settings: Settings) -> Settings:
    """The same settings with deadlines that fit an examination."""

    def shorter(seconds: float) -> float:
        return min(seconds, CONNECT_SECONDS)

    ops, backend, airbyte, log = settings.ops_store, settings.backend, settings.airbyte, settings.audit_log
    return settings.model_copy(
        update={
            "ops_store": ops.model_copy(
                update={
                    "connect_timeout_seconds": int(shorter(ops.connect_timeout_seconds)),
                    "statement_timeout_seconds": int(shorter(ops.statement_timeout_seconds)),
                }
            ),
            "backend": backend.model_copy(update={"request_timeout_seconds": shorter(backend.request_timeout_seconds)}),
            "airbyte": airbyte.model_copy(update={"request_timeout_seconds": shorter(airbyte.request_timeout_seconds)}),
            "audit_log": log.model_copy(
                update={"request_timeout_seconds": shorter(log.request_timeout_seconds), "retry_seconds": 0.0}
            ),
        }
    )
