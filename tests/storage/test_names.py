"""What names and references may be, and whose a file is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourlane.errors import InvalidName
from fourlane.storage.names import belongs_to, check_file_name, file_name, name_of, reference

LONG = "x" * 500


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("ai", "acme", "1P7T", "image.png"), "ai/acme/1P7T/image.png"),
        (("ai", "", "1P7T", "image.png"), "ai/-/1P7T/image.png"),  # nobody's
        (("ai", "-", "1P7T", "image.png"), "ai/%2D/1P7T/image.png"),  # a tenant of that name is somebody
        (("ai", "..", "..", "..png"), "ai/%2E./%2E./%2E.png"),
        (("ai", ".", "/etc", "a/b.png"), "ai/%2E/%2Fetc/a%2Fb.png"),
        (("ai", "a b", "ü", "ai:x.mp3"), "ai/a%20b/%C3%BC/ai%3Ax.mp3"),
        (("ai", "%2E", "j", "\ud83d"), "ai/%252E/j/%ED%A0%BD"),
    ],
)
def test_names(words: tuple[str, str, str, str], name: str) -> None:
    assert file_name(*words) == name


@pytest.mark.parametrize(
    "words", [("", "t", "j", "f"), ("AI", "t", "j", "f"), ("ai", "t", "", "f"), ("..", "", "j", "f")]
)
def test_words_that_make_no_name(words: tuple[str, str, str, str]) -> None:
    with pytest.raises(InvalidName):
        file_name(*words)


def test_what_is_too_long_is_cut_and_stays_what_it_is() -> None:
    name = file_name("ai", LONG, LONG + "1", LONG + ".png")
    assert len(name) < 500
    assert name.endswith(".png")
    assert file_name("ai", LONG, LONG + "2", LONG + ".png") != name
    assert belongs_to(reference(name), LONG)
    assert not belongs_to(reference(name), LONG + "x")


@settings(deadline=None)
@given(st.text(), st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_any_words_have_a_name_of_their_own(tenant: str, group: str, file: str, other: str) -> None:
    name = file_name("ai", tenant, group, file)
    assert name_of(reference(name)) == name
    assert belongs_to(reference(name), tenant)
    assert (file_name("ai", tenant, group, other) == name) == (file == other)
    assert name.split("/")[1:] == [word for word in name.split("/")[1:] if not word.startswith(".")]


@pytest.mark.parametrize(
    "name",
    [
        "", "ai", "ai/t/j", "ai/t/j/f/g", "/ai/t/j/f", "ai/t/j/f/", "ai//j/f", "ai/../j/f", "ai/t/./f", "ai/t/j/.f",
        "ai/t/j/..", "ai/t/j/a b", "ai/t/j/a\n", "ai/t/j/a\0", "ai/t/j/a\\b", "ai/t/j/ü", "C:/t/j/f", f"ai/t/j/{LONG}",
    ],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidName):
        check_file_name(name)
    with pytest.raises(InvalidName):
        name_of(f"storage:{name}")


@pytest.mark.parametrize("ref", ["", "ai/t/j/f", "disk:ai/t/j/f", "STORAGE:ai/t/j/f", "storage://ai/t/j/f", None, 5])
def test_what_is_no_reference(ref: str) -> None:
    with pytest.raises(InvalidName):
        name_of(ref)


@pytest.mark.parametrize(
    ("tenant", "theirs"),
    [("acme", True), ("", False), ("-", False), ("acm", False), ("ACME", False), ("acme/j", False)],
)
def test_whose_a_file_is(tenant: str, theirs: bool) -> None:
    assert belongs_to("storage:ai/acme/j/f", tenant) == theirs
