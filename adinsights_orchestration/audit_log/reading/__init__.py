"""The archive read back, by a program that is not the one that wrote it.

Belongs here: taking objects back, holding them against what they must hold, and questions to the archive. Does not
belong here: writing anything. Read `reader` first, then `verify`, which proves a range from the store alone.
"""
