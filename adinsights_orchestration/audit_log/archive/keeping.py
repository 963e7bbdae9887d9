"""Rows that the archive holds of a tenant's day and the table has lost, carried over into a new revision.

Belongs here: finding them by their key, and writing them as objects of their own. Does not belong here: why the table
lost them (they were deleted when their time had come, or vanished before it, which a check reports). A day may be
large: DuckDB compares the keys, on the disk where they are many, and rows are decoded object by object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adinsights_orchestration.audit_log.archive.encoding import Encoded, Filling
from adinsights_orchestration.audit_log.archive.export import moment_of
from adinsights_orchestration.audit_log.archive.intake import Lost
from adinsights_orchestration.audit_log.model import DataFile, Digest
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.reading.scratch import private_folder
from adinsights_orchestration.audit_log.source import Column
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.table.statements import midnight

_MICROSECONDS = 1_000_000
_DAY = 86_400 * _MICROSECONDS
_LOST = "audit_log_lost"


def lost_rows(store: Store, archived: Sequence[DataFile], live: Filling) -> tuple[Lost, ...]:
    """What the archived files hold of a tenant's day whose key is in none of the live rows; by schema.

    Args:
        store: Where the archived files are.
        archived: The files of the revision in force.
        live: The table's rows of that day, just encoded.

    Raises:
        ContentError: An archived file is missing or changed.
    """
    found: list[Lost] = []
    with private_folder() as folder, reader.fetched(store, archived, 1) as paths, reader.database(folder) as connection:
        ours = list(_on_disk(live.objects, folder, "live"))
        for columns in dict.fromkeys(file.columns for file in archived):
            theirs = [str(paths[file.key]) for file in archived if file.columns == columns]
            _compare(connection, live, columns, theirs, ours)
            found += _carried_over(connection, live, columns, theirs, folder)
    return tuple(found)


def _on_disk(objects: Sequence[Encoded], folder: Path, name: str) -> Iterator[str]:
    for number, encoded in enumerate(objects):
        if isinstance(encoded.waits, Path):
            yield str(encoded.waits)
        else:
            path = folder / f"{name}-{number}.parquet"
            path.write_bytes(encoded.waits)
            yield str(path)


def _compare(
    connection: duckdb.DuckDBPyConnection, live: Filling, columns: Sequence[Column], theirs: list[str], ours: list[str]
) -> None:
    """Leaves a table of the archived rows that no live one has the key of: in which file, and at which place."""
    source = live.source
    start = int(midnight(live.day).timestamp()) * _MICROSECONDS
    then, now = _by_name(columns), _by_name(live.columns)
    same_key = " and ".join(
        f"{_key('theirs', name, cast)} is not distinct from {_key('ours', name, cast)}"
        for name in source.keys
        for cast in ("" if then[name].kind is now[name].kind else "::varchar",)  # a key whose type a migration changed
    )
    try:
        connection.execute(
            f"""
            create or replace temp table {_LOST} as
            select file.number::integer as file, theirs.file_row_number as place
              from read_parquet(?, filename = '{reader.OBJECT}', file_row_number = true, hive_partitioning = false)
                   theirs
              join (select unnest(?) as name, unnest(range(?)) as number) file on theirs.{reader.OBJECT} = file.name
              anti join read_parquet(?, hive_partitioning = false) ours on {same_key}
             where epoch_us(theirs."{source.time}") >= {start} and epoch_us(theirs."{source.time}") < {start + _DAY}
            """,  # noqa: S608  (names of a declaration, and numbers)
            [theirs, theirs, len(theirs), ours],
        )
    except duckdb.Error as error:
        raise ContentError(
            f"archived rows cannot be compared with the table's ({type(error).__name__})",
            place=f"tenant {live.tenant} on {live.day}",
        ) from None


def _carried_over(
    connection: duckdb.DuckDBPyConnection,
    live: Filling,
    columns: tuple[Column, ...],
    theirs: Sequence[str],
    folder: Path,
) -> list[Lost]:
    filling = Filling(live.source, columns, live.tenant, live.day, live.limit, live.room)
    bounds: list[int] = []
    for number, name in enumerate(theirs):
        query = f"select place from {_LOST} where file = ? order by place"  # noqa: S608  (a name of ours)
        places = connection.execute(query, [number]).fetchnumpy()["place"]
        if not len(places):
            continue
        rows = pq.ParquetFile(name).read(use_threads=False).take(pa.array(places))
        limits = pc.min_max(rows.column(live.source.time).cast(pa.int64())).as_py()
        bounds += [limits["min"], limits["max"]]
        for batch in rows.to_batches():
            filling.add(batch)
    filling.flush()
    if not filling.objects:
        return []
    # What is read back from the store is held against this, and both against the revision that it comes from.
    held = reader.content_of_files(connection, live.source, columns, list(_on_disk(filling.objects, folder, "lost")))
    content = Digest(held.rows, held.portable)
    return [Lost(tuple(filling.objects), content, moment_of(min(bounds)), moment_of(max(bounds)))]


def _by_name(columns: Sequence[Column]) -> Mapping[str, Column]:
    return {column.name: column for column in columns}


def _key(side: str, name: str, cast: str) -> str:
    return f'{side}."{name}"{cast}'
