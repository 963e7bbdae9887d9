"""The edges to the Django backend: its database, its audit log."""
