"""At which revision the ops store's schema is, held against the revisions that this release knows.

Belongs here: Alembic's configuration, reading a revision, and the release that brought the schema there. Does not
belong here: migrating (`store`). After a way back to an older release the schema is newer than the code. That is no
fault: revisions only add what older code ignores, and a test holds them to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from adinsights_orchestration import __version__
from adinsights_orchestration.ops_store.tables import SCHEMA

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = f"{SCHEMA}.alembic_version"  # Alembic's own table; its comment is the release
_RELEASE = sa.text("select obj_description(to_regclass(:name), 'pg_class')")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the schema stands.

    Attributes:
        revision: Its revision; None before the first one.
        newest: The newest revision that this release knows.
        is_newer: Whether this release does not know its revision: a newer one brought it there.
        release: The release that brought it there; empty where that is not known.
    """

    revision: str | None
    newest: str
    is_newer: bool
    release: str

    @property
    def said(self) -> str:
        """The sentence about a schema that is newer."""
        of = f", of release {self.release}" if self.release else ""
        return (
            f"the ops store's schema is newer (revision {self.revision}{of}) than release {__version__} knows "
            f"(revision {self.newest})"
        )


def standing(connection: sa.Connection) -> Standing:
    """Returns where the schema stands."""
    context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
    revision = context.get_current_revision()
    known = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    release = connection.execute(_RELEASE, {"name": _VERSIONS}).scalar_one()
    return Standing(revision, known[0], revision is not None and revision not in known, release or "")


def keep_release(connection: sa.Connection) -> None:
    """Notes that this release brought the schema to where it is."""
    connection.exec_driver_sql(f"comment on table {_VERSIONS} is '{__version__}'")


def alembic_config() -> Config:
    """Alembic's configuration, made in code so that no ini file has to travel with the package."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
