"""Orders and their jobs in one transaction."""
