"""What must never be shown, in as many forms as can be thought of, and what must stay readable."""

from __future__ import annotations

import io
import json
import logging
import string
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourlane.observe import logs
from fourlane.queues.words import trace_of, words_of
from fourlane.redact import know, known, redact, redact_text, without_secrets

WORD = st.text(string.ascii_letters + string.digits, min_size=8, max_size=24).map(lambda word: "Qz" + word + "7")
"""Long enough to be found again, and no word of the text around it."""
TALK = st.lists(
    st.sampled_from(
        [
            "order 17 of",
            "3456",
            "4111 7",
            "timed out",
            "retry=2",
            "{'n': 1}",
            "[a, b]",
            "—",
            "größer",
            "path=/v1/x",
            "->",
            "\n",
            "100%",
        ]
    ),
    max_size=4,
).map(" ".join)
KEYS = """
    password PASSWORD db_password userPassword passwd passphrase secret client_secret clientSecret
    STRIPE_SECRET_KEY webhookSecret token accessToken refresh_token tokens api_key apiKey X-Api-Key OPENAI_API_KEY
    access_key private_key privateKey encryption_key jwt Authorization Proxy-Authorization cookie Set-Cookie cookies
    credentials aws_credential signature session_id sessionId sentry_dsn email e-mail userEmail email_address phone
    phone_number mobile first_name lastName fullName surname date_of_birth birthday passport_number street
    address_line_1 billing_address shippingAddress postal_code zipCode iban card_number cardNumber account_number cvc
    cvv ssn social_security tax_id nationalId ip_address
"""
KEY = st.sampled_from(KEYS.split())
SECRET_KEYS = """
    password db_password userPassword client_secret STRIPE_SECRET_KEY accessToken refresh_token api_key apiKey
    X-Api-Key access_key private_key signing_key jwt credential signature session_id sentry_dsn
"""
SECRET_KEY = st.sampled_from(SECRET_KEYS.split())


def luhn(digits: str) -> str:
    """With its check digit."""
    sums = [int(c) if i % 2 else sum(divmod(2 * int(c), 10)) for i, c in enumerate(reversed(digits))]
    return digits + str(-sum(sums) % 10)


def grouped(text: str, by: str) -> str:
    return by.join(text[i : i + 4] for i in range(0, len(text), 4))


DIGITS = st.text(string.digits, min_size=14, max_size=14)
LOCAL = st.from_regex(r"[a-z]{2,8}([.+_-][a-z0-9]{1,8}|'[a-z]{2,8})?", fullmatch=True)
HOST = st.from_regex(r"[a-z]{3,10}(\.[a-z]{2,5}){1,2}", fullmatch=True)
EMAIL = st.builds("{}@{}".format, LOCAL, HOST)
CARD = st.builds(
    lambda first, rest, by: grouped(luhn(first + rest), by),
    st.sampled_from("456"),
    DIGITS,
    st.sampled_from(["", " ", "-"]),
)
IBAN = st.builds(lambda rest, by: grouped("DE89" + rest + "1234", by), DIGITS, st.sampled_from(["", " "]))
PHONE = st.one_of(
    st.from_regex(r"\+[1-9][0-9][ -]?[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3,4}", fullmatch=True),
    st.from_regex(r"\([2-9][0-9]{2}\) ?[0-9]{3}-[0-9]{4}", fullmatch=True),
)
PREFIXED = st.builds(
    "{}{}7".format,
    st.sampled_from(
        ["sk-", "sk-ant-api03-", "sk_live_", "rk_test_", "whsec_", "ghp_", "npm_", "glpat-", "xoxb-", "re_", "ya29."]
    ),
    st.text(string.ascii_letters + string.digits, min_size=20, max_size=40),
)
JWT = st.builds("eyJ{}.{}.{}".format, WORD, WORD, WORD)


def shown_in(text: str) -> st.SearchStrategy[tuple[str, str]]:
    return st.just((text, text))


FORMS: dict[str, st.SearchStrategy[tuple[str, str]]] = {
    "an address": EMAIL.flatmap(shown_in),
    "a card": CARD.flatmap(shown_in),
    "an account": IBAN.flatmap(shown_in),
    "a phone": PHONE.flatmap(shown_in),
    "a key of a known form": st.one_of(PREFIXED, JWT).flatmap(shown_in),
    "bearer": WORD.map(lambda w: (f"with Bearer {w}", w)),
    "basic": WORD.map(lambda w: (f"Authorization: Basic {w}==", w)),
    "another scheme": WORD.map(lambda w: (f"Authorization: Digest username=a, nonce={w}, x={w}", w)),
    "cookies": st.builds(lambda a, b: (f"Cookie: theme=dark; sid={a}; other={a}{b}", a), WORD, WORD),
    "a URL": st.builds(lambda w, at: (f"rediss://user:{at}{w}@host:1/0", w), WORD, st.sampled_from(["", "@", "a@b:"])),
    "a private key": WORD.map(lambda w: (f"-----BEGIN RSA PRIVATE KEY-----\n{w}\n-----END RSA PRIVATE KEY-----", w)),
    "half a private key": WORD.map(lambda w: (f"-----BEGIN PRIVATE KEY-----\n{w}\n{w}", w)),
    "key=value": st.builds(lambda k, w, by: (k + by + w, w), SECRET_KEY, WORD, st.sampled_from(["=", ": ", " = "])),
    "in quotes": st.builds(lambda k, w, q: (f"{k}={q}a {w}, {w}{q}", w), SECRET_KEY, WORD, st.sampled_from("\"'")),
    "as JSON": st.builds(lambda k, w: (json.dumps({"n": 1, k: f'a "{w}" b\\', "m": 2}), w), SECRET_KEY, WORD),
    "as Python": st.builds(lambda k, w: (repr({"n": 1, k: w.encode(), "m": 2}), w), SECRET_KEY, WORD),
    "in a query": st.builds(lambda k, w: (f"GET /v1/x?n=1&{k}={w}&m=2", w), SECRET_KEY, WORD),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), before=TALK, after=TALK)
