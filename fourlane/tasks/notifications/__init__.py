"""Notifications: email, SMS, push, and alerts to Slack and PagerDuty. Needs ``fourlane[notifications]``.

    from fourlane.tasks.notifications import Notification, notify

    notify("email", Notification(to="ada@example.com", template="welcome", data={"name": "Ada"}))

Workers import this package: ``fourlane worker fourlane.tasks.notifications``.
"""

from fourlane.tasks.notifications.bulk import emails
from fourlane.tasks.notifications.deliver import Sent, email, pagerduty, push, slack, sms
from fourlane.tasks.notifications.notification import Channel, File, InvalidNotification, Link, Notification
from fourlane.tasks.notifications.notify import alert, notify, notify_many

__all__ = [
    "Channel",
    "File",
    "InvalidNotification",
    "Link",
    "Notification",
    "Sent",
    "alert",
    "email",
    "emails",
    "notify",
    "notify_many",
    "pagerduty",
    "push",
    "slack",
    "sms",
]
