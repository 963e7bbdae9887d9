"""From raw tables to marts: the dbt project in Dagster, and what is published of its results."""
