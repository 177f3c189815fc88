"""Long texts are split where it hurts least, and joined they are the text again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourlane.tasks.ai.long.parts import Part, split

FAMILY = "👨‍👩‍👧‍👦"  # 25 bytes, one sign
ROWS = [
    # text, bytes, parts
    ("", 10, []),
    ("whole", 10, [Part("whole", "")]),
    ("  \n whole ", 10, [Part("", "  \n "), Part("whole", " ")]),
    ("one two\n\nthree four", 14, [Part("one two", "\n\n"), Part("three four", "")]),
    ("One. Two is. Three", 13, [Part("One. Two is.", " "), Part("Three", "")]),
    ("1,000 and 2,000", 9, [Part("1,000 and", " "), Part("2,000", "")]),
    ("これは。それは。", 12, [Part("これは。", ""), Part("それは。", "")]),
    ("abcdefghij", 4, [Part("abcd", ""), Part("efgh", ""), Part("ij", "")]),
    (FAMILY * 2, 30, [Part(FAMILY, ""), Part(FAMILY, "")]),
    ("e\u0301" * 3, 4, [Part("e\u0301", "")] * 3),  # a letter and its accent
    ("🇩🇪🇫🇷🇪🇸", 20, [Part("🇩🇪🇫🇷", ""), Part("🇪🇸", "")]),
    ("👍🏽👍🏽", 10, [Part("👍🏽", ""), Part("👍🏽", "")]),
    ("\u1100\u1161\u11a8" * 2, 10, [Part("\u1100\u1161\u11a8", "")] * 2),  # letters of one syllable
    ("\ud83d\ude00" * 2, 9, [Part("\ud83d\ude00", ""), Part("\ud83d\ude00", "")]),  # halves, as some JSON has them
    ("a\r\nb", 4, [Part("a\r\nb", "")]),
    ("a" + "\u0301" * 3_000, 100, None),  # longer than any sign is: torn, but not lost
]


@pytest.mark.parametrize(("text", "most", "parts"), ROWS)
def test_where_it_is_split(text: str, most: int, parts: list[Part] | None) -> None:
    found = split(text, most)
    assert "".join(part.text + part.gap for part in found) == text
    assert all(len(part.text.encode("utf-8", "surrogatepass")) <= most for part in found)
    if parts is not None:
        assert found == parts


@given(
    st.text(st.characters(exclude_categories=[]) | st.sampled_from("\n .。👍🏽\u200d🇩🇪é"), max_size=300),
    st.integers(4, 80),
)
def test_joined_they_are_the_text_again(text: str, most: int) -> None:
    parts = split(text, most)
    assert "".join(part.text + part.gap for part in parts) == text
    for part in parts:
        assert part.text == part.text.strip()
        assert len(part.text.encode("utf-8", "surrogatepass")) <= most


def test_a_long_text_takes_no_longer_than_it_is_long() -> None:
    assert len(split("word " * 1_000_000, 8_000)) < 700
