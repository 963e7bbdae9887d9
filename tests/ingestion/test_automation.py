"""Ticks of ingestion's sensors as Dagster evaluates them, against real servers that are up, down or half there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

import dagster as dg
import pytest
from pydantic import SecretStr

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.environments import UNATTENDED, Automation, Environment
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ingestion.automation import build_ingestion, deps_maker
from adinsights_orchestration.local.airbyte.model import ConfigType
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import BackendSettings, Driver, OpsStoreSettings
from adinsights_orchestration.tenants.model import Provider
from tests.backend.backend_tables import create_backend
from tests.conftest import PostgresServer, free_port
from tests.ingestion.dagster_world import TENANT_ID, DagsterWorld, a_dagster_world
from tests.local.airbyte_support import MISCONFIGURED, TRANSIENT

OFTEN = {"interval_minutes": 15}


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterWorld]:
    backend = create_backend(postgres_server.create_database)
    folder = tmp_path_factory.mktemp("registry")
    settings = BackendSettings(dsn=SecretStr(backend.dsn))
    backend.execute("insert into accounts_tenant values (%s, 'Acme Jamaica Ltd', now())", TENANT_ID)
    with a_dagster_world(postgres_server, folder, backend=settings) as one:
        yield one


@pytest.fixture(autouse=True)
def _quiet(world: DagsterWorld) -> Iterator[None]:
    """No test leaves a fault or a due connection to the next one."""
    yield
    world.knobs.set("airbyte", "down", False)
    for row in world.rows:
        row["active"] = False
    world.read_registry()
    world.tick("ingestion_observe")


def test_trigger_starts_what_is_due_and_the_next_tick_has_nothing_to_do(world: DagsterWorld) -> None:
    due, by_hand = world.add("Due", schedule=OFTEN), world.add("By hand")
    assert world.tick("ingestion_trigger") == "1 due, 1 started"
    assert (len(world.jobs(due)), len(world.jobs(by_hand))) == (1, 0)
    assert world.tick("ingestion_trigger") == "nothing is due"
    assert len(world.jobs(due)) == 1


def test_observe_reports_what_ended_and_the_next_tick_has_nothing_new(world: DagsterWorld) -> None:
    good, bad = world.add("Good", schedule=OFTEN), world.add("Bad", Provider.GA4, schedule=OFTEN)
    world.fates[bad.connection_id] = MISCONFIGURED
    assert world.tick("ingestion_trigger") == "2 due, 2 started"
    said = world.tick("ingestion_observe")
    assert "2 finished" in said
    assert "1 reported, 1 reported as failed" in said
    assert world.materialized_jobs(good) == [world.jobs(good)[0].id]
    assert world.status(good) == "MATERIALIZED"
    assert [passed for passed, _ in world.checks(bad)] == [False]
    assert world.tick("ingestion_observe") == "nothing new in Airbyte"
    assert len(world.materialized_jobs(good)) == 1


def test_what_observe_has_no_time_to_report_is_reported_by_the_next_tick(
    world: DagsterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adinsights_orchestration.ingestion.reporting.BATCH", 1)
    slow = partial(TickClock, seconds=count(0, 1000).__next__)
    good, other = world.add("Good", schedule=OFTEN), world.add("Other", schedule=OFTEN)
    assert world.tick("ingestion_trigger") == "2 due, 2 started"
    monkeypatch.setattr("adinsights_orchestration.ingestion.automation.TickClock", slow)
    said = world.tick("ingestion_observe")
    assert "2 finished" in said
    assert said.endswith("1 reported; the next tick reports the rest")
    assert world.tick("ingestion_observe") == "1 reported"
    assert sorted([len(world.materialized_jobs(good)), len(world.materialized_jobs(other))]) == [1, 1]


def test_an_airbyte_that_is_down_is_said_and_the_next_tick_goes_on(world: DagsterWorld) -> None:
    late, elsewhere = world.add("Late", schedule=OFTEN), world.add("Started elsewhere")
    job = world.airbyte.start(elsewhere.connection_id, ConfigType.SYNC)
    world.knobs.set("airbyte", "down", True)
    hurried = world.hurried(5.0)
    # Whether a POST that a proxy answered reached Airbyte is open: it is looked for, not sent again.
    said = hurried.tick("ingestion_trigger")
    assert said.startswith("1 due, 1 not answered; Airbyte POST /jobs: HTTP 503")
    assert "see the Airbyte server's log" in said
    said = hurried.tick("ingestion_observe")
    assert said.startswith("Airbyte GET /jobs: HTTP 503 no healthy upstream.")
    assert said.endswith("(not done within the tick's 3.75 s; the next one reads on)")
    assert world.materialized_jobs(elsewhere) == []
    world.knobs.set("airbyte", "down", False)
    assert "1 reported" in world.tick("ingestion_observe")
    assert world.materialized_jobs(elsewhere) == [job.id]
    assert world.jobs(late) == []


@pytest.mark.parametrize("sensor", ["ingestion_trigger", "ingestion_observe", "backend_deliver"])
def test_without_an_ops_store_a_tick_fails_with_what_to_check(world: DagsterWorld, sensor: str) -> None:
    nowhere = OpsStoreSettings(dsn=SecretStr(f"postgresql://canary:canary-password@127.0.0.1:{free_port()}/ops"))
    definitions = build_ingestion(world.settings, OpsStore(nowhere))
    with (
        dg.build_sensor_context(instance=world.instance) as context,
        pytest.raises(OpsStoreError, match="ADINSIGHTS_OPS_STORE__DSN: the ops store does not answer") as caught,
    ):
        definitions.resolve_sensor_def(sensor)(context)
    assert "canary-password" not in str(caught.value)


def test_an_external_driver_makes_the_trigger_say_so_and_start_nothing(world: DagsterWorld) -> None:
    left = world.add("Left to Celery", schedule=OFTEN)
    ingestion = world.settings.ingestion.model_copy(update={"driver": Driver.EXTERNAL})
    settings = world.settings.model_copy(update={"ingestion": ingestion})
    definitions = build_ingestion(settings, world.store)
    with dg.build_sensor_context(instance=world.instance) as context:
        data = definitions.resolve_sensor_def("ingestion_trigger").evaluate_tick(context)
    assert data.skip_message == "the driver is external: nothing is started from here"
    assert world.jobs(left) == []


def test_the_backend_gets_its_audit_rows_with_a_tick_of_its_own(world: DagsterWorld) -> None:
    world.tick("backend_deliver")
    asked = world.add("Asked for")
    world.sync([asked.partition_key], requested_by="ops@example.com")
    assert world.tick("backend_deliver") == "1 audit rows delivered"
    assert world.tick("backend_deliver") == "nothing is owed"


def test_a_backend_that_is_down_delays_its_audit_rows_and_says_why(world: DagsterWorld) -> None:
    asked = world.add("Asked for while the backend is down")
    world.sync([asked.partition_key])
    gone = SecretStr(f"postgresql://canary:canary-password@127.0.0.1:{free_port()}/backend")
    settings = world.settings.model_copy(update={"backend": BackendSettings(dsn=gone)})
    definitions = build_ingestion(settings, world.store)
    with dg.build_sensor_context(instance=world.instance) as context:
        said = str(definitions.resolve_sensor_def("backend_deliver").evaluate_tick(context).skip_message)
    assert said.startswith("1 audit rows owed; ")
    assert "ADINSIGHTS_BACKEND__DSN" in said
    assert "canary-password" not in said
    assert world.tick("backend_deliver") == "1 audit rows delivered"


class Staging:
    """The module's world as staging has it."""

    def __init__(self, world: DagsterWorld, **ingestion: object) -> None:
        changed = world.settings.ingestion.model_copy(update=ingestion)
        settings = world.settings.model_copy(update={"environment": Environment.STAGING, "ingestion": changed})
        self.instance, self.definitions = world.instance, build_ingestion(settings, world.store)

    def schedule(self) -> list[dg.RunRequest]:
        """What the schedule asks for."""
        schedule = self.definitions.resolve_schedule_def("sync_nightly_plan")
        with dg.build_schedule_context(instance=self.instance) as context:
            return list(schedule.evaluate_tick(context).run_requests or [])

    def night(self) -> dict[str, object]:
        """Runs the night's job; returns the metadata of what it planned."""
        job = self.definitions.resolve_job_def("sync_nightly")
        result = job.execute_in_process(instance=self.instance)
        assert result.success
        (output,) = [event for event in result.all_events if event.is_successful_output]
        return {name: value.value for name, value in output.step_output_data.metadata.items()}

    def tick(self, sensor: str) -> str:
        """One evaluation of a sensor, and what it says of itself."""
        with dg.build_sensor_context(instance=self.instance) as context:
            data = self.definitions.resolve_sensor_def(sensor).evaluate_tick(context)
        assert not data.run_requests
        return str(data.skip_message)


