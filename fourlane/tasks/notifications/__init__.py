"""Notifications: email, SMS, push, and alerts to Slack and PagerDuty. Needs ``fourlane[notifications]``.

    from fourlane.tasks.notifications import Notification, notify

    notify("email", Notification(to="ada@example.com", template="welcome", data={"name": "Ada"}))

Workers import this package: ``fourlane worker fourlane.tasks.notifications``.
"""

from fourlane.tasks.notifications.deliver import Sent, email, pagerduty, push, slack, sms
from fourlane.tasks.notifications.notification import Channel, InvalidNotification, Notification
from fourlane.tasks.notifications.notify import alert, notify

__all__ = [
    "Channel",
    "InvalidNotification",
    "Notification",
    "Sent",
    "alert",
    "email",
    "notify",
    "pagerduty",
    "push",
    "slack",
    "sms",
]
