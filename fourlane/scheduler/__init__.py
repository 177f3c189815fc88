"""Schedules: rules that make jobs, exactly one for each of their times, however many schedulers run."""
