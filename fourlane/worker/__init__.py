"""The worker: its processes and their supervisor (process/), the loop that leases jobs (loop/), a job's run (run/)."""
