"""One asynchronous function a component: it asks, and returns a reading of whatever it met.

Belongs here: asking, and what an answer means. Does not belong here: keeping readings (`states`, `samples`), the order
of a tick (`tick`).
"""
