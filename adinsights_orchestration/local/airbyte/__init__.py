"""An Airbyte server in one process: its two HTTP APIs, its jobs and attempts, and its failures.

Belongs here: what a self-managed Airbyte does, as far as an orchestrator can see it. Does not belong here: the
connectors (`local/connectors`), which its executor runs. It stands for a server that is somebody else's, so it never
offers a field or a behaviour that a real one lacks.
"""
