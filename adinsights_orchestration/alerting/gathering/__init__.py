"""Facts read: from the ops store, from Dagster's event log, from disks.

Belongs here: reading, in a number of statements that does not grow, and knowing when nothing needs to be read. Does not
belong here: concluding (`rules`). Read `reading` first; `standing` is what is kept between two evaluations, `marks`
tells whether that still holds.
"""
