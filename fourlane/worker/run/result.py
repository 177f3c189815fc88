"""What a run returned, as it is kept."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import msgspec

from fourlane import codec
from fourlane.errors import EncryptionError, FourlaneError, InvalidArguments, JobTooLarge
from fourlane.options import result_ttl_ms
from fourlane.outcome import Done, Result
from fourlane.telling import tell
from fourlane.worker.run.failed import said
from fourlane.worker.run.run import Run

__all__ = ["BadResult", "success"]

_DONE: Final = Done()


class BadResult(FourlaneError):
    """A result that cannot be kept, of a job for which that is a failure. The cause says why."""


def success(run: Run, result: Any) -> Done | Result:
    """It is done, and with its result when that is to be kept and can be. Raises BadResult."""
    options = run.envelope.options
    ttl = result_ttl_ms(options, run.plan.result_ttl_ms) if options else run.plan.result_ttl_ms
    if not ttl:
        if result is not None and run.plan.discards and "pipe_target" not in options:
            tell.discarded(run)
        return _DONE
    try:
        return Result(_encoded(run, result), ttl)
    except BaseException as error:
        # The work is done: to repeat it would charge the card again.
        text = said(run, error)
        tell.result_refused(run, text)
        if (options.get("on_bad_result") or run.plan.options.get("on_bad_result")) == "dead":
            raise BadResult from error
        return Result(_refusal(run, text), ttl)


def _encoded(run: Run, result: Any) -> bytes:
    """Raises InvalidArguments, JobTooLarge, EncryptionError."""
    try:
        value = codec.encode_value(result, "result")
    except (TypeError, ValueError, RecursionError) as error:
        raise error if isinstance(error, InvalidArguments) else InvalidArguments(f"result: {error}") from None
    if run.seal is None:
        kept = b'{"value":' + value + b"}"
    else:
        kept = msgspec.json.encode({codec.SEALED: run.seal.text("result", value)})
    most = run.plan.broker.opened.defaults.max_result_bytes
    if len(kept) > most:
        raise JobTooLarge(
            f"the result has {len(kept):,} bytes, the limit is {most:,} (FOURLANE_MAX_RESULT_BYTES); "
            "store the data elsewhere and return a reference to it"
        )
    return kept


def _refusal(run: Run, text: str) -> bytes:
    """That it is done, and why what it returned is not kept; proved to be ours where results are."""
    kept = {"refused": text, "error": text}
    if run.seal is not None:
        with suppress(EncryptionError):  # which may be what it tells of
            kept[codec.SEALED] = run.seal.text("refusal", text.encode())
    return msgspec.json.encode(kept)