def test_by_its_form(form: str, data: st.DataObject, before: str, after: str) -> None:
    text, secret = data.draw(FORMS[form])
    for whole in (text, f"{before} {text} {after}", f"({text})", f"{before}: {text}\n{after}"):
        shown = redact_text(whole)
        assert secret not in shown
        assert redact_text(shown) == shown


def nested(key: str, secret: Any, levels: list[str]) -> Any:
    value: Any = {key: secret, "n": 1}
    for level in levels:
        value = [value] if level == "list" else (value, 2) if level == "tuple" else {"inner": value}
    return value


@settings(max_examples=300, deadline=None)
@given(
    key=KEY,
    secret=WORD,
    wrap=st.sampled_from([str, lambda w: w.encode(), lambda w: [w], lambda w: {"x": {"y": w}}, lambda w: {w}]),
    levels=st.lists(st.sampled_from(["list", "tuple", "dict"]), max_size=14),
)
def test_by_its_key_at_any_depth(key: str, secret: str, wrap: Any, levels: list[str]) -> None:
    shown = json.dumps(redact(nested(key, wrap(secret), levels)))
    assert secret not in shown
    assert ('"n": 1' in shown) is (len(levels) < 8)  # what is deeper is left out


@settings(max_examples=100, deadline=None)
@given(form=st.sampled_from(sorted(FORMS)), data=st.data(), key=KEY, word=WORD)
def test_no_part_of_a_log_line_shows_it(form: str, data: st.DataObject, key: str, word: str) -> None:
    """Message, arguments, extra, its keys, the exception and those before it."""
    text, secret = data.draw(FORMS[form])
    stream = io.StringIO()
    logger = logging.Logger("test")
    for formatter in (logs._Json("shop"), logs._Text(logs._TERMINAL)):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    try:
        try:
            raise KeyError("first") from ValueError(text)
        except KeyError:
            raise RuntimeError(text) from None
    except RuntimeError:
        logger.exception("got %s", text, extra={"deep": {key: word, text: [text]}, "plain": text})
    assert secret not in stream.getvalue()
    assert word not in stream.getvalue()
    assert stream.getvalue().count("RuntimeError") >= 2


READABLE = st.one_of(
    st.uuids().map(str),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.integers(1_600_000_000_000, 1_999_999_999_999).map("at {} ms".format),
    st.integers(0, 999_999).map("max_tokens={}".format),
    st.floats(0, 1e6).map("took {:.3f} s".format),
    st.ip_addresses(v=4).map("host {}:6379".format),
    st.sampled_from(
        [
            "queue production.jobs.high.image-processing",
            "retry job=1abcDEF task=send attempt=2",
            "GET https://api.example.org/v1/items?page=2 -> 200",
            "File \"/srv/app/shop.py\", line 12, in order",
            "skipped: no such key, asked for the risk-averse one",
            "cookies are not needed",
            "basic auth is off",
            "version 1.2.3-rc1+build5",
        ]
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=READABLE)
def test_the_rest_stays_readable(text: str) -> None:
    assert redact_text(text) == text
    assert redact({"field": text, "attempt": 2, "ok": True, "max_tokens": 500}) == {
        "field": text, "attempt": 2, "ok": True, "max_tokens": 500,
    }  # fmt: skip


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text() | st.integers(), inner), st.tuples(inner, inner)
    ),
)


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


@settings(max_examples=300, deadline=None)
@given(value=ANYTHING, text=st.text())
def test_whatever_is_logged_makes_a_line(value: Any, text: str) -> None:
    record = logging.makeLogRecord({"msg": text, "name": "x", "value": value, "broken": [Broken(), 10**40]})
    line = json.loads(logs._Json("shop").format(record))
    assert line["metadata"]["broken"] == ["<Broken>", "[redacted]"]
    assert set(line) == {"timestamp", "level", "service", "trace_id", "user_id", "message", "metadata"}


def test_a_value_that_holds_itself() -> None:
    value: dict[str, Any] = {"n": 1}
    value["again"] = value
    assert json.dumps(redact(value)).count('"n": 1') == 8


