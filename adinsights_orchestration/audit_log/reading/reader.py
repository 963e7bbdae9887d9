"""The independent reader: takes objects back from the store and says what they hold.

Belongs here: fetching, hashing, and DuckDB over the objects. Does not belong here: what they should hold (`proving`,
`verify`). It shares no code with the writer: another Parquet implementation decodes the bytes that the store gives
back, and computes the digest anew from the rows it finds. What comes over a wire is put into a private folder for it;
what lies in a folder of this machine is hashed and decoded where it lies, and must be the same file afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE, hash_of
from adinsights_orchestration.audit_log.model import DataFile
from adinsights_orchestration.audit_log.reading.scratch import private_folder
from adinsights_orchestration.audit_log.source import NOBODY, Column, Source
from adinsights_orchestration.audit_log.store.contract import InPlace, Store
from adinsights_orchestration.audit_log.store.errors import AwayError, MissingObjectError
from adinsights_orchestration.errors import AdinsightsError

_DAY_MICROSECONDS = 86_400_000_000
_EPOCH = date(1970, 1, 1)
_MEMORY = "192MB"
OBJECT = "adinsights_object"  # the column of the file's name: that of DuckDB's may be one of the table's


class ContentError(AdinsightsError):
    """An object is missing, changed, or holds something else than it should; what to do is the same for all of them."""

    def __init__(self, problem: str, *, place: str = "") -> None:
        super().__init__(problem, next_step=ADVICE, place=place)


@dataclass(frozen=True, slots=True)
class Held:
    """What a file holds of one tenant's day."""

    rows: int
    portable: int


def fetch(store: Store, file: DataFile) -> bytes:
    """An object's bytes, which must be those that were written.

    Raises:
        ContentError: It is missing or has been changed.
    """
    try:
        content = store.get(file.key)
    except MissingObjectError:
        raise _missing(file) from None
    if len(content) != file.size or hash_of(content) != file.sha256:
        raise _changed(file)
    return content


def contents(
    store: Store, source: Source, files: Sequence[DataFile], at_once: int
) -> dict[str, dict[tuple[UUID, date], Held]]:
    """What each of these files holds, by its key, then by tenant and day."""
    found: dict[str, dict[tuple[UUID, date], Held]] = {}
    with fetched(store, files, at_once) as paths, database() as connection:
        for columns in {file.columns for file in files}:
            same = {str(paths[file.key]): file.key for file in files if file.columns == columns}
            for name, tenant, day, rows, portable in _read(connection, source, columns, list(same)):
                found.setdefault(same[name], {})[tenant, day] = Held(rows, portable)
    return found


def contents_of_bytes(source: Source, columns: Sequence[Column], content: bytes) -> dict[tuple[UUID, date], Held]:
    """What an object holds that is not in the store yet, by tenant and day."""
    with private_folder() as folder, database() as connection:
        path = folder / "0.parquet"
        path.write_bytes(content)
        read = _read(connection, source, columns, [str(path)])
        return {(tenant, day): Held(rows, portable) for _, tenant, day, rows, portable in read}


def content_of_files(
    connection: duckdb.DuckDBPyConnection, source: Source, columns: Sequence[Column], paths: Iterable[str]
) -> Held:
    """What files hold together that are not in the store yet, all of the same columns."""
    read = [(rows, portable) for _, _, _, rows, portable in _read(connection, source, columns, paths)]
    return Held(sum(rows for rows, _ in read), sum(portable for _, portable in read))


