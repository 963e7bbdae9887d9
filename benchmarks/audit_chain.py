"""Reading a long chain of manifests: a year of 200 tenants, each month compacted in the next, and no object.

DAYS and TENANTS change the size. What is measured is CPU, and peak memory over that of a process that has imported all;
each in a process of its own: proving the chain and its rules (`verify`), what expiry and compaction ask of it
(`by_month`), what erasure and off-boarding do (`of_a_tenant`), and a question about one week with the ledger's
knowledge of it and without.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import tempfile
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import Known
from adinsights_orchestration.audit_log.bookkeeping.links import Links
from adinsights_orchestration.audit_log.bookkeeping.manifest import Manifest, ManifestKind, newest
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing
from adinsights_orchestration.audit_log.model import At, Cause, Chunk, DataFile, Digest, Gone
from adinsights_orchestration.audit_log.reading.choosing import choose
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Column
from adinsights_orchestration.audit_log.store.folder import Folder
from benchmarks._machine import peak_memory_mb

FIRST = date(2024, 1, 1)
_COLUMNS = tuple(
    Column(name, type_)
    for name, type_ in (
        *(("id", "uuid"), ("tenant_id", "uuid"), ("user_id", "uuid"), ("action", "character varying(128)")),
        *(("resource_type", "character varying(64)"), ("resource_id", "character varying(64)")),
        *(("metadata", "jsonb"), ("created_at", "timestamp with time zone")),
    )
)
_WAYS = ("verify", "by_month", "of_a_tenant", "week_by_ledger", "week_alone")


def main() -> None:
    days, tenants = int(os.environ.get("DAYS", "365")), int(os.environ.get("TENANTS", "200"))
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, fresh.Pool(1, maxtasksperchild=1) as pool:
        known, size = pool.apply(_write, (folder, days, tenants))
        for way in _WAYS:
            figures = pool.apply(_measure, (folder, way, known, days))
            print(json.dumps({"benchmark": "audit_chain", "days": days, "tenants": tenants, "bytes": size, **figures}))


def _measure(folder: str, way: str, known: Known, days: int) -> dict[str, object]:
    store, name, last = Folder(Path(folder)), AUDIT_LOG.name, FIRST + timedelta(days=days - 1)
    before, began = peak_memory_mb(), time.process_time()
    if way == "verify":
        report = verify_range(store, AUDIT_LOG, FIRST, last, only=lambda _: False)
        if report.problems or report.manifests != known.number:
            raise RuntimeError(f"{report.manifests} manifests, {report.problems[:3]}")
    elif way == "by_month":
        links = Links(store, name)
        links.follow()
        for month in links.months:
            links.standing(month)
    elif way == "of_a_tenant":
        links, found, one = Links(store, name), Standing(), None
        links.follow()
        for month in links.months:
            standing = links.standing(month)
            one = one or min(tenant for tenant, _ in standing.in_force)
            found.take_in(standing, partial(_of, one))
    else:
        fold = partial(newest, wanted=_in_the_week)
        choose(store, AUDIT_LOG, known if way == "week_by_ledger" else None, fold)
    cpu = time.process_time() - began
    return {"what": way, "cpu_seconds": round(cpu, 2), "memory_mb": round(peak_memory_mb() - before)}


def _of(tenant: UUID, at: At) -> bool:
    return at[0] == tenant


def _in_the_week(at: At) -> bool:
    return FIRST <= at[1] < FIRST + timedelta(days=7)


def _write(folder: str, days: int, tenants: int) -> tuple[Known, int]:
    """Writes the chain; returns what a ledger would know of its first week, and how large it is."""
    store, rng = Folder(Path(folder)), random.Random(1)
    whose = sorted(UUID(int=rng.getrandbits(128), version=4) for _ in range(tenants))
    written, size = list[Manifest](), 0
    month: list[tuple[Chunk, DataFile]] = []

    def add(kind: ManifestKind, first: date, last: date, what: list[tuple[Chunk, DataFile]], gone: Gone | None) -> None:
        nonlocal size
        files = {file.key: file for _, file in what}
        manifest = Manifest(
            source=AUDIT_LOG.name,
            sequence=len(written) + 1,
            previous=written[-1].hash if written else "",
            kind=kind,
            first_day=first,
            last_day=last,
            revision=1 if gone is None else 0,
            chunks=tuple(chunk for chunk, _ in what),
            files=tuple(files[key] for key in sorted(files)),
            written_at=datetime(2026, 1, 1, tzinfo=UTC),
            gone=gone,
        )
        chain.append(store, manifest)
        written.append(manifest)
        size += len(manifest.to_bytes())

    for number in range(days):
        day = FIRST + timedelta(days=number)
        its = [_chunk(rng, tenant, day) for tenant in whose]
        add(ManifestKind.DAY, day, day, its, None)
        month += its
        if (day + timedelta(days=1)).day == 1:
            gone = Gone(Cause.COMPACTED, "benchmark", UUID(int=1), (), tuple(file for _, file in month))
            add(ManifestKind.COMPACTION, month[0][0].day, day, _compacted(rng, month), gone)
            month = []
    week = [each for each in written if each.first_day < FIRST + timedelta(days=7)]
    mine = tuple((each.sequence, each.hash) for each in week)
    return Known(mine, len(written), written[-1].hash), size


def _chunk(rng: random.Random, tenant: UUID, day: date) -> tuple[Chunk, DataFile]:
    rows, portable = rng.randrange(20, 900), rng.getrandbits(68)
    file = _file(rng, tenant, chain.day_period(day), rows)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    bounds = (start + timedelta(seconds=rng.random() * 9_000), start + timedelta(seconds=80_000 + rng.random() * 6_000))
    live = Digest(rows, portable, rng.getrandbits(68))
    return Chunk(tenant, day, 1, rows, portable, live, *bounds, (file.key,)), file


def _compacted(rng: random.Random, month: list[tuple[Chunk, DataFile]]) -> list[tuple[Chunk, DataFile]]:
    rows: dict[UUID, int] = {}
    for chunk, _ in month:
        rows[chunk.tenant] = rows.get(chunk.tenant, 0) + chunk.rows
    period = chain.month_period(month[0][0].day)
    files = {tenant: _file(rng, tenant, period, count) for tenant, count in rows.items()}
    return [(replace(chunk, files=(files[chunk.tenant].key,)), files[chunk.tenant]) for chunk, _ in month]


def _file(rng: random.Random, tenant: UUID, period: str, rows: int) -> DataFile:
    sha256 = f"{rng.getrandbits(256):064x}"
    return DataFile(chain.data_key(AUDIT_LOG.name, tenant, period, sha256), sha256, 40 * rows, rows, _COLUMNS)


if __name__ == "__main__":
    main()
