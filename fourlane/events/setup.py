"""Where events go to and come from, as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourlane.errors import SettingsError
from fourlane.events import aws, provision
from fourlane.events.buffer import Buffer
from fourlane.events.publisher import Publisher
from fourlane.root import Root

if TYPE_CHECKING:
    from fourlane.config.groups.deployment import DeploymentSettings
    from fourlane.config.groups.events import EventSettings

__all__ = ["large_data", "open_aws", "publisher", "sqs"]


def sqs(of: Root) -> aws.Aws:
    """A part: AWS. Raises as `open_aws` does."""
    return open_aws(of.settings)


def publisher(of: Root) -> Publisher:
    """A part: the publisher that the settings describe. Raises SettingsError, EventsUnavailable."""
    made = _open_publisher(of.settings, of.part(sqs))
    of.on_close(made.close)
    return made


def _open_publisher(settings: EventSettings, to: aws.Aws) -> Publisher:
    return Publisher(
        to,
        environment=settings.environment,
        source=f"/{settings.environment}/{settings.service}",
        bucket=settings.events_bucket,
        max_bytes=settings.events_max_bytes,
        buffer=Buffer(settings.data_dir / "events", settings.events_buffer) if settings.events_buffer else None,
    )


def large_data(of: Root) -> tuple[aws.Aws, str]:
    """A part: where data lie that are too large for a message, AWS and a bucket. Raises as `open_aws` does."""
    return of.part(sqs), of.settings.events_bucket


def open_aws(settings: DeploymentSettings) -> aws.Aws:
    """AWS as its own variables describe it, else the server of a running ``fourlane dev``.

    Only in the environment ``local`` is a missing queue made on first use.

    Raises:
      SettingsError: there is neither.
      EventsUnavailable: the variables lack something.
    """
    missing = provision.ensure if settings.environment == "local" else None
    if aws.is_configured() or settings.environment != "local":
        return aws.Aws(on_missing=missing)
    from fourlane.events import local

    found = local.find(settings.data_dir)
    if found is None:
        raise SettingsError(
            f"no AWS settings were found, and no `fourlane dev` with an SQS server runs on {settings.data_dir}; set "
            "AWS_REGION and credentials, or AWS_ENDPOINT_URL, or start `fourlane dev`"
        )
    return aws.Aws(region=local.REGION, endpoint=found.endpoint, keys=found.keys, on_missing=missing)
