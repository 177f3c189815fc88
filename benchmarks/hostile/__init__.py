"""One organization does its worst, and another must not feel, see or lose anything (see ``__main__.py``)."""
