"""Rows as Parquet, in memory: zstd, page checksums, exact types.

Belongs here: encoding. Does not belong here: reading it back, which another reader does (`reader`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_PER_GROUP = 128 * 1024
_LEVEL = 3


def encode(batches: Sequence[pa.RecordBatch]) -> bytes:
    """One Parquet file of these batches, in their order; at least one."""
    sink = io.BytesIO()
    with writer(sink, batches[0].schema) as file:
        file.write_table(pa.Table.from_batches(batches), row_group_size=_ROWS_PER_GROUP)
    return sink.getvalue()


def writer(sink: object, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer with the archive's settings."""
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=_LEVEL,
        write_page_checksum=True,
        store_schema=False,  # what the file says of its types must not need Arrow to be understood
        coerce_timestamps=None,
    )
