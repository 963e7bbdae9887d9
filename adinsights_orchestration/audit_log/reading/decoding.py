"""Rows of archived objects in Arrow, for whoever takes them on: into a table again, or into other objects.

Belongs here: decoding an object that was fetched, and taking a day out of it. Does not belong here: fetching it, and
proving what it holds, for which DuckDB decodes it anew (`reader`).
"""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adinsights_orchestration.audit_log.model import DataFile
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.table.statements import midnight

_MICROSECONDS = 1_000_000


def decoded(file: DataFile, content: bytes) -> pa.Table:
    """An object's rows.

    Raises:
        ContentError: Its bytes are no Parquet, or not what their checksums say.
    """
    try:
        return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ContentError(f"the object cannot be read ({type(error).__name__})", place=file.key) from None


def of_day(source: Source, table: pa.Table, day: date) -> pa.Table:
    """The rows of a day; an object of a month holds other days of the tenant too."""
    times = table.column(source.time).cast(pa.int64())
    first, end = (int(midnight(each).timestamp()) * _MICROSECONDS for each in (day, day + timedelta(days=1)))
    limits = pc.min_max(times).as_py()
    if limits["min"] is None or (limits["min"] >= first and limits["max"] < end):
        return table
    return table.filter(pc.and_(pc.greater_equal(times, first), pc.less(times, end)))
