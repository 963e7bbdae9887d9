"""How a command ends that says something with its exit code.

Belongs here: that one thing. Does not belong here: what the codes mean (each command's own docstring, `entry`). A
command line that is used wrongly ends with a code too, and must not say what the command would have said.
"""

from __future__ import annotations


class Concluded(SystemExit):
    """The command did what it was asked, and this is what it says."""
