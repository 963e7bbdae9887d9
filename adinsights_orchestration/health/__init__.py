"""Health: what each component of ADinsights answers, and what that means."""
