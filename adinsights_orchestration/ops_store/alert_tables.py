"""The ops store's tables of alerts, beside the others in `tables`.

Belongs here: shapes, keys and what each row means. Does not belong here: who writes when (`alerting`).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from adinsights_orchestration.ops_store.tables import metadata, moment

# One row for every matter that ever was one; `state = 'ok'` keeps its count of episodes.
alert_incident = sa.Table(
    "alert_incident",
    metadata,
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("group_key", sa.Text, nullable=False),
    sa.Column("finding", JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("episode", sa.Integer, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    moment("since", nullable=False),
    moment("pending_since"),
    moment("fired_at"),
    moment("ended_at"),
    moment("absent_since"),
    moment("unknown_since"),
    sa.Column("recent", ARRAY(sa.DateTime(timezone=True)), nullable=False),
    sa.Column("acked_by", sa.Text),
    moment("acked_at"),
    sa.Column("acked_severity", sa.Text),
    sa.Column("told", sa.Boolean, nullable=False),
    sa.Column("told_severity", sa.Text),
    sa.Column("suppressed_by", sa.Text, nullable=False),
    sa.CheckConstraint("state in ('ok','pending','firing','acknowledged','resolving')", name="state"),
)
sa.Index(
    "ix_alert_incident_open",
    alert_incident.c.fingerprint,
    postgresql_where=sa.or_(alert_incident.c.state != "ok", alert_incident.c.told),
)

# One row per group: whose message it is, and when it is looked at next. `episode` counts its messages.
alert_group = sa.Table(
    "alert_group",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("episode", sa.Integer, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),  # of the last outbox row of this episode
    sa.Column("sinks", ARRAY(sa.Text), nullable=False),  # where its message of this episode is
    moment("flush_at"),  # when it may speak next; null: it has nothing to say
    moment("told_at"),  # when it spoke last
    moment("opened_at"),  # when the message of this episode was first to be sent
    moment("closed_at"),  # since when nothing of it fires; null while something does
    moment("since"),  # when the oldest matter of this episode began
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),  # the worst of this episode
    sa.Column("most", sa.Integer, nullable=False),  # the most incidents at once in this episode
    sa.Column("escalated", sa.Integer, nullable=False),  # how many further contacts were told
    moment("unacked_at"),  # since when its readers know of a page that nobody has taken on
    sa.Column("shown", sa.Text, nullable=False),  # the digest of what the message says; empty while none is open
)

# What is to be said, committed together with the states that it follows from.
# States: pending -> attempting (claimed until `lease_until`) -> sent | dead; attempting -> pending (refused for now).
# An `attempting` row whose lease has ended may or may not have arrived: it is looked up before it is tried again.
alert_outbox = sa.Table(
    "alert_outbox",
    metadata,
    sa.Column("notice_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("group_key", sa.Text, nullable=False),
    sa.Column("episode", sa.Integer, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("sink", sa.Text, nullable=False),
    sa.Column("op", sa.Text, nullable=False),  # post | update | reply
    sa.Column("message", JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("refusals", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claim", UUID(as_uuid=True)),  # whose attempt it is; an attempt that lost it may not record anything
    moment("created_at", nullable=False),
    moment("first_attempt_at"),
    moment("last_attempt_at"),
    moment("not_before"),
    moment("lease_until"),
    moment("finished_at"),
    sa.Column("ref", sa.Text),
    sa.Column("last_error", sa.Text),
    sa.Column("reactions", JSONB),  # [emoji, who] of a first message in Slack that have been counted
    sa.UniqueConstraint("group_key", "episode", "seq", "sink"),
    sa.CheckConstraint("state in ('pending','attempting','sent','dead')", name="state"),
    sa.CheckConstraint("op in ('post','update','reply')", name="op"),
)
sa.Index(
    "ix_alert_outbox_open",
    alert_outbox.c.sink,
    alert_outbox.c.created_at,
    postgresql_where=alert_outbox.c.state.in_(("pending", "attempting")),
)
sa.Index("ix_alert_outbox_finished", alert_outbox.c.finished_at)

# How much a sink takes: the moment up to which its allowance is used, and until when it takes nothing at all.
alert_channel = sa.Table(
    "alert_channel",
    metadata,
    sa.Column("sink", sa.Text, primary_key=True),
    moment("used_until", nullable=False),
    moment("not_before"),
    sa.Column("last_error", sa.Text),
)

# Everything that happened to incidents, groups and notices, in order; never changed, pruned by age.
alert_event = sa.Table(
    "alert_event",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    moment("at", nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text),
    sa.Column("group_key", sa.Text),
    sa.Column("episode", sa.Integer),
    sa.Column("notice_id", UUID(as_uuid=True)),
    sa.Column("detail", sa.Text, nullable=False),
)
sa.Index("ix_alert_event_fingerprint", alert_event.c.fingerprint, alert_event.c.id)
sa.Index("ix_alert_event_group_key", alert_event.c.group_key, alert_event.c.id)
sa.Index("ix_alert_event_at", alert_event.c.at)

# What somebody does not want to hear of for a while: a silence, or a window that a job opened around its own work.
alert_silence = sa.Table(
    "alert_silence",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("matchers", ARRAY(sa.Text), nullable=False),  # `tenant=acme`, `rule=~connection_.*`
    moment("starts_at", nullable=False),
    moment("ends_at", nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, server_default="silenced"),
    moment("created_at", nullable=False),
    sa.CheckConstraint("kind in ('silenced','maintenance')", name="kind"),
    sa.CheckConstraint("ends_at >= starts_at", name="ends_after_start"),
)
sa.Index("ix_alert_silence_ends_at", alert_silence.c.ends_at)