def test_a_card_as_a_number() -> None:
    assert redact({"paid_with": 4242424242424242, "id": 4242424242424241}) == {
        "paid_with": "[card]",
        "id": 4242424242424241,
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:pw@host:6379/0 is down", "redis://[redacted]@host:6379/0 is down"),
        ("rediss://:pw@host", "rediss://[redacted]@host"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: [redacted]"),
        ("sent with bearer abcdefgh12345", "sent with bearer [redacted]"),
        ("password=hunter2, user=7", "password=[redacted], user=7"),
        ('{"api_key": "abc def", "n": 1}', '{"api_key": [redacted], "n": 1}'),
        ("key sk-ant-api03-abcdefghijkl", "key [redacted]"),
        ("key sk-or-v1-abcdefghijkl, pplx-0123456789ab", "key [redacted], [redacted]"),
        ("Illegal header value b'Bearer sk-secret-123456\\n'", "Illegal header value b'Bearer [redacted]\\n'"),
        (
            "GET https://x/v1beta/models?key=AIzaSyA0123456789012345678901234567890",
            "GET https://x/v1beta/models?key=[redacted]",
        ),
        ("AKIAIOSFODNN7EXAMPLE aws_secret_access_key=wJalrXUtnFEMI/K7", "[redacted] aws_secret_access_key=[redacted]"),
        ("whsec_MfKQ9r8GKYqrTwjU", "[redacted]"),
        ("mail to ada.l+x@example.org.", "mail to [email]."),
        ("card 4242 4242 4242 4242 ok", "card [card] ok"),
        ("order 4242424242424241", "order 4242424242424241"),  # no card: the check digit is wrong
        ("at 1764042000123 ms", "at 1764042000123 ms"),
        ("call +49 151 23456789", "call [phone]"),
        ("IBAN DE89370400440532013000", "IBAN [iban]"),
        ("retry job=1abcDEF task=send attempt=2", "retry job=1abcDEF task=send attempt=2"),
        ("max_tokens=500", "max_tokens=500"),
        ('unique constraint "pk_orders_customer_id"', 'unique constraint "pk_orders_customer_id"'),
        ("in re_enqueue_all_messages", "in re_enqueue_all_messages"),
        ("re_123456789abcDEFG pk_live_123456789abc", "[redacted] [redacted]"),
        ("basically something_else", "basically something_else"),
        ("queue production.jobs.high.image-processing", "queue production.jobs.high.image-processing"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_by_key_at_any_depth() -> None:
    given = {"user": {"Email": "x", "id": 7}, "cookies": ["a=b"], "list": [{"client_secret": 5}], "ok": True}
    shown = {
        "user": {"Email": "[redacted]", "id": 7},
        "cookies": "[redacted]",
        "list": [{"client_secret": "[redacted]"}],
        "ok": True,
    }
    assert redact(given) == shown


def test_a_long_text_is_cut_and_quick() -> None:
    assert len(redact_text("a" * 1_000_000)) < 40_000
    redact_text("a@" * 20_000 + "password" * 2_000 + "4" * 9_000)  # the timeout of the tests is the judge


def test_what_operators_look_for_is_kept_with_errors() -> None:
    text = "no user ada@example.org, card 4242 4242 4242 4242; password=hunter2"
    assert without_secrets(text) == "no user ada@example.org, card 4242 4242 4242 4242; password=[redacted]"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_known", ())
    know(["Zq9/ä+x y!\n", "short1", "postgres", "Abcdefgh1"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is: Zq9/ä+x y!\n.", "as it is: [redacted]."),
        ("cut: Zq9/ä+x y!.", "cut: [redacted]."),
        (f"repr: {'Zq9/ä+x y!' + chr(10)!r}", "repr: '[redacted]'"),
        (f"of bytes: {('Zq9/ä+x y!' + chr(10)).encode()!r}", "of bytes: b'[redacted]'"),
        ("JSON: " + json.dumps("Zq9/ä+x y!"), 'JSON: "[redacted]"'),
        ("URL: https://x/?a=Zq9%2F%C3%A4%2Bx%20y%21&b=1", "URL: https://x/?a=[redacted]&b=1"),
        ("form: a=Zq9%2F%C3%A4%2Bx+y%21", "form: a=[redacted]"),
        ("words stay: short1 postgres", "words stay: short1 postgres"),
        ("Abcdefgh1", "[redacted]"),
    ],
)
def test_values_that_are_known(told: None, text: str, shown: str) -> None:
    assert redact_text(text) == without_secrets(text) == shown


def test_a_megabyte_of_traceback_is_looked_at_in_a_moment() -> None:
    for piece in ('token="', "passwordsecret", "://a:b", "-----BEGIN PRIVATE KEY-----\n", "Bearer ", "sk-a"):
        error = RuntimeError(piece * (1_000_000 // len(piece)))
        started = time.thread_time()
        trace_of(error)
        words_of(error)
        assert time.thread_time() - started < 0.05, piece
