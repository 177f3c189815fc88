"""Bytes kept outside of Redis, by reference; and what jobs read: URLs, references, files of an allowed folder.

A file's name is ``AREA/TENANT/GROUP/FILE`` (names.py). Where files lie is FOURLANE_STORAGE's to say: in a folder
(disk.py), in S3 (s3.py) or in the database (database.py). setup.py makes what this process uses of it.
"""

from __future__ import annotations

from fourlane.storage.blob import Blob
from fourlane.storage.media import AUDIO, DOCUMENTS, IMAGES, TEXTS, suffix_of
from fourlane.storage.names import file_name, reference
from fourlane.storage.store import Storage, Stored

__all__ = ["AUDIO", "DOCUMENTS", "IMAGES", "TEXTS", "Blob", "Storage", "Stored", "file_name", "reference", "suffix_of"]
