"""What the probes of where data lies make of it: the warehouse and the object store."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from pydantic import SecretStr

from adinsights_orchestration.health.model import Component, Health
from tests.conftest import HANG_SECONDS, free_port
from tests.health.world import QUICK_SECONDS, Platform, seen


def test_a_session_that_the_warehouse_refuses_is_down_and_tells_no_password(world: Platform) -> None:
    world.move("warehouse", password=SecretStr("hunter2-canary"), dbname="no_such_database")
    reading = world.probe(Component.WAREHOUSE)
    assert seen(reading) == (Health.DOWN, "refuses")
    assert "hunter2" not in repr(reading)
    world.move("warehouse", port=free_port())
    assert seen(world.probe(Component.WAREHOUSE)) == (Health.DOWN, "refused")


def test_a_warehouse_that_takes_connections_and_says_nothing_is_down_in_time(world: Platform) -> None:
    world.change(probe_timeout_seconds=QUICK_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.move("warehouse", host="127.0.0.1", port=silent.getsockname()[1])
        began = time.monotonic()
        assert seen(world.probe(Component.WAREHOUSE)) == (Health.DOWN, "timeout")
        assert time.monotonic() - began < HANG_SECONDS


def test_a_folder_is_an_object_store_that_can_be_written(world: Platform, tmp_path: Path) -> None:
    world.change(object_store_url=f"file://{tmp_path}")
    assert world.probe(Component.OBJECT_STORE).state in ("ok", "full")
    world.change(object_store_url=f"file://{tmp_path}/nowhere")
    assert seen(world.probe(Component.OBJECT_STORE)) == (Health.DOWN, "no_folder")


def test_an_address_is_an_object_store_that_answers(world: Platform) -> None:
    world.change(object_store_url=f"{world.url}/superset/health")
    assert seen(world.probe(Component.OBJECT_STORE)) == (Health.OK, "ok")
    world.knob("superset", "down")
    assert seen(world.probe(Component.OBJECT_STORE)) == (Health.DOWN, "http_503")
