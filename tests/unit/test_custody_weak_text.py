"""Keys that are text, in the languages and encodings in which people have passphrases, padded or not."""

# ruff: noqa: RUF001 - other scripts' letters are what these tests are about

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.custody import text as subject
from rekeyd.custody.material import MATERIAL_BYTES
from rekeyd.custody.padding import bodies
from rekeyd.custody.text import is_text
from rekeyd.custody.weak import weakness

# ruff: noqa: RUF001 - letters of other scripts that look like Latin ones are what this is about

LATIN = ("cp037", "cp500", "latin-1", "cp1252", "cp850", "mac_roman")
CYRILLIC = ("cp1251", "koi8_r", "iso8859_5", "cp866")
UNICODE = ("utf-8", "utf-16-le", "utf-16-be")
TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "English": ("the quick brown fox jumps over the lazy dog", LATIN),
    "English in capitals": ("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG", LATIN),
    "English with figures": ("Room 101, second floor, call Mary at 9:30!", LATIN),
    "German": ("Über den Wolken muss die Freiheit wohl grenzenlos sein", LATIN),
    "French": ("Ça été déjà l'été à la forêt près d'Orléans", LATIN),
    "Spanish": ("mañana será otro día, señor niño pequeño", LATIN),
    "Polish": ("Zażółć gęślą jaźń i pchnąć w tę łódź jeża", ()),
    "Turkish": ("Pijamalı hasta yağız şoföre çabucak güvendi", ()),
    "Vietnamese": ("Trăm năm trong cõi người ta chữ tài", ()),
    "Russian": ("Все счастливые семьи похожи друг на друга, каждая", CYRILLIC),
    "Ukrainian": ("Ще не вмерла України і слава, і воля", ("cp1251",)),
    "Greek": ("Σε γνωρίζω από την κόψη του σπαθιού την", ("iso8859_7",)),
    "Hebrew": ("דג סקרן שט בים מאוכזב ולפתע מצא חברה", ("iso8859_8",)),
    "Arabic": ("نص حكيم له سر قاطع وذو شأن عظيم مكتوب", ("iso8859_6",)),
    "Hindi": ("ऋषियों को सताने वाले दुष्ट राक्षसों", ()),
    "Thai": ("เป็นมนุษย์สุดประเสริฐเลิศคุณค่าเหนือใคร", ()),
    "Georgian": ("ვეფხის ტყაოსანი შოთა რუსთაველი", ()),
    "Armenian": ("Բել դղյակի ձախ ժամն օֆ ազգությանը", ()),
    "Japanese": ("いろはにほへと ちりぬるを わかよたれそ", ()),
}
ONLY_UTF8 = {
    "Korean": "다람쥐 헌 쳇바퀴에 타고파 키스의 고유조건",
    "Chinese": "天地玄黄宇宙洪荒日月盈昃辰宿列张",
}
WRITTEN = [
    *((text, encoding) for text, encodings in TEXTS.values() for encoding in (*UNICODE, *encodings)),
    *((text, "utf-8") for text in ONLY_UTF8.values()),
]


def padded(body: bytes) -> Iterator[bytes]:
    """In every way that has a name, and cut off where it's too long."""
    body = body[:MATERIAL_BYTES]
    missing = MATERIAL_BYTES - len(body)
    yield body + bytes([missing]) * missing
    for filler in (b"\0", b" ", b"\xff"):
        yield body + filler * missing
    yield bytes(missing) + body
    if missing:
        yield body + b"\x80" + bytes(missing - 1)
        yield body + bytes(missing - 1) + bytes([missing])
        yield bytes([len(body)]) + body + bytes(missing - 1)
    for width in (2, 4):
        if missing >= width:
            yield len(body).to_bytes(width, "big") + body + bytes(missing - width)
            yield len(body).to_bytes(width, "little") + body + bytes(missing - width)


@pytest.mark.parametrize(("text", "encoding"), WRITTEN)
@pytest.mark.parametrize("cut", [MATERIAL_BYTES, 26, 12])
def test_text_of_any_language_is_refused_however_it_is_padded(text: str, encoding: str, cut: int) -> None:
    for skipped in (0, len(text) // 4):
        for key in padded(text[skipped:].encode(encoding)[:cut]):
            assert weakness(bytearray(key)) is not None, (skipped, key)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=32, max_size=32))
