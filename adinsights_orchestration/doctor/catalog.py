"""Every check, in the order of the report: from this machine outwards.

Belongs here: names, order, and what a check cannot do without. Does not belong here: the checks.
"""

from __future__ import annotations

from adinsights_orchestration.doctor.checks import (
    airbyte,
    alerting,
    archive,
    backend,
    dagster,
    databases,
    dbt,
    drivers,
    health,
    machine,
    registry,
)
from adinsights_orchestration.doctor.model import Check

CHECKS: tuple[Check, ...] = (
    Check("python", machine.python),
    Check("dependencies", machine.dependencies),
    Check("variables", machine.variables),
    Check("local defaults", machine.local_defaults),
    Check("timezones", machine.timezones),
    Check("disk", machine.disk),
    Check("ops store", databases.ops_store),
    Check("ops store apart", databases.ops_store_apart, needs=("ops_store", "backend_database")),
    Check("dagster home", dagster.home),
    Check("dagster storage", dagster.storage),
    Check("dagster daemons", dagster.daemons),
    Check("dagster ui", dagster.ui),
    Check("code locations", dagster.locations),
    Check("registry source", registry.source),
    Check("registry overlay", registry.overlay),
    Check("registry served", registry.served, needs=("ops_store", "registry")),
    Check("backend database", databases.backend_database),
    Check("backend audit log", databases.backend_audit_log, needs=("backend_database",)),
    Check("backend api", backend.api),
    Check("audit archive", archive.store),
    Check("audit archive head", archive.head, needs=("ops_store",)),
    Check("audit archive days", archive.days, needs=("ops_store",)),
    Check("airbyte public api", airbyte.public_api),
    Check("airbyte configuration api", airbyte.configuration_api, needs=("airbyte",)),
    Check("airbyte workspaces", airbyte.workspaces, needs=("airbyte", "registry")),
    Check("airbyte connections", airbyte.connections, needs=("airbyte", "registry")),
    Check("airbyte clock", airbyte.clock, needs=("airbyte",)),
    Check("driver: airbyte schedules", drivers.airbyte_schedules, needs=("airbyte", "registry")),
    Check("driver: others", drivers.other_drivers, needs=("registry",)),
    Check("webhook secret", drivers.webhook_secret),
    Check("webhook senders", drivers.webhook_senders, needs=("airbyte",)),
    Check("webhook delivery", drivers.webhook_delivery, needs=("registry", "backend_database")),
    Check("warehouse", databases.warehouse),
    Check("warehouse sources", databases.warehouse_sources),
    Check("dbt project", dbt.project),
    Check("dbt manifest", dbt.manifest),
    Check("run results", backend.run_results),
    Check("run results read", backend.run_results_read),
    Check("health watched", health.watched),
    Check("alert routes", alerting.routes),
    Check("Slack", alerting.slack),
    Check("mail server", alerting.mail_server),
)
