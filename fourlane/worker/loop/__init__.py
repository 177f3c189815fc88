"""The loop of a worker process: which jobs it leases, when, and how their ends are settled."""
