"""Freshness: what is due, what is late, and how it is shown."""
