"""The six ad and analytics platforms, played over HTTP: deterministic, seeded, with fault knobs.

Belongs here: what an account contains (`world`), how each platform speaks about it (one module each) and how it fails
(`faults`). Does not belong here: anything that reads these APIs; connectors know them only by their base URL.
"""
