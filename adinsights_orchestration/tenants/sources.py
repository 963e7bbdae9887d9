"""Where the registry is read from: the backend's tables or a YAML file, and the overlay beside either.

Belongs here: the queries, the files and their shape. Does not belong here: judging what was read (`rules`, `overlay`).
Every failure is an error with its next step; a read either has everything or raises, so that a half-read source can
never look like tenants that left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from uuid import UUID, uuid5

from adinsights_orchestration.backend.database import BackendDatabase, rows_of_tenants
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import RegistrySource, Settings
from adinsights_orchestration.tenants.overlay import TenantOverlay, parse_overlay
from adinsights_orchestration.tenants.raw import RawConnection, RawRegistry, RawTenant
from adinsights_orchestration.yaml_lines import Node, parse_yaml

CONNECTION_TABLE = "integrations_airbyteconnection"
_TENANTS = "select id, name from accounts_tenant order by created_at, id"
_CONNECTIONS = """
select id, tenant_id, provider, name, connection_id, workspace_id, schedule_type, interval_minutes, cron_expression,
       is_active
  from integrations_airbyteconnection
 where tenant_id = any(%(tenants)s)
 order by created_at, id
"""
_ROW_IDS = UUID("5a0c4f0e-6d0e-4f0c-9a53-0b5f2e8d7c11")  # a namespace of ours, for rows that a file gives no id


@dataclass(frozen=True, slots=True)
class Reading:
    """One read: the registry as the source has it, the overlay's entries, and the overlay's text for the digest."""

    raw: RawRegistry
    overlay: tuple[TenantOverlay, ...]
    overlay_text: str


def read(settings: Settings, left: Callable[[], float] = lambda: inf) -> Reading:
    """Reads the configured source and overlay; what cannot be read is an `AdinsightsError`.

    Args:
        settings: Which source, which overlay.
        left: Seconds that the caller still has; a database that is silent or slow is hung up on by then.
    """
    registry = settings.registry
    overlay_text = _text(registry.overlay_path, "ADINSIGHTS_REGISTRY__OVERLAY_PATH") if registry.overlay_path else ""
    overlay = parse_overlay(overlay_text, registry.overlay_path.name) if registry.overlay_path else ()
    if registry.source is RegistrySource.BACKEND:
        return Reading(read_backend(BackendDatabase(settings.backend), left), overlay, overlay_text)
    if registry.yaml_path is None:
        raise ConfigurationError(
            "the registry's source is a file, and no file is set", place="ADINSIGHTS_REGISTRY__YAML_PATH"
        )
    return Reading(read_yaml(registry.yaml_path), overlay, overlay_text)


def read_backend(database: BackendDatabase, left: Callable[[], float] = lambda: inf) -> RawRegistry:
    """Reads tenants and connections from the backend's tables, all of the same moment, whatever row level security.

    Args:
        database: The backend's database.
        left: Seconds that the caller still has.

    Raises:
        BackendDatabaseError: The database does not answer, or our role may not read.
    """
    with database.session(left) as session, session.snapshot() as cursor:
        tenants = cursor.execute(_TENANTS).fetchall()
        rows = rows_of_tenants(cursor, CONNECTION_TABLE, _CONNECTIONS, [row[0] for row in tenants], {})
    return RawRegistry(
        source="the backend's tables",
        tenants=tuple(RawTenant(row[0], row[1], f"accounts_tenant {row[0]}") for row in tenants),
        connections=tuple(RawConnection(*(*row, f"{CONNECTION_TABLE} {row[0]}")) for row in rows),
    )


def read_yaml(path: Path) -> RawRegistry:
    """Reads tenants and connections from a YAML file (its format: docs/tenants.md).

    Raises:
        ConfigurationError: The file is missing, malformed or has an unknown key; with file and line.
    """
    root = parse_yaml(_text(path, "ADINSIGHTS_REGISTRY__YAML_PATH"), path.name)
    entries = root.mapping(("tenants",), required=("tenants",))["tenants"].items() if root else []
    tenants: list[RawTenant] = []
    connections: list[RawConnection] = []
    for entry in entries:
        keys = entry.mapping(("id", "name", "connections"), required=("id", "name"))
        tenant = RawTenant(keys["id"].uuid(), keys["name"].text(), entry.place)
        tenants.append(tenant)
        if "connections" in keys:
            connections += [_yaml_connection(node, tenant.id) for node in keys["connections"].items()]
    return RawRegistry(f"the file {path.name}", tuple(tenants), tuple(connections))


def _yaml_connection(node: Node, tenant_id: UUID) -> RawConnection:
    keys = node.mapping(
        ("id", "provider", "name", "connection_id", "workspace_id", "schedule", "active"),
        required=("provider", "name", "connection_id"),
    )
    connection_id = keys["connection_id"].uuid()
    kind, minutes, cron = _yaml_schedule(keys.get("schedule"))
    return RawConnection(
        row_id=keys["id"].uuid() if "id" in keys else uuid5(_ROW_IDS, f"{tenant_id}:{connection_id}"),
        tenant_id=tenant_id,
        provider=keys["provider"].text(),
        name=keys["name"].text(),
        connection_id=connection_id,
        workspace_id=keys["workspace_id"].uuid() if "workspace_id" in keys else None,
        schedule_type=kind,
        interval_minutes=minutes,
        cron_expression=cron,
        is_active=keys["active"].boolean() if "active" in keys else True,
        place=node.place,
    )


def _yaml_schedule(node: Node | None) -> tuple[str, int | None, str | None]:
    if node is None or not node.is_mapping:
        return (node.text() if node else "manual"), None, None
    keys = node.mapping(("interval_minutes", "cron"))
    if len(keys) > 1:
        raise node.error("a schedule has an interval or a cron expression, not both")
    if "cron" in keys:
        return "cron", None, keys["cron"].text()
    return "interval", keys["interval_minutes"].integer() if keys else None, None


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError("this is not UTF-8 text", place=f"{path.name}:{line}") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror})", place=setting, next_step="Mend the path or the file's rights."
        ) from None
