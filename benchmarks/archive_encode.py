"""Rows of the audit log into one unordered Parquet file, over a bare binary COPY of the same rows.

What reading and encoding cost when nothing is proven: the archive's own connection, reading ahead and Parquet settings,
without order, digests, objects and read-back. Target: at least 0.9 of the floor's rows per second. ROWS, TENANTS and
DAYS change the size.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.ahead import read_ahead
from adinsights_orchestration.audit_log.archive.export import connected, stream
from adinsights_orchestration.audit_log.archive.parquet import distinct, writer
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.catalog import columns_of
from benchmarks._audit_rows import Bench, filled
from benchmarks._machine import peak_memory_mb

_SIZE = {"ROWS": "5000000", "TENANTS": "200", "DAYS": "500"}
_AHEAD = 4
_ROWS_PER_GROUP = 128 * 1024


def main() -> None:
    rows, tenants, days = (int(os.environ.get(name, default)) for name, default in _SIZE.items())
    with filled(rows, tenants, days) as bench, tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        floor = bench.floor()
        with bench.measured() as cost:
            _encode(bench, file.name)
        found, size = pq.read_metadata(file.name).num_rows, os.path.getsize(file.name)  # noqa: PTH202
    if found != rows:
        raise RuntimeError(f"{found} of {rows} rows are in the file")
    figures = {
        "benchmark": "archive_encode",
        "rows": rows,
        "floor_seconds": round(floor.wall, 2),
        "seconds": round(cost.wall, 2),
        "ratio_of_floor": round(floor.wall / cost.wall, 3),
        "floor_cpu_seconds": round(floor.cpu, 2),
        "cpu_seconds": round(cost.client, 2),
        "server_cpu_seconds": round(cost.server, 2),
        "ratio_of_floor_cpu": round(floor.cpu / cost.cpu, 3),
        "peak_memory_mb": round(peak_memory_mb()),
        "bytes": size,
    }
    print(json.dumps(figures))


def _encode(bench: Bench, path: str) -> None:
    with psycopg.connect(bench.dsn) as asked, asked.cursor() as cursor:
        columns = columns_of(cursor, AUDIT_LOG)
    wanted = [sql.SQL("{} as {}").format(digest.as_archived(each), sql.Identifier(each.name)) for each in columns]
    query = sql.SQL("select {} from {} t").format(sql.SQL(", ").join(wanted), sql.Identifier(AUDIT_LOG.table))
    with connected(bench.dsn) as connection, read_ahead(stream(connection, query.as_string(None)), _AHEAD) as ahead:
        file: pq.ParquetWriter | None = None
        for table in _grouped(ahead):
            file = file or writer(path, table.schema, distinct(AUDIT_LOG, columns))
            file.write_table(table, row_group_size=_ROWS_PER_GROUP)
        if file is not None:
            file.close()


def _grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """As many rows together as one row group takes."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(len(each) for each in group) >= _ROWS_PER_GROUP:
            yield pa.Table.from_batches(group)
            group = []
    if group:
        yield pa.Table.from_batches(group)


if __name__ == "__main__":
    main()