def test_stagings_night_plans_the_active_connections_and_a_sensor_starts_them_once(world: DagsterWorld) -> None:
    staging = Staging(world)
    active = [world.add("Night A", schedule=OFTEN), world.add("Night B", Provider.GA4, schedule=OFTEN)]
    others = [world.add("Night manual"), world.add("Night paused", schedule=OFTEN, active=False)]
    assert staging.tick("ingestion_start") == "nothing is due", "only the night plans"
    assert len(staging.schedule()) == 1
    told = staging.night()
    assert (told["active"], told["planned"]) == (2, 2)
    assert (staging.night()["planned"], staging.night()["slot"]) == (0, told["slot"])
    assert staging.tick("ingestion_start") == "2 started"
    assert staging.tick("ingestion_start") == "nothing is due"
    assert "2 reported" in staging.tick("ingestion_observe")
    assert [world.status(one) for one in active] == ["MATERIALIZED", "MATERIALIZED"]
    assert [len(world.jobs(one)) for one in (*active, *others)] == [1, 1, 0, 0]
    assert [world.audited(one) for one in active] == [[], []], "a schedule is not a person"


def test_what_fails_in_stagings_night_is_started_again_up_to_five_times(world: DagsterWorld) -> None:
    staging = Staging(world, retry_base_seconds=0.001)
    bad = world.add("Night fails", schedule=OFTEN)
    world.fates[bad.connection_id] = TRANSIENT
    staging.night()
    said = []
    for _ in range(7):
        said.append(staging.tick("ingestion_start"))
        staging.tick("ingestion_observe")
    assert said == ["1 started"] * 5 + ["nothing is due"] * 2
    assert len(world.jobs(bad)) == 5
    assert staging.night()["planned"] == 0
    assert staging.tick("ingestion_start") == "nothing is due"