@contextmanager
def fetched(store: Store, files: Sequence[DataFile], at_once: int) -> Iterator[dict[str, Path]]:
    """Files with the objects' bytes, checked, for the body's time; by key.

    Raises:
        ContentError: One is missing or has been changed, before or while the body read it.
    """
    wanted = {file.key: file for file in files}
    with private_folder() as folder:

        def take(numbered: tuple[int, DataFile]) -> tuple[str, Path | InPlace]:
            number, file = numbered
            if (lies := _in_place(store, file)) is not None:
                return file.key, lies
            path = folder / f"{number}.parquet"
            path.write_bytes(fetch(store, file))
            return file.key, path

        with ThreadPoolExecutor(at_once) as pool:
            found = dict(pool.map(take, enumerate(wanted.values())))
        lying = {key: each for key, each in found.items() if isinstance(each, InPlace)}
        try:
            yield {key: each.path if isinstance(each, InPlace) else each for key, each in found.items()}
        except Exception:
            _require_untouched(lying, wanted)  # says more than whoever could not read it
            raise
        _require_untouched(lying, wanted)


def _in_place(store: Store, file: DataFile) -> InPlace | None:
    try:
        found = store.in_place(file.key)
    except MissingObjectError:
        raise _missing(file) from None
    if found is not None and (found.size, found.sha256) != (file.size, file.sha256):
        raise _changed(file)
    return found


def _require_untouched(lying: Mapping[str, InPlace], files: Mapping[str, DataFile]) -> None:
    for key, each in lying.items():
        if not each.untouched():
            raise _changed(files[key]) if each.path.exists() else _missing(files[key])


def _missing(file: DataFile) -> ContentError:
    return ContentError("the object is missing", place=file.key)


def _changed(file: DataFile) -> ContentError:
    return ContentError("the object's bytes have changed", place=file.key)


@contextmanager
def database(spill: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in memory, bounded, which loads nothing from anywhere; what does not fit goes to the folder `spill`."""
    connection = duckdb.connect(
        config={
            **({"temp_directory": str(spill)} if spill is not None else {}),
            "memory_limit": _MEMORY,
            "threads": 2,
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": False,
        }
    )
    try:
        yield connection
    finally:
        connection.close()


def _read(
    connection: duckdb.DuckDBPyConnection, source: Source, columns: Sequence[Column], paths: Iterable[str]
) -> Iterator[tuple[str, UUID, date, int, int]]:
    tenant = f'"{source.tenant}"' if source.tenant else "null"
    query = f"""
        select {OBJECT}, {tenant}, epoch_us("{source.time}") // {_DAY_MICROSECONDS}, count(*),
               sum({digest.portable_in_duckdb(columns)})
          from read_parquet(?, filename = '{OBJECT}', hive_partitioning = false) group by 1, 2, 3"""  # noqa: S608  (names of a declaration)
    try:
        rows: list[Any] = connection.execute(query, [list(paths)]).fetchall()
    except duckdb.Error as error:
        raise ContentError(f"an object cannot be read ({type(error).__name__})") from None
    for name, whose, day, count, portable in rows:
        yield str(name), UUID(str(whose)) if whose else NOBODY, _EPOCH + timedelta(days=int(day)), count, int(portable)


def unreadable(
    store: Store, files: Sequence[DataFile], at_once: int, errors: tuple[type[Exception], ...] = (ContentError,)
) -> dict[str, str]:
    """Of these objects, those that the store does not give back as they were sealed, and why; nothing is decoded.

    Args:
        store: Where they are.
        files: The objects.
        at_once: How many are fetched at once.
        errors: What counts as that; anything else is raised, and a store that is away is.
    """

    def look(file: DataFile) -> tuple[str, str]:
        try:
            fetch(store, file)
        except AwayError:
            raise  # asked of each object in turn, it would be waited for each time
        except errors as error:
            return file.key, str(error)
        return file.key, ""

    with ThreadPoolExecutor(at_once) as pool:
        return {key: problem for key, problem in pool.map(look, files) if problem}


def rows_of_bytes(content: bytes) -> int:
    """How many rows an object holds of which nobody knows anything; 0 where it is no Parquet."""
    with private_folder() as folder, database() as connection:
        path = folder / "0.parquet"
        path.write_bytes(content)
        try:
            found = connection.execute("select count(*) from read_parquet(?)", [str(path)]).fetchone()
        except duckdb.Error:
            return 0
    return int(found[0]) if found is not None else 0
