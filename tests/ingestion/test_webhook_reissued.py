"""Telling the backend of an Airbyte that gives its job ids again: one that was set up anew or restored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import WebhookSender
from tests.backend.backend_tables import Backend
from tests.ingestion.webhook_world import World, standing


@pytest.fixture
def world(backend: Backend, ops_store: OpsStore) -> Iterator[World]:
    """Everything that a round needs; nothing has happened yet."""
    with standing(backend, ops_store) as world:
        yield world


@pytest.mark.parametrize("sender", [WebhookSender.RECONCILE, WebhookSender.ORCHESTRATOR])
def test_an_airbyte_that_counts_anew_has_its_jobs_told_although_the_backend_knows_greater_ids(
    world: World, sender: WebhookSender
) -> None:
    world.sender = sender
    connection = world.connect()
    told = [world.finish(connection)]
    world.rounds_until_quiet()
    world.jobs = 500  # restored from a backup
    for _ in range(2):
        world.now += timedelta(minutes=30)
        told.append(world.finish(connection))
        world.rounds_until_quiet()
    assert [job for _, job in world.server.taken] == told == [1001, 501, 502]
    assert world.last_job(connection) == "502"


@pytest.mark.parametrize("sender", [WebhookSender.RECONCILE, WebhookSender.ORCHESTRATOR])
def test_a_job_whose_id_airbyte_gave_to_another_one_is_told_to_nobody(world: World, sender: WebhookSender) -> None:
    world.sender = sender
    connection = world.connect()
    world.finish(connection)
    world.rounds_until_quiet()
    world.finish(connection, job_id=-1)
    world.rounds_until_quiet()
    assert [job for _, job in world.server.taken] == [1001]
