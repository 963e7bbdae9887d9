"""What is archived and deleted by age: the declaration of an append-only table.

Belongs here: the declaration, the columns as they were found, and the tables that are declared. Does not belong here:
SQL (`digest`, `table.statements`, `archive.export`), or anything that is decided per tenant (`windows`). A table
qualifies when a row is never changed for its meaning once it is written, and one of its columns tells when that was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from adinsights_orchestration.errors import AdinsightsError, ConfigurationError

NOBODY = UUID(int=0)  # whose the rows of a table without tenants are
_DECLARE = "Name another column in the declaration of the table, or give this one that type."
_TAKEN = frozenset(("file_row_number", "adinsights_object", "adinsights_portable", "adinsights_fast"))
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Archive(StrEnum):
    """Whether rows may go without having been archived."""

    REQUIRED = "required"
    OFF = "off"


class Place(StrEnum):
    """In which database a table lies."""

    BACKEND = "backend"
    OPS_STORE = "ops_store"


class Kind(StrEnum):
    """How a column stands in the archive; whatever has no kind of its own stands there as Postgres's text for it."""

    UUID = "uuid"
    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    MOMENT = "moment"  # timestamptz, to the microsecond, in UTC
    OTHER = "other"


_KINDS = {
    "uuid": Kind.UUID,
    "text": Kind.TEXT,
    "character varying": Kind.TEXT,
    "smallint": Kind.INTEGER,
    "integer": Kind.INTEGER,
    "bigint": Kind.INTEGER,
    "boolean": Kind.BOOLEAN,
    "timestamp with time zone": Kind.MOMENT,
}


class SourceError(AdinsightsError):
    """A table is not what its declaration says; nothing was archived or deleted."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as Postgres has it.

    Attributes:
        name: Its name.
        type: Its type as `format_type` writes it: `character varying(128)`, `jsonb`.
    """

    name: str
    type: str

    @property
    def kind(self) -> Kind:
        """How it stands in the archive."""
        return _KINDS.get(self.plain_type, Kind.OTHER)

    @property
    def plain_type(self) -> str:
        """Its type without length or precision: `character varying`, `timestamp with time zone`."""
        return re.sub(r" ?\(.*?\)", "", self.type).strip()


@dataclass(frozen=True, slots=True)
class Source:
    """An append-only table.

    Attributes:
        name: Names it in the archive, the ledger and on the command line; never changes.
        table: The table, with its schema where the search path does not find it.
        time: The timestamptz column that tells a row's age.
        keys: Columns that tell rows of one moment apart; the primary key.
        tenant: The uuid column that tells whose a row is; None where rows belong to nobody.
        place: The database that it lies in.
        archive: Whether rows may go unarchived.
        window_days: For how long rows are kept, whatever a contract says; None: as each tenant's contract says.
        action: The column that tells what was done; None where the table has none.
        resource_type: The column that a hold on a resource reads; None where the table has none.
        resource_id: The same.
        person: The column that tells who caused a row; None where the table has none.
        only: SQL condition on `t` that a row must meet to be deleted at all: `t.closed_at is not null`. Not with an
            archive: a day is proven and deleted as a whole.
    """

    name: str
    table: str
    time: str
    keys: tuple[str, ...]
    tenant: str | None = None
    place: Place = Place.BACKEND
    archive: Archive = Archive.REQUIRED
    window_days: int | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    person: str | None = None
    only: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"{self.name!r} cannot name a table in the archive", next_step="Use a-z, 0-9 and _; at most 63."
            )
        if not self.keys:
            raise ConfigurationError(f"{self.name} names no key", next_step="Name the columns of its primary key.")
        if self.tenant is None and self.window_days is None:
            raise ConfigurationError(
                f"{self.name} has neither tenants nor a window", next_step="Say for how many days its rows are kept."
            )
        if self.only is not None and self.archive is not Archive.OFF:
            raise ConfigurationError(
                f"{self.name} has an archive, and a condition that only some of its rows meet",
                next_step="Leave the condition out, or declare the table with `archive=Archive.OFF`.",
            )

    @property
    def schema_and_table(self) -> tuple[str, ...]:
        """The table's name in its parts, to be quoted one by one."""
        return tuple(self.table.split("."))

    def check(self, columns: Sequence[Column]) -> None:
        """Refuses a table that lacks what the declaration names, or has it with another type."""
        found = {column.name: column for column in columns}
        named = (self.time, *self.keys, *filter(None, (self.tenant, self.resource_type, self.resource_id)))
        if missing := sorted({name for name in named if name not in found}):
            raise SourceError(
                f"{self.table} has no column {', '.join(missing)}",
                next_step="Check that the address names the right database, and the declaration of the table.",
            )
        if taken := sorted(_TAKEN & found.keys()):
            raise SourceError(
                f"{self.table} has a column {', '.join(taken)}, a name that the archive's reader needs itself",
                next_step="Rename the column; nothing else in the archive depends on it.",
            )
        if found[self.time].kind is not Kind.MOMENT:
            raise SourceError(
                f"{self.table}.{self.time} is {found[self.time].type}, not timestamp with time zone",
                next_step=_DECLARE,
            )
        if self.tenant and found[self.tenant].kind is not Kind.UUID:
            raise SourceError(f"{self.table}.{self.tenant} is {found[self.tenant].type}, not uuid", next_step=_DECLARE)


AUDIT_LOG = Source(
    name="accounts_auditlog",
    table="accounts_auditlog",
    time="created_at",
    keys=("id",),
    tenant="tenant_id",
    action="action",
    resource_type="resource_type",
    resource_id="resource_id",
    person="user_id",
)
