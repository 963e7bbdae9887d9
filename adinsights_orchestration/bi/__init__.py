"""What people look at: Superset's dashboards as assets downstream of the marts."""
