"""Takes secrets out of what is kept of errors, and personal data too out of what is logged or reported.

They are known by their form (forms.py, tokens.py, personal.py), by the key they stand under (keys.py), and by their
value where this process was told it (known.py). A text is looked through in time that grows with its length, for which
there is a bound.
"""

from __future__ import annotations

from fourlane.redact.keys import REDACTED
from fourlane.redact.known import know
from fourlane.redact.texts import redact_text, without_secrets
from fourlane.redact.values import redact

__all__ = ["REDACTED", "know", "redact", "redact_text", "without_secrets"]
