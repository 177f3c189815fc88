"""Secrets by the key that they stand under, in texts and in values; and what such keys have that is no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourlane.redact import redact, redact_text

S = "hunter2Zq"


@pytest.mark.parametrize(
    "text",
    [
        # signs between
        f"password:  {S}",
        f"password => {S}",
        f"password := {S}",
        f"Password\t=\t{S}",
        f"password=={S}",
        f"redirect=/x%3Fpassword%3D{S}",
        f"password -> {S}",
        f"password | {S}",
        f" password || {S}\n",
        f"password:\n  {S}",
        f"password: |-\n    {S}",
        f"tokens:\n  - {S}",
        f"password&#61;{S}",
        f"cvv={S}",
        # elements, attributes, forms
        f"<password>{S}</password>",
        f'<ns:db_password type="x">a {S}</ns:db_password>',
        f"<secret><![CDATA[{S}]]></secret>",
        f"<pin>{S}</pin>",
        f'<user login="ada" password="{S}"/>',
        f'<add key="Password" value="{S}" />',
        f'<entry key="api_key">{S}</entry>',
        f"&quot;password&quot;: &quot;a {S}&quot;",
        f'form-data; name="password"\r\n\r\n{S}\r\n--',
        f'form-data; name="token"\r\nContent-Type: text/plain\r\n\r\n{S}\r\n--',
        repr(f"form-data; name='token'\r\n\r\n{S}\r\n--"),
        # headers, with quotes in them
        f'Cookie: a="1"; sid={S}; b=2',
        f'Set-Cookie: a="1"; sid={S}',
        f"curl -H 'Cookie: a=\"1\"; sid={S}' https://example.org/",
        f'Authorization: Digest username="ada", response="{S}"',
        f'Proxy-Authorization: Digest username="ada", response="{S}"',
        f'authorization=Digest username="ada", response="{S}"',
        f"authorization=Token {S}",
        f"authorization = ApiKey {S}, n=1",
        # many tokens
        f"tokens={S}",
        f"refresh_tokens=['{S}']",
        f"{{'session_tokens': '{S}'}}",
        f'{{"tokens": {{"ada": "{S}"}}}}',
        # what Python escapes in a repr
        f"KeyError: 'password\\xa0:\\xa0{S}'",
        repr(f'"password": "ab\\"{S}"'),
        repr(repr({"password": f"a'b\"{S}"})),
        # a text of JSON in a text of JSON, and once more
        json.dumps({"body": json.dumps({"password": S})}),
        json.dumps({"body": json.dumps({"body": json.dumps({"password": f'a "{S}" b'})})}),
        repr({"body": json.dumps({"password": S})}),
        json.dumps({"body": repr({"api_key": S})}),
        # options of a command line
        f"run --password {S}",
        f"run --db-password={S}",
        f"run --api-key '{S}' --verbose",
        f"['run', '--token', '{S}']",
        # pairs, as headers are
        f"[('X-Api-Key', '{S}')]",
        f"[(b'authorization', b'{S}'), (b'accept', b'*/*')]",
        f'[["X-Api-Key", "{S}"]]',
        # names and values
        json.dumps({"name": "password", "value": S}),
        json.dumps({"value": S, "name": "db_password"}),
        json.dumps([{"key": "api_key", "value": S}], indent=2),
        json.dumps(json.dumps({"name": "password", "value": S})),
        repr({"name": "password", "input": S}),
        # cut short, and several in one
        f'{{"password": "a {S}',
        f"auth=('ada', '{S}')",
        f'"auth": ["ada", "{S}"]',
        f'{{"secret": {{"inner": "{S}"}}}}',
        # short keys
        *[f"{key}={S}" for key in ["pass", "pwd", "pin", "auth", "otp", "key", "bearer", "sig"]],
        *[f"{key}: {S}" for key in ["pass", "pwd", "pin", "auth", "otp", "key", "bearer", "PASS"]],
        *[
            json.dumps({key: S})
            for key in ["pass", "pwd", "pin", "auth", "otp", "key", "bearer", "db_pass", "userPin", "Auth"]
        ],
        *[f"{key}={S}" for key in ["DB_PASS", "MYSQL_PWD", "REDISCLI_AUTH", "db.pass", "user-pwd", "smtpPass"]],
        '{"pass": "correcthorse"}',
        "pwd=correcthorse",
        # the platform's own
        f"PAGERDUTY_ROUTING_KEY={S} SUPABASE_SERVICE_ROLE_KEY={S}",
    ],
)
def test_a_text_shows_no_secret_under_its_key(text: str) -> None:
    shown = redact_text(text)
    assert S not in shown
    assert "correcthorse" not in shown
    assert redact_text(shown) == shown


@pytest.mark.parametrize("text", ["pin=1234", "PIN: 004217", '{"otp": "123456"}', "sms_otp=918273"])
def test_short_numbers_are_hidden_under_keys_of_numbers(text: str) -> None:
    assert not any(digit.isdigit() for digit in redact_text(text))


@pytest.mark.parametrize(
    "text",
    [
        # the words in other senses
        "pass=3 fail=0, 2 pass: 1 skipped",
        "first pass: reading the rows",
        "pass: ok",
        '{"pass": true, "fail": false}',
        "PWD=/srv/app and OLDPWD=/home/app",
        "pin=17 is high",
        "auth: required, auth=none, auth=oauth2",
        '{"auth": "basic"}',
        "otp is off",
        "key=user:17 in the cache",
        "key: reports/2026-11/all.csv",
        "key=order_id",
        "no such key: name",
        "KeyError: 'title'",
        "primary key: id, foreign_key=customer_id",
        "key=550e8400-e29b-41d4-a716-446655440000",
        "bearer: none",
        "signal=9, sig=term",
        # parts of other words
        "compass=north bypass: yes encompass=all",
        "pinned=yes, spin=12345, topping: 4321",
        "author=Ada, authority: none",
        "monkey=abc123, keyboard=qwerty12, turkey: n0rth1",
        "passage=abc123x, pass_rate=0.9312345",
        "signed=a1b2c3d4",
        "SENTRY_DSN: is no DSN; API_KEY: character 8 of 12, and the token: not there",
        # options
        "token=None password=None, 'secret': None, jwt: null",
        "password -> hash, POST /token -> 200, cat token | grep x, id | token | name",
        "secret:\n  name: x",
        "tokenizer=cl100k, tokenize: no1x, secretary=Bob1x",
        "<p>text</p> <title>password</title>",
        "max_tokens=limit, tokens: 500 of 600, tokens: many",
        "{'prompt_tokens_details': {'cached_tokens': 0}, 'tokens': [1, 2]}",
        "use --token or --key, --password is required",
        "-----------------------------------",
        "a -- password -- b",
        # lists that are no pairs
        "fields: ['password', 'name', 'age']",
        '{"name": "title", "value": "chair17x"}',
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "value",
    [
        {"name": "password", "value": S},
        {"Name": "X-Api-Key", "Value": S},
        {"value": S, "key": b"authorization"},
        {"k": "client_secret", "v": [S]},
        [("X-Api-Key", S)],
        [[b"authorization", S.encode()]],
        {"argv": ["run", "--password", S, "-v"]},
        {"pwd": S},
        {"pass": "correcthorse"},
        {"user": {"auth": ["ada", S]}},
        {"auth": {"login": S}},
        {"dbPass": S},
        {"key": S},
        {"bearer": S},
        {"pin": 1234},
        {"otp": "001234"},
    ],
)
def test_a_value_shows_no_secret_under_its_key(value: Any) -> None:
    shown = json.dumps(redact(value))
    assert not any(secret in shown for secret in (S, "correcthorse", "1234", "001234"))


@pytest.mark.parametrize(
    "value",
    [
        {"name": "title", "value": "chair17x"},
        {"name": "Ada", "key": "user:17"},
        {"key": "reports/2026-11/all.csv", "pass": 3, "pin": 17, "auth": "basic", "pwd": "/srv/app"},
        {"pass": ["first", "second"], "key": ["a", "b"]},
        {"argv": ["run", "--verbose", "abc123xyz", "-"]},
        ["one", "two"],
        {"max_tokens": 500, "keyboard": "qwerty12", "author": "a1b2c3d4"},
    ],
)
def test_ordinary_values_stay(value: Any) -> None:
    assert redact(value) == value
