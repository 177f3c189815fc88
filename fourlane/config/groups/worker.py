"""A worker's processes: how many, how much at once, how they start, end and are replaced, and where they are probed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from fourlane.config import kubernetes
from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.values import Seconds, ZeroOrMore, at_least

__all__ = ["WorkerSettings"]


def _check_port(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        number = validate(value)
    except ValidationError:
        number = -1
    if kubernetes.is_address(str(value)):
        raise ValueError(
            f"{value!r} is what Kubernetes sets for a Service of this name; set enableServiceLinks: false, or a port"
        )
    if not 0 <= number <= 65_535:
        raise ValueError(f"{value!r} is no port; use 1 to 65535, or 0 for none")
    return number


class WorkerSettings(DeploymentSettings):
    processes: Annotated[int, at_least(1, bound=1_000)] = 1
    """Worker processes under one supervisor."""
    slots: Annotated[int, at_least(1, bound=10_000)] = 8
    """Plain functions that one process runs at once, each in a thread."""
    concurrency: Annotated[int, at_least(1, bound=100_000)] = 1_000
    """Async jobs that one process runs at once."""
    start_wait_seconds: Seconds = 60
    """How long a worker that starts waits for Redis; 0: not at all."""
    grace_seconds: Seconds = 25
    """How long running jobs may go on after SIGTERM."""
    recycle_jobs: ZeroOrMore = 0
    """Replace a process after so many jobs; 0: never."""
    recycle_seconds: Seconds = 0
    """Replace a process at this age; 0: never."""
    recycle_rss_mb: ZeroOrMore = 0
    """Replace a process that holds more memory; 0: never."""
    probe_port: Annotated[int, WrapValidator(_check_port)] = 0
    """Where the worker answers GET /live and /ready over HTTP; 0: nowhere."""
    probe_host: str | None = None
    """The address that it listens on; None: 127.0.0.1 in ``local``, else all of the machine's (``0.0.0.0``, ``::``)."""
