"""Notifications that are published as events: ``notification.email``, ``notification.sms``, ``notification.push``.

The event's data are the fields of a :class:`Notification`. The event's id is the dedup key where the data has none, so
that an event that arrives twice sends once. Import this module in a worker that receives events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fourlane.errors import Reject, SettingsError
from fourlane.events.handlers import on_event
from fourlane.tasks.notifications.deliver import TASKS
from fourlane.tasks.notifications.notification import Channel, InvalidNotification, checked

if TYPE_CHECKING:
    from fourlane.events.envelope import Event
    from fourlane.tasks.task import Task

__all__ = ["HANDLERS"]


def _listen(channel: Channel) -> Task[Any, Any]:
    @on_event(f"notification.{channel}", task_name=f"fourlane.notifications.on-{channel}", service="notifications")
    def handle(event: Event) -> str:
        if not isinstance(event.data, dict):
            raise Reject(f"the event's data is no notification: {type(event.data).__name__}")
        fields = {"dedup_key": f"event:{event.source}:{event.id}"} | event.data
        try:
            return TASKS[channel].send_with_options(kwargs=checked(channel, fields).fields()).id
        except (InvalidNotification, SettingsError) as error:
            raise Reject(str(error)) from None

    return handle


HANDLERS: Final = [_listen("email"), _listen("sms"), _listen("push")]
