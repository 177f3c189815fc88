"""One job's run, from its lease to its outcome."""
