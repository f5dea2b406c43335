"""The escaping of guest bytes: reversible, and harmless on a terminal."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.strings import escape

QUOTES = ["", "'", '"']


def unescape(text: str) -> bytes:
    """The bytes that `escape` was given."""
    pieces = re.findall(r"\\x[0-9a-f]{2}|\\.|[^\\]", text, re.DOTALL)
    assert "".join(pieces) == text
    return b"".join(bytes([int(piece[2:], 16)]) if piece[:2] == "\\x" else piece[-1].encode() for piece in pieces)


@given(st.binary() | st.text().map(str.encode), st.sampled_from(QUOTES))
def test_escaping_can_be_undone(data: bytes, quote: str) -> None:
    assert unescape(escape(data, quote)) == data


@given(st.binary() | st.text().map(str.encode), st.sampled_from(QUOTES))
def test_nothing_that_a_terminal_would_obey_comes_through(data: bytes, quote: str) -> None:
    shown = escape(data, quote)
    assert all(unicodedata.category(character)[0] not in "CZ" or character == " " for character in shown)
    if quote:
        assert quote not in re.sub(r"\\.", "", shown)


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2028", "\u2029", "\u200b", "\ufeff", "\x7f", "\x9b", "\u00ad", "\U000e0041"]
)
def test_invisible_and_direction_changing_characters_are_escaped(character: str) -> None:
    assert escape(character.encode()).startswith("\\x")


def test_printable_text_stays() -> None:
    assert escape("/tmp/ünï 漢字 🙂".encode(), '"') == "/tmp/ünï 漢字 🙂"
