"""The local backend's audit log of the time before the stack was made: a year and a month, unless it is told otherwise.

Belongs here: what the demo's people and syncs would have left behind, drawn from hashes, so that it is the same on
every machine, and made by one statement. Does not belong here: archiving or deleting it, which the product's own jobs
do; rows of today, which the loopback backend writes as things happen. Rows that retention has deleted must not come
back with the next start, so what marks the history as made is committed with it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid5

import psycopg

from adinsights_orchestration.local.ad_platforms.accounts import LOCAL_TENANTS
from adinsights_orchestration.local.seed import NAMESPACE, tenant_id
from adinsights_orchestration.local.settings import LocalSettings

_LOCK = 6_031_773
_PEOPLE = ("analyst", "manager", "media", "finance")  # beside the owner, whom every tenant has


def first_day(local: LocalSettings, now: datetime) -> date:
    """The day that the audit log begins with: the one that a state folder was made with, else counted from now."""
    path = _first_day_file(local)
    if path.exists():
        return date.fromisoformat(path.read_text().strip())
    return now.astimezone(UTC).date() - timedelta(days=local.audit_history_days)


def keep_first_day(local: LocalSettings, day: date) -> None:
    """Writes the day down where `first_day` finds it; one that stands there stays."""
    path = _first_day_file(local)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(f"{day}\n")
    unfinished.replace(path)


def seed_audit_history(dsn: str, first: date, now: datetime) -> int:
    """Makes the rows from the first day to yesterday (UTC), once in the life of the database.

    Returns:
        How many rows were made: none when there is a history already.
    """
    last = now.astimezone(UTC).date() - timedelta(days=1)
    with psycopg.connect(dsn) as database:
        database.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        database.execute(_MARK_TABLE)
        if database.execute("select 1 from local_stack.audit_history").fetchone() is not None:
            return 0
        with database.cursor() as cursor:
            for tenant in LOCAL_TENANTS:
                names = (f"{name}@{tenant.site}" for name in _PEOPLE)
                cursor.executemany(_ADD_USER, [(uuid5(NAMESPACE, mail), tenant_id(tenant), mail) for mail in names])
        made = database.execute(_HISTORY, _values(first, last)).rowcount
        database.execute("insert into local_stack.audit_history values (%s, %s, %s, %s)", (first, last, made, now))
        database.execute("analyze accounts_auditlog")  # an hour earlier than autovacuum would
    return made


def _values(first: date, last: date) -> dict[str, Any]:
    return {
        "tenants": [tenant_id(tenant) for tenant in LOCAL_TENANTS],
        "zones": [tenant.timezone for tenant in LOCAL_TENANTS],
        "first": datetime.combine(first, time()),
        "last": datetime.combine(last, time()),
    }


def _first_day_file(local: LocalSettings) -> Path:
    return local.state_dir / "audit_first_day"


_MARK_TABLE: LiteralString = """
create schema if not exists local_stack;
create table if not exists local_stack.audit_history
  (first_day date not null, last_day date not null, rows bigint not null, made_at timestamptz not null)
"""
_ADD_USER: LiteralString = "insert into accounts_user (id, tenant_id, email) values (%s, %s, %s) on conflict do nothing"
# What the backend writes a row about (runbook: authentication, credentials, roles, manual syncs, finished jobs), in
# the proportion of a quiet customer. The addresses are those that are set aside for documentation.
_HISTORY: LiteralString = """
with kind (number, action, resource_type) as materialized (
  select row_number() over (), action, resource_type
    from (values (11, 'airbyte_job_webhook', 'airbyte_connection'), (6, 'login', 'user'), (2, 'login_failed', 'user'),
                 (2, 'logout', 'user'), (2, 'airbyte_sync_triggered', 'airbyte_connection'),
                 (1, 'credential_changed', 'credential'), (1, 'role_changed', 'role'))
         as weighed (weight, action, resource_type),
         generate_series(1, weight)
), tenant as materialized (
  select t.id, zone,
         array(select id from integrations_airbyteconnection c where c.tenant_id = t.id order by id) as connections,
         array(select u.id from accounts_user u where u.tenant_id = t.id order by u.id) as people,
         array(select email from accounts_user u where u.tenant_id = t.id order by u.id) as mails
    from unnest(%(tenants)s::uuid[], %(zones)s::text[]) as t (id, zone)
), day as (
  select at, row_number() over (order by at) as number, extract(isodow from at) > 5 as weekend
    from generate_series(%(first)s::timestamp, %(last)s::timestamp, interval '1 day') as at
), drawn as materialized (
  select tenant.*, at, md5(tenant.id || at::date::text || n) as key
    from tenant, day,
         generate_series(1, (18 + day.number / 20 + abs(hashtext(tenant.id::text || at::text) %% 10))
                            / case when weekend then 2 else 1 end) as n
), chosen as materialized (
  select drawn.*, action, resource_type,
         connections[1 + abs(hashtextextended(key, 1) %% cardinality(connections))]::text as connection,
         1 + abs(hashtextextended(key, 2) %% cardinality(people)) as who,
         abs(hashtextextended(key, 3) %% 1000000007) as chance,
         -- Syncs finish around the clock, people work from eight to six.
         case when action = 'airbyte_job_webhook'
              then at at time zone 'UTC' + abs(hashtextextended(key, 4) %% 86400000000) * interval '1 microsecond'
              else (at + interval '8 hours' + abs(hashtextextended(key, 4) %% 36000000000) * interval '1 microsecond')
                   at time zone zone end as moment
    from drawn
    join kind on kind.number = 1 + abs(hashtextextended(key, 0) %% (select count(*) from kind))
)
insert into accounts_auditlog (id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at)
select key::uuid, id, case when action not in ('airbyte_job_webhook', 'login_failed') then people[who] end,
       action, resource_type,
       case resource_type when 'airbyte_connection' then connection when 'user' then people[who]::text
                          else (chance %% 40 + 1)::text end,
       case resource_type
         when 'airbyte_connection' then jsonb_build_object('connection_id', connection)
              || case action when 'airbyte_job_webhook'
                 then jsonb_build_object('job_id', (100000 + chance %% 900000)::text, 'status',
                                         case when chance %% 40 = 0 then 'failed' else 'succeeded' end)
                 else jsonb_build_object('email', mails[who], 'trigger', 'manual') end
         when 'user' then jsonb_build_object(
              'email', mails[who], 'ip', '198.51.100.' || chance %% 250 + 1,
              'user_agent', (array['Mozilla/5.0 (Windows NT 10.0; Win64; x64)', 'Mozilla/5.0 (X11; Linux x86_64)',
                                   'Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5)'])[1 + chance %% 3])
         else jsonb_build_object('email', mails[who], 'ip', '203.0.113.' || chance %% 250 + 1,
                                 'changed', (array['token', 'scopes', 'role'])[1 + chance %% 3]) end,
       moment
  from chosen
 order by moment
    on conflict do nothing
"""
