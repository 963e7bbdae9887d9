"""Measurements of claims that the project makes about itself, each printed as one JSON line.

Belongs here: programs run by hand or by `make bench`, and their results as ratios to something else in the same run: an
ideal, a floor, another tool. Does not belong here: tests; nothing here passes or fails by the clock.
"""
