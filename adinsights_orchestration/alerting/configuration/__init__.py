"""What a deployment says about its alerts: one file, read once, refused with file and line.

Belongs here: its shape. Does not belong here: what its values mean (`matching`, `telling`).
"""
