"""REDIS_URL as other clients write it: where the server is, and the options that text can say."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from fourlane.errors import SettingsError

__all__ = ["NOT_TO_BE_READ", "Address", "read"]

NOT_TO_BE_READ: Final = (
    "REDIS_URL: its port or one of its options cannot be read; write redis://USER:PASSWORD@HOST:PORT/0, "
    "with signs such as / and @ in the password as %2F and %40"
)
_LEFT_OUT: Final = ("family",)  # ioredis: which of IPv4 and IPv6; here both are tried
_YES: Final = frozenset(("1", "t", "true", "y", "yes"))
_NO: Final = frozenset(("0", "f", "false", "n", "no"))
_MOST_SECONDS: Final = 86_400.0


class Address(NamedTuple):
    """A URL in the words of redis-py: without its options, and these; and whether it names a node of a cluster."""

    url: str
    options: dict[str, Any]
    clustered: bool = False


class _Kind(NamedTuple):
    """What an option's text means. ``read`` raises ValueError, LookupError: it means nothing."""

    read: Callable[[str], Any]
    shape: str


def _flag(text: str) -> bool:
    word = text.lower()
    if word not in _YES | _NO:
        raise ValueError(word)
    return word in _YES


def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if number < least:
            raise ValueError(number)
        return number

    return read


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= _MOST_SECONDS:
        raise ValueError(number)
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda text: {word: word for word in words}[text]


def _cert_reqs(text: str) -> str:
    """``CERT_NONE`` is how Celery and Kombu write ``none``."""
    return _one_of("none", "optional", "required")(text.lower().removeprefix("cert_"))


def _tls_version(text: str) -> Any:
    import ssl

    return ssl.TLSVersion(int(text))


def _flags(text: str) -> Any:
    import ssl

    return [ssl.VerifyFlags[name.strip()] for name in text.strip("[]").split(",")]


def _known_encoding(text: str) -> str:
    codecs.lookup(text)
    return text


def _known_error_handler(text: str) -> str:
    codecs.lookup_error(text)
    return text


_TEXT: Final = _Kind(str, "text")
_FLAG: Final = _Kind(_flag, "true or false")
_SECONDS: Final = _Kind(_seconds, "seconds, more than 0")
_EVERYWHERE: Final = {
    "db": _Kind(_at_least(0), "a database's number"),
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "protocol": _Kind(lambda text: int(_one_of("2", "3")(text)), "2 or 3"),
    "max_connections": _Kind(_at_least(1), "a whole number, 1 or more"),
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_read_size": _Kind(_at_least(1), "a number of bytes"),
    "health_check_interval": _Kind(_at_least(0), "whole seconds"),
    "retry_on_timeout": _FLAG,
    "decode_responses": _FLAG,
    "encoding": _Kind(_known_encoding, "an encoding, such as utf-8"),
    "encoding_errors": _Kind(_known_error_handler, "strict, replace or ignore"),
}
_TCP: Final = {"socket_keepalive": _FLAG, "cluster": _FLAG}
_TLS: Final = {
    "ssl_ca_certs": _Kind(str, "a file"),
    "ssl_ca_path": _Kind(str, "a folder"),
    "ssl_ca_data": _TEXT,
    "ssl_certfile": _Kind(str, "a file"),
    "ssl_keyfile": _Kind(str, "a file"),
    "ssl_password": _TEXT,
    "ssl_cert_reqs": _Kind(_cert_reqs, "none, optional or required"),
    "ssl_check_hostname": _FLAG,
    "ssl_ciphers": _TEXT,
    "ssl_min_version": _Kind(_tls_version, "771 (TLS 1.2) or 772 (TLS 1.3)"),
    "ssl_include_verify_flags": _Kind(_flags, "names of ssl.VerifyFlags, with commas"),
    "ssl_exclude_verify_flags": _Kind(_flags, "names of ssl.VerifyFlags, with commas"),
}
_OF_SCHEME: Final = {
    "redis": _EVERYWHERE | _TCP,
    "rediss": _EVERYWHERE | _TCP | _TLS,
    "unix": _EVERYWHERE,
}


def read(url: str) -> Address:
    """Raises SettingsError: one line that says what is wrong, and no more of the text than an option's name.

    The rest may be a part of the password.
    """
    try:
        parts = urlsplit(url)
        known = _OF_SCHEME[parts.scheme]
    except (ValueError, LookupError):
        raise SettingsError(NOT_TO_BE_READ) from None
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        # Not repeated: behind an unescaped / in a password it is a part of that.
        raise SettingsError(
            "REDIS_URL: what follows the host is no number of a database; write redis://USER:PASSWORD@HOST:PORT/0, "
            "with signs such as / and @ in the password as %2F and %40"
        )
    if parts.fragment or (parts.scheme != "unix" and _is_cut(parts)):
        raise SettingsError(NOT_TO_BE_READ)
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query):
        if name not in _LEFT_OUT and name not in options:
            options[name] = _value(known, name, value)
    clustered = options.pop("cluster", False)
    if clustered and (int(database or 0) or options.pop("db", 0)):
        raise SettingsError("REDIS_URL: a cluster has no database but 0; write redis://HOST:PORT/0?cluster=true")
    return Address(url.partition("?")[0], options, clustered)


def _is_cut(parts: SplitResult) -> bool:
    """By a sign in the password that is not escaped: what looks like an option is a part of that."""
    try:
        _ = parts.port
    except ValueError:
        return True
    return "@" in parts.query and "@" not in parts.netloc


def _value(known: dict[str, _Kind], name: str, text: str) -> Any:
    kind = known.get(name)
    if kind is None:
        if not re.fullmatch(r"\w{1,40}", name):
            raise SettingsError(NOT_TO_BE_READ)
        place = "is for rediss:// only" if name in _TLS else "is not for unix://" if name in _TCP else "is not known"
        raise SettingsError(f"REDIS_URL: its option {name} {place}; leave it out")
    try:
        return kind.read(text)
    except (ValueError, LookupError):
        raise SettingsError(
            f"REDIS_URL: the value of its option {name} cannot be read; use {kind.shape}, or leave it out"
        ) from None
