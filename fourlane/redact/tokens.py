"""Secrets by how their makers begin them, and addresses whose path is a secret. Makers tell their beginnings so that
scanners of code find them; the list follows the rules of those scanners.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from fourlane.redact.form import Form, by_words
from fourlane.redact.keys import REDACTED

__all__ = ["hooks", "tokens"]

# By what follows the beginning. Where the beginning is a word of other things too, a digit is looked for.
_WORD: Final = r"[\w-]{12,}"
_NUMBERED: Final = r"(?=[A-Za-z_-]{0,60}\d)[\w-]{16,}"
_HEX: Final = r"[0-9a-fA-F]{32,}(?![0-9A-Za-z])"
_BASE64: Final = r"[\w+/=-]{8,}"
_LONG: Final = r"[\w+/=.-]{20,}"

_BEGINNINGS: Final[tuple[tuple[str, str], ...]] = (
    # AI: OpenAI, Anthropic and OpenRouter; Perplexity, xAI, Groq, Google, Tavily; Hugging Face, Replicate, Fireworks
    ("sk- sk_ pplx- xai- gsk_ AIza tvly-", _WORD),
    ("hf_ api_org_ r8_ fw_ fc- jina_ nvapi- csk- co_ tgp_v1_ sess-", _NUMBERED),
    # Payments: Stripe, Square, Shippo, Flutterwave. pk_orders is a constraint of a table
    ("rk- rk_ pk_live_ pk_test_ sq0atp- sq0csp- EAAA shippo_live_ shippo_test_ FLWSECK_TEST- FLWSECK-", _WORD),
    ("whsec_", _BASE64),
    # Code and packages: GitHub, GitLab, npm, PyPI, RubyGems, Docker, NuGet's kin, Buildkite, CircleCI
    ("ghp_ gho_ ghs_ ghu_ ghr_ github_pat_ npm_ pypi-AgE rubygems_ dckr_pat_ dckr_oat_", r"[\w-]{20,}"),
    ("glpat- glptt- glrt- gldt- glft- glcbt- glimt- glagent- gloas- glsoat- glffct- GR1348941", r"[\w-]{16,}"),
    ("bkua_ CCIPAT_ CCIPRJ_ CLOJARS_ cio", _NUMBERED),
    # Clouds: AWS, Alibaba, DigitalOcean, Databricks, Cloudflare, Vercel, Netlify, Fly, Heroku, Supabase, PlanetScale
    ("AKIA ASIA ABIA ACCA", r"[0-9A-Z]{16}"),
    ("ABSK LTAI dop_v1_ doo_v1_ dor_v1_ dapi HRKU-AA fo1_ fm1a_ fm1r_ fm2_", r"(?=[A-Za-z_-]{0,60}\d)[\w+/=-]{20,}"),
    (
        "cfut_ cfat_ vercel_ vcp_ nfp_ sbp_ sb_secret_ pscale_oauth_ pscale_tkn_ pscale_pw_ rpa_ rnd_ tskey- figd_",
        _NUMBERED,
    ),
    ("GOCSPX-", r"[\w-]{16,}"),
    # Talk: Slack, Twilio, SendGrid, Brevo, Resend, Mailgun, Meta, Telegram's kin
    ("xox", r"[a-z](?:\.xox[a-z])?-[\w-]{10,}"),
    ("xapp- xwfp- xkeysib- xsmtpsib-", _WORD),
    ("re_", _NUMBERED),
    ("SK key-", _HEX),
    ("EAAC EAAM EAAB", r"[A-Za-z0-9]{40,}"),
    # Watching: Grafana, Sentry, New Relic, PostHog, Dynatrace, Sourcegraph
    ("glsa_ glc_ sntrys_ sntryu_ NRAK- NRJS- sgp_ eyJrIjoi", _LONG),
    ("phc_ phx_ phs_", _NUMBERED),
    # Secrets' keepers and shops: Vault, Doppler, 1Password, age, Shopify, Notion, Linear, Postman, Atlassian, Pulumi
    ("ops_eyJ ATATT3xFf ATCTT3xFf", _LONG),
    ("shpat_ shpca_ shppa_ shpss_ AGE-SECRET-KEY-1 PMAK- PMAT- A3-", r"[0-9A-Za-z-]{28,}"),
    (
        "ntn_ secret_ lin_api_ lin_oauth_ pul- pnu_ rdme_ duffel_live_ duffel_test_ tk-us- sm_aat_ sm_pat_ sm_sat_",
        _NUMBERED,
    ),
)

# Those that no run of word characters begins.
_OTHERS: Final[tuple[tuple[str, str], ...]] = (
    ("eyj", r"eyJ[\w-]{8,}\.[\w-]{8,}\.?[\w-]*"),
    ("ya29. 1//0", r"(?:ya29\.|1//0)[\w-]{16,}"),
    ("access_token$", r"access_token\$(?:production|sandbox)\$[0-9a-z]{8,}\$[0-9a-f]{16,}"),  # Braintree
    ("sg.", r"SG\.[\w-]{16,}\.[\w-]{16,}"),
    ("hvs. hvb. dp. dt0", r"(?:hv[sb]\.|dp\.[ps]t\.|dt0[cs]01\.)[\w.-]{20,}"),
)
_SHORTEST: Final = 14
_RUN: Final = re.compile(rf"(?<![\w-])[\w-]{{{_SHORTEST},}}+")

# The host, to its last dot, and the path from which on it opens something.
_HOOKS: Final[tuple[tuple[str, str], ...]] = (
    (r"hooks\.slack", r"com/(?:services|workflows|triggers)/"),
    (r"hooks\.slack-gov", r"com/(?:services|workflows|triggers)/"),
    (r"discord", r"com/api/(?:v\d{1,3}/)?webhooks/"),
    (r"discordapp", r"com/api/(?:v\d{1,3}/)?webhooks/"),
    (r"api\.telegram", r"org/(?:file/)?bot"),
    (r"webhook\.office", r"com/\w{1,40}/"),
    (r"outlook\.office", r"com/webhook/"),
    (r"outlook\.office365", r"com/webhook/"),
    (r"hooks\.zapier", r"com/hooks/"),
    (r"hook\.(?:eu|us)\d\.make", r"com/"),
    (r"maker\.ifttt", r"com/(?:trigger/[^\s/]{1,100}/(?:json/)?with/key|use)/"),
    (r"events\.pagerduty", r"com/(?:x-ere|integration)/"),
    (r"open\.feishu", r"cn/open-apis/bot/(?:v\d{1,3}/)?hook/"),
    (r"open\.larksuite", r"com/open-apis/bot/(?:v\d{1,3}/)?hook/"),
    # Push services: who has the address of a browser may send to it.
    (r"fcm\.googleapis", r"com/(?:fcm/send|wp|preprod/wp)/"),
    (r"push\.services\.mozilla", r"com/wpush/(?:v\d{1,3}/)?"),
    (r"push\.apple", r"com/"),
    (r"notify\.windows", r"com/(?:w/)?"),
)


def tokens() -> tuple[Form, ...]:
    """A beginning, and what follows it."""
    each = [f"(?:{'|'.join(map(re.escape, beginnings.split()))}){rest}" for beginnings, rest in _BEGINNINGS]
    known = tuple(beginning for beginnings, _ in _BEGINNINGS for beginning in beginnings.split())

    def places(text: str, _: str) -> list[int]:
        """Parts of long runs, for most words of a text are shorter, and there are many beginnings."""
        return [
            place
            for run in _RUN.finditer(text)
            for place in _parts(text, run.start(), run.end() - _SHORTEST)
            if text.startswith(known, place)
        ]

    return (
        Form(places, re.compile(rf"\b(?:{'|'.join(each)})"), lambda _: REDACTED),
        *(by_words(words, rf"\b{pattern}", REDACTED) for words, pattern in _OTHERS),
    )


def _parts(text: str, place: int, last: int) -> Iterator[int]:
    while place <= last:
        yield place
        place = text.find("-", place, last) + 1 or last + 1


def hooks() -> Form:
    """One for all hosts."""
    each = "|".join(rf"(?<={host})\.{path}" for host, path in _HOOKS)
    rest = r"""(?!\[redacted)[^\s"'<>\\)]{1,2000}"""
    return by_words(".com/ .org/ .cn/", rf"({each}){rest}", rf"\1{REDACTED}", re.IGNORECASE)
