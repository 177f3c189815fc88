"""Faults in combination: real workers, schedulers and producers on real servers, and a checker of what they did.

``python -m tests.chaos --seconds 600 --seed 7 --faults all``; docs/chaos.md says how to read it.
"""
