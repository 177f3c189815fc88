"""What differs by intention. docs/dramatiq.md says the same in words."""

from __future__ import annotations

from tests.compat.results import Expected

EXPECTED: Expected = {"dramatiq": {}, "fourlane": {}}
