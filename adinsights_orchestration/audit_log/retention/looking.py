"""One look at a table beside windows, holds and ledger: its census, and what the ledger learns from it.

Belongs here: fetching what a census is judged by, and writing down what it found. Does not belong here: counting and
judging (`census`), Dagster (`automation`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from adinsights_orchestration.audit_log import restored
from adinsights_orchestration.audit_log.bookkeeping import vanishing
from adinsights_orchestration.audit_log.retention.census import Ages, Census, judge_ages, take_census
from adinsights_orchestration.audit_log.retention.chunks import archived_days, mark_gone, rows_in_table
from adinsights_orchestration.audit_log.retention.policy import current_policy
from adinsights_orchestration.audit_log.retention.run import lock_name
from adinsights_orchestration.audit_log.retention.shape import names_of, shape_of
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.table.access import Right, require_access
from adinsights_orchestration.audit_log.table.reaching import reached
from adinsights_orchestration.audit_log.windows import Why
from adinsights_orchestration.clock import Clock
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings


def census_of(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> tuple[Census, Ages]:
    """What a table holds now and what is wrong with it, by one scan."""
    policy = current_policy(settings, store, source, clock)
    tenants = sorted(policy.windows)
    with reached(settings, source) as connection:
        with connection.transaction(force_rollback=True), connection.cursor() as cursor:
            access = require_access(cursor, source.table, tenants, (Right.SELECT,), tenant=source.tenant)
        shape = shape_of(source, (), fast=True)
        present = names_of(connection, source)
        # Before the table is: what is archived meanwhile is late, and not missing.
        with store.begin() as ledger:
            in_table, archived = rows_in_table(ledger, source.name), archived_days(ledger, source.name, present)
            promises = restored.open_promises(ledger, source.name)
        census = take_census(connection, shape, access, tenants, policy.today, policy.resource_holds())
    with store.begin() as ledger:
        never_came = restored.never_came(promises, census.rows)
        remembered = vanishing.unanswered(ledger, source.name, never_came)
    awaited = {
        at: promise
        for at, promise in never_came.items()
        if policy.judge(*at) not in {Why.DUE, Why.UNKNOWN_TENANT}  # past their time they are gone like any other
    }
    in_table |= {at: promise.before for at, promise in awaited.items()}
    ages = judge_ages(census, policy, in_table, archived, remembered)
    awaits = {at: each.rows - each.before for at, each in awaited.items()}
    return census, replace(ages, awaited=awaits, remembered=remembered.keys() - never_came.keys())


def settled_census(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> tuple[Census, Ages]:
    """The same, and the ledger learns what it found, unless somebody restores: then another night does it."""
    with store.exclusive(lock_name(source)) as mine:
        census, ages = census_of(settings, store, source, clock)
        if mine:
            with store.begin() as ledger:
                settle(ledger, source, ages, clock())
    return census, ages


def settle(connection: sa.Connection, source: Source, ages: Ages, now: datetime) -> None:
    """Writes down what a census found; the caller holds `lock_name`, so that no row is about to come.

    What is gone for good is so in the ledger too (rows that went with their tenant, and those past their time of which
    the table has none), else such days would never leave the archive. What vanished is remembered, else nobody would
    hear of it any more once the day's window is over.
    """
    name = source.name
    vanishing.came_back(connection, name, ages.remembered)
    if ages.departed or ages.gone:
        mark_gone(connection, name, [*ages.departed, *ages.gone], now)
        vanishing.forget(connection, name, ages.departed)
    vanishing.take_down(connection, name, ages.counted, now)
