"""A tenant's day of any size is archived in the same memory: what is full waits on the disk, and nothing is lost."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest

from adinsights_orchestration.audit_log.archive.encoding import WaitingRoomError
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from tests.audit_log.archive.test_run import archived, exactly
from tests.audit_log.conftest import Place
from tests.audit_log.rows import FIRST, Row, moment

ROWS = 1_500  # about a kilobyte of chance each, of which compression leaves half
LARGER = 8
OBJECT_BYTES = (1 << 20) // 8  # of rows in one object, by the settings below
ENCODED_BYTES = ROWS * 512
# Half of what holding the larger day would take more: how many objects are under way at once is chance, and a megabyte.
HELD_BYTES = (LARGER - 1) * ENCODED_BYTES // 2

Filled = Callable[[int], int]


@pytest.fixture
def place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty table, the smallest objects that can be set, and rows that come in batches which are smaller still."""
    monkeypatch.setattr("adinsights_orchestration.audit_log.archive.export._BATCH_BYTES", OBJECT_BYTES // 2)
    place.backend.execute("delete from accounts_auditlog")
    place.rows.clear()
    log = place.settings.audit_log.model_copy(update={"object_megabytes": 1})
    place.settings = place.settings.model_copy(update={"audit_log": log})
    return place


def fill(place: Place, day: int, rows: int) -> None:
    """Rows of one tenant on a day that hardly compress."""
    place.backend.execute(
        "insert into accounts_auditlog select gen_random_uuid(), %s, null, 'login', 'session', n::text,"
        " jsonb_build_object('said', (select string_agg(md5(n::text || c::text || random()::text), '')"
        " from generate_series(1, 32) c)), %s + n * interval '1 second' from generate_series(1, %s) n",
        place.tenants[0],
        moment(FIRST + timedelta(days=day)),
        rows,
    )


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that Python and Arrow hold at most meanwhile."""
    default = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(default)
    gc.collect()
    pa.set_memory_pool(counted)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + int(counted.max_memory())
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(default)


def test_memory_is_flat_from_a_large_day_to_one_that_is_eight_times_as_large(place: Place) -> None:
    peaks = []
    for day, rows in enumerate((ROWS, ROWS * LARGER)):
        fill(place, day, rows)
        at = FIRST + timedelta(days=day)
        peaks.append(peak_of(partial(place.archive, at, at)))
    manifests = list(chain.follow(place.store, AUDIT_LOG.name))
    assert [len(each.files) > each.rows * 1024 // (2 * OBJECT_BYTES) for each in manifests] == [True, True]
    assert manifests[1].size > LARGER * ENCODED_BYTES
    assert peaks[1] - peaks[0] < HELD_BYTES
    report = verify_range(place.store, AUDIT_LOG, FIRST, FIRST + timedelta(days=1))
    assert (report.problems, report.rows) == ([], ROWS * (1 + LARGER))


def test_memory_is_flat_when_the_table_has_lost_a_large_day_and_a_row_comes_late(place: Place) -> None:
    peaks = []
    for day, rows in enumerate((ROWS, ROWS * LARGER)):
        fill(place, day, rows)
        at = FIRST + timedelta(days=day)
        place.archive(at, at)
        place.backend.execute("delete from accounts_auditlog where created_at < %s", moment(at, 60 * 60 * 24))
        place.add([Row(place.tenants[0], moment(at, 80_000))])
        peaks.append(peak_of(partial(place.archive, at, at)))
    assert peaks[1] - peaks[0] < HELD_BYTES
    last = list(chain.follow(place.store, AUDIT_LOG.name))[-1]
    assert (last.rows, last.revision) == (ROWS * LARGER + 1, 2)
    assert len(last.files) > LARGER
    assert verify_range(place.store, AUDIT_LOG, FIRST, FIRST + timedelta(days=1)).problems == []


def test_a_large_day_of_which_some_rows_vanished_and_some_came_is_carried_over_row_for_row(place: Place) -> None:
    tenant = place.tenants[0]
    place.add([Row(tenant, moment(FIRST, number), resource_id="x" * 60) for number in range(3_000)])
    place.archive(FIRST, FIRST)
    gone = [row.id for row in place.rows[::3]]
    place.backend.execute("delete from accounts_auditlog where id = any(%s)", gone)
    place.add([Row(tenant, moment(FIRST, 40_000 + number)) for number in range(50)])
    place.archive(FIRST, FIRST)
    assert archived(place) == exactly(place.rows)
    assert verify_range(place.store, AUDIT_LOG, FIRST, FIRST).problems == []
    assert place.archive(FIRST, FIRST).objects == 0


def test_a_key_whose_type_a_migration_changed_is_the_same_key(place: Place) -> None:
    place.add([Row(place.tenants[0], moment(FIRST, number)) for number in range(20)])
    place.archive(FIRST, FIRST)
    place.backend.execute("alter table accounts_auditlog alter id type text using id::text")
    late = Row(place.tenants[0], moment(FIRST, 100))
    place.add([late])
    place.archive(FIRST, FIRST)
    found = {UUID(str(key)): count for key, count in archived(place).items()}
    assert found == dict.fromkeys([row.id for row in place.rows], 1)


def test_nothing_stays_in_the_temporary_folder(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    fill(place, 0, ROWS)
    assert place.archive(FIRST, FIRST).objects > 1
    assert place.archive(FIRST, FIRST).objects == 0
    assert list(temporary.iterdir()) == []


def test_without_room_for_a_large_day_the_run_fails_says_where_and_the_next_one_does_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place, 0, ROWS)
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name.startswith("waiting-3"):
            raise OSError(28, "No space left on device")
        return write(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(WaitingRoomError, match="TMPDIR"):
            place.archive(FIRST, FIRST)
    assert list(place.store.keys("audit/")) == []
    assert place.archive(FIRST, FIRST).rows == ROWS
