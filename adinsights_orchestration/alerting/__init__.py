"""Alerts: from facts to findings, from findings to incidents, from incidents to the right person, once."""
