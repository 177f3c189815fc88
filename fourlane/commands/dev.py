"""``fourlane dev``: a worker with all that it needs on this machine, embedded servers included."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from fourlane.commands.shared import settings_of_program
from fourlane.commands.worker import assignment_of, run_options
from fourlane.worker.process.early_signals import take_signals

if TYPE_CHECKING:
    from fourlane.config import Settings

__all__ = ["dev", "local_sqs"]


@click.command()
@run_options
def dev(modules: tuple[str, ...], **options: Any) -> None:
    """Run a worker for development, on an embedded server when REDIS_URL is not set."""
    take_signals(options["profile"])
    options["log_jobs"] = True
    if options["scheduler"] is None:
        options["scheduler"] = True
    settings = settings_of_program()
    if options["relay"] is None and settings.relay is None:
        # Not everybody who tries Fourlane has the packages of the extra db.
        options["relay"] = find_spec("sqlalchemy") is not None
    sys.exit(_run(settings, modules, options))


def _run(settings: Settings, modules: tuple[str, ...], options: dict[str, Any]) -> int:
    from fourlane.commands.supervise import supervise
    from fourlane.config import load_settings
    from fourlane.embedded import EmbeddedRedis
    from fourlane.observe.logs import announce

    if settings.redis_url is not None:
        with local_sqs(settings):
            return supervise(assignment_of(settings, modules, options))
    with EmbeddedRedis.open(settings.data_dir) as server, local_sqs(settings):
        os.environ["REDIS_URL"] = server.url
        where = f"embedded {server.version}, data in {settings.data_dir}"

        def tell(fault: str | None) -> None:
            announce(f"redis: {fault or 'all is well again'}")

        server.watch(tell, end=lambda: os.kill(os.getpid(), signal.SIGTERM))
        code = supervise(assignment_of(load_settings(), modules, options, where))
        ended = server.ended
    return 1 if ended else code


@contextmanager
def local_sqs(settings: Settings) -> Iterator[None]:
    """An SQS server for the environment ``local``, where nothing says which one to use."""
    from fourlane.events import aws, local
    from fourlane.observe.logs import announce

    if aws.is_configured():
        where = os.environ.get("AWS_ENDPOINT_URL_SQS") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
        announce(f"sqs: {where}")
    elif settings.environment != "local":
        announce("sqs: no AWS settings were found; set AWS_REGION and credentials to use event streams")
    elif running := local.find(settings.data_dir):
        announce(f"sqs: {running.endpoint}, of another `fourlane dev` here")
    elif not local.is_installed():
        announce(f"sqs: none; for event streams here: {local.INSTALL}")
    else:
        with local.LocalSqs(settings.data_dir, wait=False) as server:
            announce(f"sqs: moto's server at {server.endpoint}, in memory: its events end with this command")
            yield
        return
    yield
