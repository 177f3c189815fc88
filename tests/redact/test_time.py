"""No text of 30 KB takes long to be looked through, whatever is in it."""

from __future__ import annotations

import time

import pytest

from fourlane.redact import redact, redact_text

PIECES = [
    'token="',
    'token=\\"',
    'token=\\\\"',
    "'key': \\'",
    "passwordsecret",
    "password=",
    "password",
    "://a:b",
    "://a:/",
    "://",
    "redis://a",
    "-----BEGIN PRIVATE KEY-----\n",
    "Bearer ",
    "sk-a",
    "re_",
    "fc-",
    "fc-a",
    "hf_x-",
    "a-",
    "--a",
    "--password ",
    "-- ",
    "--",
    "password' , ",
    "('password', '",
    "[['key','",
    '"value": "',
    '"value":"x","name":"',
    'value":',
    "((((",
    "password=(",
    "password=[[",
    "a@",
    "a%40",
    "%40",
    "%2540a",
    "a.b-",
    "+1 ",
    "4",
    "4 4",
    "phone: 1",
    "phone: 1-",
    "2-",
    "222-222-",
    "eyJaaaaaaaa.",
    ".com/",
    "hooks.slack.com/services/",
    "discord.com/api/webhooks/",
    "SG.a",
    "dp.pt.",
    "AB12 ",
    "ſ",
    "İ",
    "\\",
    '\\"',
    "auth=",
    "pin=1",
    "cookie: ",
    "authorization:",
    "basic ",
    "key=a1",
    "api_key",
    "api-key:",
    "<",
    "<a ",
    "<pin>",
    "<password x",
    "password -> ",
    "password | ",
    "password:\n ",
    'password"\n\n',
    'password"\ncontent-x',
    'password" value',
    'password="\\\\"',
    "password\\xa0",
    "tokens=",
    "tokens: {",
    "tokens: 'a': 1",
    "max_tokens=x",
    '"cookie: ',
    "'set-cookie: \\",
    "authorization=digest a=",
    "%3A%2F%2F",
    "%253A%252F%252Fa",
    "&quot;",
    "password=&quot;",
    "access_token$production$",
    "tel 1",
    "1-222-",
]


@pytest.mark.parametrize("piece", PIECES)
def test_a_text_of_one_piece_takes_no_longer_than_its_length(piece: str) -> None:
    started = time.thread_time()
    redact_text(piece * (30_000 // len(piece)))
    redact_text("sk-" + piece * (30_000 // len(piece)) + "password")
    assert time.thread_time() - started < 0.6


def test_quotes_that_are_escaped_ever_deeper() -> None:
    text = "".join("password:" + "\\" * deep + '" ' for deep in range(1, 230))
    started = time.thread_time()
    redact_text(text)
    assert time.thread_time() - started < 0.6


def test_a_value_that_is_wide() -> None:
    started = time.thread_time()
    redact([["--password", "x"] * 20_000])
    redact({f"password{n}": "x" for n in range(20_000)})
    assert time.thread_time() - started < 3
