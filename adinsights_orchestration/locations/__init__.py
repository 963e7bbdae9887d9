"""The two code locations that `workspace.yaml` loads."""
