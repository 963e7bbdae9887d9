"""What leaves the archive or is written anew in it: expiry, off-boarding, erasure, compaction, mending.

Belongs here: what is to leave and why, and the one protocol by which it does. Does not belong here: rows that leave the
table (`retention`). Read `removing` first, which is that protocol, then the reason in question.
"""
