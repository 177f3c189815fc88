"""Money as whole numbers of a currency's minor unit: cents, yen, thousandths of a dinar. Never a float.

How many digits the minor unit has is ISO 4217's word. Providers differ from it in places; the ways in and out are here.
"""

from __future__ import annotations

import re
from typing import Final

from fourlane.errors import FourlaneError

__all__ = ["UnknownCurrency", "digits", "from_stripe", "parse", "show"]

_ZERO: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE: Final = "BHD IQD JOD KWD LYD OMR TND"
_FOUR: Final = "CLF UYW"
_TWO: Final = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF "
    "CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN "
    "MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS "
    "SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_DIGITS: Final[dict[str, int]] = {
    code: number for number, codes in ((0, _ZERO), (2, _TWO), (3, _THREE), (4, _FOUR)) for code in codes.split()
}
# Where Stripe counts in another unit than ISO's: ariary have no decimals there, and króna and shilling, which have
# none, are given as hundredths.
_STRIPE_DIGITS: Final = {"MGA": 0, "ISK": 2, "UGX": 2}
_DECIMAL: Final = re.compile(r"(-?)(\d{1,15})(?:\.(\d{1,6}))?")


class UnknownCurrency(FourlaneError, ValueError):
    """A currency that ISO 4217 does not list, so that nobody can say what its minor unit is."""


def digits(currency: str) -> int:
    """How many decimal digits the minor unit has: 2 for USD, 0 for JPY, 3 for KWD. Raises UnknownCurrency."""
    try:
        return _DIGITS[currency.upper()]
    except KeyError:
        raise UnknownCurrency(f"{currency!r} is no currency of ISO 4217") from None


def parse(text: str, currency: str) -> int:
    """Read ``"12.34"`` as minor units.

    Raises:
      UnknownCurrency: of the currency.
      ValueError: it is no decimal number, or finer than the minor unit.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no amount")
    sign, whole, fraction = match[1], match[2], (match[3] or "")
    places = digits(currency)
    if fraction[places:].strip("0"):
        raise ValueError(f"{text} {currency} is finer than the currency's minor unit")
    return int(sign + whole + fraction[:places].ljust(places, "0"))


def from_stripe(amount: int, currency: str) -> int:
    """What Stripe counts in its own minor unit, in ISO's.

    Raises:
      UnknownCurrency: of the currency.
      ValueError: it is finer than the minor unit.
    """
    places = digits(currency)
    shift = _STRIPE_DIGITS.get(currency.upper(), places) - places
    if shift <= 0:
        return amount * int(10**-shift)
    whole, rest = divmod(amount, int(10**shift))
    if rest:
        raise ValueError(f"{amount} {currency} of Stripe is finer than the currency's minor unit")
    return whole


def show(minor: int, currency: str) -> str:
    """``12.34 USD``. Raises UnknownCurrency."""
    places = digits(currency)
    text = f"{abs(minor):0{places + 1}d}"
    amount = f"{text[:-places]}.{text[-places:]}" if places else text
    return f"{'-' if minor < 0 else ''}{amount} {currency.upper()}"
