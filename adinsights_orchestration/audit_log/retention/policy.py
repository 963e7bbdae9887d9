"""The policy of this moment: windows and holds, or a refusal where a legal hold might be missed.

Belongs here: reading them, and when what was read is not good enough to delete by. Does not belong here: what windows
and holds mean (`windows`), what is done by them. Syncs go on with a registry that is old or has problems; deleting does
not: of all that may go wrong here, rows that a court wants are what nobody brings back.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from adinsights_orchestration.audit_log.holds import holds_in_force
from adinsights_orchestration.audit_log.source import NOBODY, Source
from adinsights_orchestration.audit_log.table.clocks import ASK, require_same_time
from adinsights_orchestration.audit_log.windows import Policy, policy_of
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Registry
from adinsights_orchestration.tenants.store import load_registry, registry_health

_READ_IT = "Run `adinsights registry refresh`"


class RetentionRefusedError(AdinsightsError):
    """Retention did not begin; nothing was deleted."""


def current_policy(settings: Settings, store: OpsStore, source: Source, clock: Clock, host: Clock = utc_now) -> Policy:
    """Windows and holds as they are now.

    Args:
        settings: For how long the registry is good enough.
        store: The ops store.
        source: The table.
        clock: The moment that everything is judged by.
        host: This host's clock, which the ops store's server must agree with.

    Raises:
        ClockError: It does not.
        RetentionRefusedError: The registry was never read, cannot be read now, was read too long ago, or holds an entry
            of a hold or a longer window for nobody: a legal hold might be missed.
    """
    now = clock()
    with store.begin() as connection:
        server = connection.exec_driver_sql(ASK).scalar_one()
        require_same_time(host(), server, "the ops store's server")
        restored = holds_in_force(connection, source.name, now)
    if source.tenant is None:
        assert source.window_days is not None
        return Policy(now, {NOBODY: source.window_days}, restored, least_days=1)
    policy = policy_of(_trusted_registry(settings, store, now), now, restored)
    if source.window_days is None:
        return policy
    return replace(policy, windows=dict.fromkeys(policy.windows, source.window_days), least_days=1)


def _trusted_registry(settings: Settings, store: OpsStore, now: datetime) -> Registry:
    health = registry_health(store, now)
    if health.error is not None:
        raise _refused(health.error, _READ_IT)
    if health.age is None:
        raise _refused("it was never read", _READ_IT)
    minutes, longest = health.age.total_seconds() / 60, settings.retention.registry_age_minutes
    if minutes > longest:
        raise _refused(
            f"it was last read {minutes:,.0f} minutes ago, and {longest} may pass",
            f"{_READ_IT}, and see why sensor registry_refresh does not",
        )
    registry = load_registry(store)
    for problem in registry.problems:
        if problem.keeps_rows:
            raise _refused(f"{problem.place}: {problem.problem}", f"Correct the entry, then {_READ_IT.lower()}")
    return registry


def _refused(why: str, next_step: str) -> RetentionRefusedError:
    return RetentionRefusedError(
        f"the registry is not to be trusted now ({why})",
        next_step=f"A legal hold might be missed. {next_step}; the next night tries again.",
    )
