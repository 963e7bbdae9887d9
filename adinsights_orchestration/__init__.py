"""ADinsights Orchestration: the Dagster control room of the ADinsights marketing analytics platform.

The package holds two code locations (`locations/`), the domains they are made of (one folder each), and the
command line `adinsights`. `build.py` alone puts the domains together; everything else is reached from there.
"""

__version__ = "0.1.0"
