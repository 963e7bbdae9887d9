"""The doctor: every setting held against the world, with what is wrong and how to mend it.

Belongs here: checks, the world that they look at, running them all at once within a deadline. Does not belong here:
mending anything (the doctor only reads), printing (`cli/doctor.py`), watching over time (health probes and alerts). A
check is a function of the `World` that returns one verdict; a server that hangs costs its own checks, not the report.
"""
