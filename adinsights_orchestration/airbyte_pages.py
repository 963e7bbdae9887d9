"""Pages of Airbyte's UI that people are sent to.

Belongs here: their addresses. Does not belong here: Airbyte's APIs (`ingestion.airbyte_api`). The UI has a connection
only below its workspace: any other address is answered with the start page of whichever workspace comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from adinsights_orchestration.settings import AirbyteSettings


@dataclass(frozen=True, slots=True)
class AirbytePages:
    """Addresses below one Airbyte UI.

    Attributes:
        url: Its base URL, without a slash at its end.
        workspace: The only workspace there is, where the settings name exactly one.
    """

    url: str
    workspace: UUID | None = None

    @classmethod
    def of(cls, settings: AirbyteSettings) -> AirbytePages:
        """The addresses of a deployment."""
        named = settings.workspace_ids
        return cls(settings.ui_url.rstrip("/"), named[0] if len(named) == 1 else None)

    def connection(self, workspace_id: UUID | None, connection_id: UUID, job: int | None = None) -> str:
        """A connection's timeline, with a job's log open in it; the start page where no workspace is known.

        Args:
            workspace_id: The connection's workspace, as the registry has it.
            connection_id: Which connection.
            job: The job to show.
        """
        workspace = workspace_id or self.workspace
        if workspace is None:
            return self.url
        page = f"{self.url}/workspaces/{workspace}/connections/{connection_id}/timeline"
        return page if job is None else f"{page}?openLogs=true&jobId={job}"
