"""What the archive holds of a tenant's day held against the table: rows that it has lost, and rows that were changed.

Belongs here: finding them by their key, and writing the lost ones as objects of their own, carried over into a new
revision; the others are counted. Does not belong here: why the table lost them (they were deleted when their time had
come, or vanished before it, which a check reports), or who changed them: the backend does, when it deletes a user. A
day may be large: DuckDB compares the keys, on the disk where they are many, and rows are decoded object by object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from adinsights_orchestration.audit_log.source import Column, Kind
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.table.statements import midnight

_MICROSECONDS = 1_000_000
_DAY = 86_400 * _MICROSECONDS
_DIFFERS = "audit_log_differs"


@dataclass(frozen=True, slots=True)
class Differing:
    """What of a tenant's day the table does not hold as it was archived.

    Attributes:
        lost: Rows whose key is in none of the live rows; by schema.
        changed: How many rows have their key in both, and another content in a column that both have.
    """

    lost: tuple[Lost, ...] = ()
    changed: int = 0


def differing(store: Store, archived: Sequence[DataFile], live: Filling) -> Differing:
    """Compares the archived files of a tenant's day with the live rows.

    Args:
        store: Where the archived files are.
        archived: The files of the revision in force.
        live: The table's rows of that day, just encoded.

    Raises:
        ContentError: An archived file is missing or changed.
    """
    lost: list[Lost] = []
    changed = 0
    with private_folder() as folder, reader.fetched(store, archived, 1) as paths, reader.database(folder) as connection:
        ours = list(_on_disk(live.objects, folder, "live"))
        for columns in dict.fromkeys(file.columns for file in archived):
            theirs = [str(paths[file.key]) for file in archived if file.columns == columns]
            changed += _compare(connection, live, columns, theirs, ours)
            lost += _carried_over(connection, live, columns, theirs, folder)
    return Differing(tuple(lost), changed)


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
) -> int:
    """Counts the archived rows that differ from the live one of their key.

    Leaves a table of those that no live one has the key of: in which file, and at which place.
    """
    source = live.source
    start = int(midnight(live.day).timestamp()) * _MICROSECONDS
    then, now = _by_name(columns), _by_name(live.columns)
    both = [(column, now[column.name]) for column in columns if column.name in now]
    keys = ", ".join(f"{_value('live', now[key], then[key])} as key_{place}" for place, key in enumerate(source.keys))
    same_key = " and ".join(
        f"{_value('theirs', then[key], now[key])} is not distinct from ours.key_{place}"
        for place, key in enumerate(source.keys)
    )
    old = ", ".join(_value("theirs", old, new) for old, new in both)
    new = ", ".join(_value("live", new, old) for old, new in both)
    try:
        connection.execute(
            f"""
            create or replace temp table {_DIFFERS} as
            select file.number::integer as file, theirs.file_row_number as place, ours.content is null as lost
              from read_parquet(?, filename = '{reader.OBJECT}', file_row_number = true, hive_partitioning = false)
                   theirs
              join (select unnest(?) as name, unnest(range(?)) as number) file on theirs.{reader.OBJECT} = file.name
              left join (
                select {keys}, hash({new}) as content from read_parquet(?, hive_partitioning = false) live
              ) ours on {same_key}
             where epoch_us(theirs."{source.time}") >= {start} and epoch_us(theirs."{source.time}") < {start + _DAY}
               and ours.content is distinct from hash({old})
            """,  # noqa: S608  (names of a declaration and of columns, quoted, and numbers)
            [theirs, theirs, len(theirs), ours],
        )
        found = connection.execute(f"select count(*) from {_DIFFERS} where not lost").fetchone()  # noqa: S608  (ours)
    except duckdb.Error as error:
        raise ContentError(
            f"archived rows cannot be compared with the table's ({type(error).__name__})",
            place=f"tenant {live.tenant} on {live.day}",
        ) from None
    return int(found[0]) if found is not None else 0


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
        query = f"select place from {_DIFFERS} where file = ? and lost order by place"  # noqa: S608  (a name of ours)
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


def _value(side: str, column: Column, other: Column) -> str:
    """A column of one side, as text where a migration changed how it stands in the archive, spelt as in the digest."""
    name = f'{side}."{column.name.replace(chr(34), chr(34) * 2)}"'
    if column.kind is other.kind:
        return name
    return f"epoch_us({name})::varchar" if column.kind is Kind.MOMENT else f"{name}::varchar"