@pytest.mark.parametrize("environment", Environment)
def test_the_bound_on_syncs_is_the_tables_number_unless_a_setting_says_otherwise(
    world: DagsterWorld, environment: Environment
) -> None:
    table = UNATTENDED[environment]
    (starting,) = [table[one] for one in (Automation.TRIGGER, Automation.START) if one in table]
    settings = world.settings.model_copy(update={"environment": environment})
    assert deps_maker(settings, world.store)().bound == starting.at_once
    fewer = settings.model_copy(update={"ingestion": settings.ingestion.model_copy(update={"max_running_syncs": 3})})
    assert deps_maker(fewer, world.store)().bound == 3


def test_looking_at_stagings_schedule_plans_nothing(world: DagsterWorld) -> None:
    staging, due = Staging(world), world.add("Night looked at", schedule=OFTEN)
    staging.schedule()
    assert staging.tick("ingestion_start") == "nothing is due"
    assert world.jobs(due) == []


def test_a_night_starts_nothing_while_somebody_else_drives(world: DagsterWorld) -> None:
    left = world.add("Night driven elsewhere", schedule=OFTEN)
    staging = Staging(world, driver=Driver.EXTERNAL)
    assert staging.schedule() == []
    assert staging.night()["planned"] == 0
    assert staging.tick("ingestion_start") == "the driver is external: nothing is started from here"
    assert world.jobs(left) == []


def test_a_night_without_active_connections_plans_nothing(world: DagsterWorld) -> None:
    assert Staging(world).night()["planned"] == 0


def test_a_night_whose_run_dies_or_meets_a_restarting_database_is_run_again_by_dagster(world: DagsterWorld) -> None:
    tags = Staging(world).definitions.resolve_job_def("sync_nightly").tags
    assert tags["dagster/max_retries"] == "3"
    assert tags["dagster/retry_on_asset_or_op_failure"] == "true"
