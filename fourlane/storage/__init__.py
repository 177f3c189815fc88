"""Bytes kept outside of Redis, by reference; and what jobs read: URLs, references, files of an allowed folder.

A file's name is ``AREA/TENANT/GROUP/FILE`` (names.py). Where files lie is FOURLANE_STORAGE's to say: in a folder
(disk.py), in S3 (s3.py) or in the database (database.py). setup.py makes what this process uses of it.
"""
