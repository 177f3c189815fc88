"""The commands of ``fourlane``, a file each, loaded by name (fourlane/cli.py). They parse, call and print.

What they do is done in fourlane.queues; modules that a command needs are imported when it runs.
"""
