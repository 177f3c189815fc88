"""Log lines: JSON in the platform's format in staging and production, readable in a terminal.

Every line of a job carries the job, its service, its trace, its tenant and its user, also from threads and coroutines
that the job started (threads.py). Secrets and personal data are taken out (redact/).
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any, Final

import msgspec

from fourlane.observe import ids
from fourlane.redact import redact, redact_text, without_secrets
from fourlane.tasks.context import running
from fourlane.telling import tell

__all__ = ["announce", "configure", "hear_ours_again", "of_run", "of_service"]

_LEVELS: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_RUN: Final = "fourlane_run"
_SERVICE: Final = "fourlane_service"
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", _RUN, _SERVICE}
_TERMINAL: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_OURS: Final = ("fourlane", "dramatiq")
_CHATTY: Final = ("httpx", "httpx2", "google_genai")
"""Libraries that say each call of theirs at INFO."""
log = logging.getLogger("fourlane.observe")
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(*, level: str, json: bool, service: str, stream: IO[str] | None = None) -> None:
    """Log to a stream, stderr by default. Does nothing where the program has set up its own logging.

    Parameters:
      level: DEBUG, INFO, WARN or ERROR.
      json: a JSON object on each line, else text.
      service: what the lines say that they come from.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    if root.handlers:
        return
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_Json(service) if json else _Text(_TERMINAL))
    root.addHandler(handler)
    root.setLevel(level)
    for logger in map(logging.getLogger, _CHATTY if level == "INFO" else ()):
        if logger.level == logging.NOTSET:  # else the program has said what it wants of it
            logger.setLevel(logging.WARNING)
    if json:
        _take_what_is_said_elsewhere()


def _take_what_is_said_elsewhere() -> None:
    """Warnings and errors that nobody caught, which Python writes in lines of its own."""
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    from fourlane.observe.threads import run_of  # a supervisor starts none for jobs, and does not load it

    _log_uncaught(told.exc_type, told.exc_value, told.exc_traceback, run_of(told.thread))


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, run: Any = None
) -> None:
    if error is not None and not issubclass(kind, SystemExit):
        log.critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace), extra=of_run(run))


def announce(text: str, level: int = logging.INFO) -> None:
    """What a program that runs on says of itself: a log line where machines read those, else plain words."""
    if any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers):
        log.log(level, "%s", text)
        return
    said = f"{logging.getLevelName(level).lower()}: " if level > logging.INFO else ""
    with suppress(OSError):  # a terminal that was closed, a full disk: jobs run on, as they do where a log line is lost
        print(said + without_secrets(text), file=sys.stderr, flush=True)


def of_run(run: Any) -> dict[str, Any]:
    """For ``extra``: the line is of this run, though another thread says it."""
    return {_RUN: run}


def of_service(service: str) -> dict[str, str]:
    """For ``extra``: the line is of this service, and of none of its jobs."""
    return {_SERVICE: service}


def hear_ours_again() -> None:
    """Undo what ``logging.config`` of other modules does to loggers that it does not name, and say so."""
    ours = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.disabled and name.partition(".")[0] in _OURS
    ]
    for logger in ours:
        logger.disabled = False
    if ours:
        log.warning(
            "a module's logging configuration disabled the worker's loggers; they are enabled again. "
            "Write disable_existing_loggers: False there"
        )


class _Handler(logging.StreamHandler[IO[str]]):
    """Ours, so that it is known again."""


class _Text(logging.Formatter):
    """For people: the line as it is, with the job behind it where it does not name one."""

    def format(self, record: logging.LogRecord) -> str:
        text = redact_text(super().format(record))
        job = _job(record)
        if job is None or "job=" in text:
            return text
        first, line_feed, rest = text.partition("\n")
        words = f"job={job['job']} task={job['task']} trace={job['trace_id']}"
        if job["organization_id"]:
            words += f" tenant={job['organization_id']}"
        return f"{first} [{words}]{line_feed}{rest}"


class _Json(logging.Formatter):
    """For machines: timestamp, level, service, trace_id, user_id, message, metadata."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        job = _job(record) or {}
        metadata: dict[str, Any] = {"logger": record.name}
        metadata |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        metadata = redact(metadata)
        metadata |= {k: job[k] for k in ("job", "task", "attempt", "organization_id") if job.get(k)}
        if record.exc_info:
            metadata["exception"] = redact_text(self.formatException(record.exc_info))
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": _LEVELS.get(record.levelname, record.levelname),
            "service": job.get("service") or vars(record).get(_SERVICE) or self.service,
            "trace_id": job.get("trace_id") or _trace_id_elsewhere(),
            "user_id": job.get("user_id") or vars(record).get("user_id"),
            "message": redact_text(record.getMessage()),
            "metadata": metadata,
        }
        try:
            return _encode(line).decode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON cannot carry
            return _encode(_without_surrogates(line)).decode()


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(v) for v in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _job(record: logging.LogRecord) -> dict[str, Any] | None:
    """What is known of the job that the line is of, or that this thread or coroutine runs."""
    run: Any = vars(record).get(_RUN) or running.get()
    if run is None:
        return None
    options = run.envelope.options
    job_id = run.id
    return {
        "job": job_id,
        "service": run.service.name,
        "task": run.plan.name,
        "attempt": run.attempt,
        "trace_id": f"{ids.trace_id_of(job_id, options):032x}",
        "organization_id": options.get("tenant"),
        "user_id": options.get("user_id"),
    }


def _trace_id_elsewhere() -> str | None:
    """Outside a job: the trace of the web request, where somebody traces it."""
    traceparent, _ = tell.trace_context()
    return traceparent.split("-")[1] if traceparent else None
