"""Calls to those who carry messages: Resend or SMTP, Twilio, push services, Slack, PagerDuty.

How a call ends is one of four: a :class:`Receipt`; :class:`NotTaken`, surely not sent, later it may be;
:class:`Impossible`, surely not sent, and it never will be; :class:`Unclear`, nobody here knows whether it was sent.

Who can tell a repeated call from a new one, by the key that we send: Resend (for 24 hours) and PagerDuty. Twilio is
asked what it has before a call is repeated. A push service replaces a message that waits by one of the same topic.
SMTP and Slack can do none of this.
"""

from fourlane.providers.messages.alerts import PagerDuty, Slack
from fourlane.providers.messages.message import (
    Attachment,
    BatchCarrier,
    Carrier,
    Impossible,
    Letter,
    Link,
    Message,
    NotTaken,
    Receipt,
    Unclear,
    read_error,
)
from fourlane.providers.messages.push import WebPush
from fourlane.providers.messages.resend import Resend
from fourlane.providers.messages.sms import Twilio
from fourlane.providers.messages.smtp import Smtp

__all__ = [
    "Attachment",
    "BatchCarrier",
    "Carrier",
    "Impossible",
    "Letter",
    "Link",
    "Message",
    "NotTaken",
    "PagerDuty",
    "Receipt",
    "Resend",
    "Slack",
    "Smtp",
    "Twilio",
    "Unclear",
    "WebPush",
    "read_error",
]
