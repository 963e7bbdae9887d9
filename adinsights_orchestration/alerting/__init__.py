"""Alerts: from facts to findings, from findings to incidents, from incidents to the right person, once.

Belongs here: the vocabulary that every part shares, pure: what rules conclude from (`facts`), findings and incidents
(`model`), what a person is told (`message`), who (`contacts`, `audience`), and what explains or quiets what
(`inhibition`, `matching`, `windows`). Does not belong here: whatever does something with it. Read `model` and `facts`
first, then the folder in question. A folder imports only what stands above it:

1. these modules
2. `rules/`, from facts to findings
3. `gathering/`, facts read; `telling/`, from incidents to messages, decided
4. `channels/`, where messages go; `bookkeeping/`, the rows of incidents and the outbox
5. `configuration/`, the alert file
6. `evaluation/`, all of that once: facts, findings, incidents, the outbox
7. `delivery/`, from the outbox into the channels
8. `operating/`, what people and jobs do to alerts
9. `running/`, in Dagster
"""
