"""Topology: what the pipelines location consists of, as monitoring knows it."""
