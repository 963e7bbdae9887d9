"""The checks, by what they look at; `catalog` has them in the order of the report."""