def test_every_printable_text_is_refused(text: str) -> None:
    assert weakness(bytearray(text.encode())) is not None


@given(
    st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_categories=["Cc", "Sm", "So", "No"])
    ),
    st.integers(0, 15),
)
def test_passphrases_of_latin_letters_and_any_sign_are_refused_in_utf8(text: str, which: int) -> None:
    plain = "".join(each for each in text if each.isascii() or ord(each) >= 0xC0)
    body = plain.encode()[:MATERIAL_BYTES].decode(errors="ignore").encode()
    keys = list(padded(body))

    assert weakness(bytearray(keys[which % len(keys)])) is not None


@given(
    st.text(string.ascii_letters + string.digits + "+/=", max_size=32), st.sampled_from(["cp037", "cp500"])
)
def test_base64_in_ebcdic_is_refused(text: str, encoding: str) -> None:
    for key in padded(text.encode(encoding)):
        assert weakness(bytearray(key)) is not None


@given(st.binary(min_size=0, max_size=24), st.integers(0, 10))
def test_every_shorter_secret_is_refused_however_it_is_padded(secret: bytes, which: int) -> None:
    keys = list(padded(secret))

    assert weakness(bytearray(keys[which])) is not None


@given(st.binary(min_size=0, max_size=22), st.integers(0, 255))
def test_every_shorter_secret_that_is_padded_with_one_byte_is_refused(secret: bytes, pad: int) -> None:
    assert weakness(bytearray(secret + bytes([pad]) * (32 - len(secret)))) is not None


@given(
    st.integers(18, 31),
    st.randoms(use_true_random=False),
    st.sampled_from(["0123456789abcdef", "0123456789ABCDEF"]),
)
def test_hex_is_refused_amid_random_bytes(length: int, chance: random.Random, digits: str) -> None:
    """As ISO 10126 pads, with random bytes."""
    written = "".join(chance.choices(digits, k=length)).encode()
    before = chance.randrange(33 - length)

    assert (
        weakness(bytearray(chance.randbytes(before) + written + chance.randbytes(32 - length - before)))
        is not None
    )


@given(st.binary(min_size=32, max_size=32))
def test_what_is_left_without_padding_is_a_part_of_the_key_and_never_nothing(key: bytes) -> None:
    with memoryview(key) as view:
        left = [body.tobytes() for body in bodies(view)]

    assert key in left
    assert all(body and body in key for body in left)


# --- bounds ------------------------------------------------------------------------------------


def test_no_script_gives_its_characters_more_than_the_probability_that_there_is() -> None:
    """What the bound on good keys that are taken for text rests on (Markov's inequality)."""
    for gains in subject._single_byte_gains():
        assert sum(2.0**gain for gain in gains) <= 256 * (1 + 1e-9)
    for script in subject._SCRIPTS:
        assert sum(2.0 ** script.gain(point, 0) for point in range(0x20000)) <= 1 + 1e-9


def test_there_are_as_many_scripts_and_encodings_as_the_bound_counts() -> None:
    assert len(subject._single_byte_gains()) + 5 * len(subject._SCRIPTS) == 157


@given(st.text(min_size=1).filter(lambda text: max(text) < "\ud800"))
def test_utf8_is_read_as_python_reads_it(text: str) -> None:
    with memoryview(text.encode()) as view:
        assert "".join(chr(point) for point, _ in subject._utf8(view)) == text


@pytest.mark.parametrize(
    "wrong", [b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xc3", b"\x80", b"\xff"]
)
def test_what_is_no_utf8_is_no_character(wrong: bytes) -> None:
    with memoryview(wrong) as view:
        assert {point for point, _ in subject._utf8(view)} == {-1}


def test_a_stretch_of_text_in_good_randomness_is_no_text() -> None:
    """Eight characters may come by chance; it takes many."""
    chance = random.Random(7)
    for _ in range(100):
        with memoryview(chance.randbytes(12) + b"password" + chance.randbytes(12)) as view:
            assert not is_text(view)
