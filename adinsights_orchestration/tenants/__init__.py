"""Who is served: tenants, their connections, and the registry they are read from."""
