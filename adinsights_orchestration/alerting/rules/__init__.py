"""Rules: each a pure function from facts to findings."""
