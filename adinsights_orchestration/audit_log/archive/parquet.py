"""Rows as Parquet, in memory: zstd, page checksums, exact types.

Belongs here: encoding. Does not belong here: reading it back, which another reader does (`reading.reader`).
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from adinsights_orchestration.audit_log.source import Column, Kind, Source

_ROWS_PER_GROUP = 128 * 1024
_LEVEL = 1  # hashes and addresses gain nothing from a higher one, which costs half as much again


def distinct(source: Source, columns: Sequence[Column]) -> frozenset[str]:
    """Columns of which hardly two rows hold the same: a dictionary of their values would only be one more copy."""
    return frozenset({*source.keys, source.time, *(column.name for column in columns if column.kind is Kind.OTHER)})


def encode(batches: Sequence[pa.RecordBatch], without_dictionary: Collection[str] = ()) -> bytes:
    """One Parquet file of these batches, in their order; at least one."""
    sink = io.BytesIO()
    with writer(sink, batches[0].schema, without_dictionary) as file:
        file.write_table(pa.Table.from_batches(batches), row_group_size=_ROWS_PER_GROUP)
    return sink.getvalue()


def writer(sink: object, schema: pa.Schema, without_dictionary: Collection[str] = ()) -> pq.ParquetWriter:
    """A writer with the archive's settings."""
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=[name for name in schema.names if name not in without_dictionary],
        write_page_checksum=True,
        store_schema=False,  # what the file says of its types must not need Arrow to be understood
        coerce_timestamps=None,
    )
