"""Email by SMTP: a mailbox for development, or a provider that has no API here."""

from __future__ import annotations

import ipaddress
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from fourlane.errors import SettingsError
from fourlane.providers.messages.call import REASON_CHARACTERS
from fourlane.providers.messages.message import Impossible, Message, NotTaken, OneAccount, Receipt, Unclear

__all__ = ["Smtp"]

_LONGEST_LINE: Final = 998  # RFC 5322
_LISTS: Final = ("list-unsubscribe", "list-unsubscribe-post")


class _AsItIs(EmailPolicy):
    """Headers that programs read go out in one line: a long word would be encoded (RFC 2047), and none decodes it."""

    def fold(self, name: str, value: Any) -> str:
        line = f"{name}: {value}"
        if name.lower() in _LISTS and line.isascii() and len(line) <= _LONGEST_LINE:
            return line + self.linesep
        folded: str = super().fold(name, value)
        return folded

    def fold_binary(self, name: str, value: Any) -> bytes:
        return self.fold(name, value).encode("ascii", "surrogateescape")


# CRLF, and no need of 8BITMIME.
_POLICY: Final = _AsItIs(linesep=SMTP.linesep, cte_type="7bit")


class Smtp(OneAccount):
    """Email by SMTP.

    Parameters:
      url: smtp://HOST:PORT or smtps://USER:PASSWORD@HOST.
      allow_plain: send a login without TLS to other machines too.
    """

    provider = "smtp"

    def __init__(self, url: str, *, sender: str, timeout_seconds: float, allow_plain: bool = False) -> None:
        super().__init__(url)
        self._parts = urlsplit(url)
        self._sender = sender
        self._timeout_seconds = timeout_seconds
        self._allow_plain = allow_plain

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        mail = self._mail(message, key)
        self._deliver(mail, message)
        return Receipt(str(mail["Message-ID"]))

    def _mail(self, message: Message, key: str) -> EmailMessage:
        domain = self._sender.rpartition("@")[2].rstrip("> ")
        mail = EmailMessage(policy=_POLICY)
        mail["From"] = self._sender
        mail["To"] = message.to
        if message.cc:
            mail["Cc"] = ", ".join(message.cc)
        if message.reply_to:
            mail["Reply-To"] = ", ".join(message.reply_to)
        mail["Subject"] = message.subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{key}@{domain}>"  # mailboxes that drop repetitions go by it
        for name, value in message.headers.items():
            mail[name] = value
        mail.set_content(message.text)
        if message.html:
            mail.add_alternative(message.html, subtype="html")
        for file in message.attachments:
            kind, _, subtype = file.media_type.partition("/")
            mail.add_attachment(file.data, maintype=kind, subtype=subtype, filename=file.name)
        return mail

    def _deliver(self, mail: EmailMessage, message: Message) -> None:
        handed_over = taken = False
        try:
            with self._connect() as connection:
                connection.ehlo_or_helo_if_needed()
                envelope_sender = self._sender.rpartition("<")[2].rstrip("> ")
                _obey(*connection.mail(envelope_sender))
                _obey(*connection.rcpt(message.to), address=True)
                for address in (*message.cc, *message.bcc):
                    _obey(*connection.rcpt(address))
                handed_over = True
                _obey(*connection.data(mail.as_bytes()))
                taken = True
        except smtplib.SMTPAuthenticationError as error:
            raise Impossible(f"the mail server refuses our login (SMTP {error.smtp_code})") from None
        except (OSError, smtplib.SMTPException) as error:
            if taken:
                return  # only the good-bye went wrong
            if isinstance(error, smtplib.SMTPResponseException):
                _obey(error.smtp_code, error.smtp_error)
            reason = f"SMTP: {type(error).__name__}: {error}"[:REASON_CHARACTERS]
            raise (Unclear(reason) if handed_over else NotTaken(reason)) from None

    def _connect(self) -> smtplib.SMTP:
        host, port = self._parts.hostname or "", self._parts.port
        connection: smtplib.SMTP
        if self._parts.scheme == "smtps":
            context = ssl.create_default_context()
            connection = smtplib.SMTP_SSL(host, port or 465, timeout=self._timeout_seconds, context=context)
        else:
            connection = smtplib.SMTP(host, port or 25, timeout=self._timeout_seconds)
            connection.ehlo_or_helo_if_needed()
            if connection.has_extn("starttls"):
                connection.starttls(context=ssl.create_default_context())
        if self._parts.username:
            self._log_in(connection, self._parts.username)
        return connection

    def _log_in(self, connection: smtplib.SMTP, user: str) -> None:
        if not (self._allow_plain or isinstance(connection.sock, ssl.SSLSocket) or _is_loopback(connection)):
            connection.close()
            # Whoever sits on the way could have cut STARTTLS out of what the server offers.
            raise SettingsError(
                f"{self._parts.hostname} offers no TLS, and a login is not sent without it: write smtps:// in "
                "FOURLANE_SMTP_URL, or set FOURLANE_SMTP_ALLOW_PLAIN=true where you trust the whole network"
            )
        connection.login(unquote(user), unquote(self._parts.password or ""))


def _is_loopback(connection: smtplib.SMTP) -> bool:
    assert connection.sock is not None
    return ipaddress.ip_address(connection.sock.getpeername()[0].partition("%")[0]).is_loopback


def _obey(code: int, answer: bytes | str, *, address: bool = False) -> None:
    if code < 400:
        return
    text = answer.decode("utf-8", errors="replace") if isinstance(answer, bytes) else answer
    reason = f"SMTP {code}: {' '.join(text.split())}"[:REASON_CHARACTERS]
    if code < 500:
        raise NotTaken(reason, down=code == 421)  # 421: no service at all; others are about this mailbox
    # 5.1.1 is "no such mailbox"; other refusals may be about us.
    raise Impossible(reason, dead="bounce" if address and text.startswith("5.1.1") else None)
