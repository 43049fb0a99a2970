"""Text as a key: a passphrase, or a key that was written as hex or base64, in any encoding that is still met.

ASCII, and UTF-8 of a Latin script, are judged by what they are: nothing but characters that can be printed. Of other
encodings that would refuse too many good keys, since most bytes are some letter of Latin-1. There a key is weighed:
each script says how often its letters, spaces and digits come in a text, hence how much likelier a stretch of
characters is as such a text than at random. Only what is 2^70 times as likely is refused. Whatever the shares, random
keys are that at most once in 2^70 for each stretch, script and encoding (Markov's inequality: the likelihood's mean
over random keys is at most 1). What falls short, such as Chinese in UTF-16 or Thai in single bytes, where nearly any
bytes are some character, can't be told from a key.
"""

from __future__ import annotations

import functools
import itertools
import math
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rekeyd.custody.padding import bodies

_BYTE_BITS: Final = 8
_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\n\r") | frozenset(range(0xC0, 0x180))
"""In Unicode: ASCII's 98, and 192 letters with an accent, of which UTF-8 makes two bytes."""
_EBCDIC_PLAIN: Final = frozenset((string.ascii_letters + string.digits + " .,-_/+=:").encode("cp037"))


def is_printable(view: memoryview) -> bool:
    """UTF-8 to be read, hex, base64 or words, in ASCII and Latin letters, and padding around it at the most: < 2^-43.

    n bytes are that with the probability p(n) = 98/256 p(n - 1) + 192/65536 p(n - 2), with p(32) = 2^-43.4. Or they are
    letters, digits and the like in EBCDIC, where (71/256)^32 < 2^-59.
    """
    return any(
        all(point in _PRINTABLE for point, _ in _utf8(body)) or all(byte in _EBCDIC_PLAIN for byte in body)
        for body in bodies(view)
    )


_EVIDENCE_BITS_MIN: Final = 70
_PADDING_BITS: Final = 7
"""What a byte of padding adds: one less than it is worth, so that any number of them counts as one possibility."""


def is_text(view: memoryview) -> bool:
    """A stretch of it is text in some script and encoding, with padding as evidence, too: 2^-48.

    It is 2^-70 for each of at most 528 stretches, of 157 pairs of a script and an encoding, and of 40 ways to be padded
    and to begin with a length.
    """
    for body in bodies(view):
        enough = _EVIDENCE_BITS_MIN - _PADDING_BITS * (len(view) - len(body))
        if any(_evidence([gains[byte] for byte in body]) >= enough for gains in _single_byte_gains()):
            return True
        if any(
            _evidence([script.gain(point, size) for point, size in characters]) >= enough
            for characters in _characters(body)
            for script in _SCRIPTS
        ):
            return True
    return False


def _characters(body: memoryview) -> Iterator[list[tuple[int, int]]]:
    """As UTF-8, and as UTF-16 of either order of bytes, begun at an even or an odd one."""
    yield list(_utf8(body))
    for start, low in itertools.product((0, 1), (0, 1)):
        yield list(_utf16(body, start, low))


def _evidence(gains: Sequence[float]) -> float:
    """The most that a stretch without a gap adds up to."""
    most = current = 0.0
    for gain in gains:
        current = max(0.0, current + gain)
        most = max(most, current)
    return most


class _Script(NamedTuple):
    """How much likelier each character is in such a text than at random, in bits, but for the bits that it takes."""

    singles: Mapping[int, float]
    blocks: tuple[tuple[range, float], ...]

    def gain(self, point: int, size: int) -> float:
        """The same of this character, which takes so many bytes."""
        gain = self.singles.get(point)
        if gain is None:
            gain = next((each for block, each in self.blocks if point in block), -math.inf)
        return gain + _BYTE_BITS * size


def _script(*shares: tuple[float, Sequence[int]]) -> _Script:
    """Of how often a text has which characters: shares, which add up to 1, of equally likely ones."""
    assert math.isclose(sum(share for share, _ in shares), 1)
    gains = [(points, math.log2(share / len(points))) for share, points in shares]
    return _Script(
        {point: gain for points, gain in gains if not isinstance(points, range) for point in points},
        tuple((points, gain) for points, gain in gains if isinstance(points, range)),
    )


def _points(characters: str) -> tuple[int, ...]:
    return tuple(map(ord, dict.fromkeys(characters)))


_BETWEEN: Final = (
    (0.12, _points(" ")),
    (0.06, _points("0123456789")),
    (0.03, _points(".,'-")),
    (0.02, _points('!"#$%&()*+/:;<=>?@[\\]^_`{|}~\n\r\t¡¿«»')),
    (0.01, range(0x2010, 0x2070)),  # quotation marks and dashes
    (0.01, range(0x1F300, 0x1FB00)),  # emoji
)
_BETWEEN_SHARE: Final = 0.25
_RARE_SHARE: Final = 0.09
_OTHER_CASE_SHARE: Final = 0.05


def _cased(frequent: str, rare: str, *others: tuple[float, Sequence[int]]) -> tuple[_Script, _Script]:
    """A script with small and capital letters, as it is mostly written, and in capitals."""
    left = 1 - _BETWEEN_SHARE - _RARE_SHARE - _OTHER_CASE_SHARE - sum(share for share, _ in others)
    small, small_rare = _points(frequent), _points(rare)
    capital, capital_rare = _points(frequent.upper()), _points(rare.upper())
    return (
        _script(
            *_BETWEEN,
            *others,
            (left, small),
            (_RARE_SHARE, small_rare),
            (_OTHER_CASE_SHARE, capital + capital_rare),
        ),
        _script(
            *_BETWEEN,
            *others,
            (left, capital),
            (_RARE_SHARE, capital_rare),
            (_OTHER_CASE_SHARE, small + small_rare),
        ),
    )


def _caseless(*blocks: range) -> _Script:
    """A script of one kind of letters: the block's characters are taken as equally likely, and so are the blocks."""
    return _script(*_BETWEEN, *(((1 - _BETWEEN_SHARE) / len(blocks), block) for block in blocks))


_LATIN: Final = (
    *_cased(
        "etaoinsrhldcum",
        "bfgjkpqvwxyz",
        (0.06, _points("éèàäöüáíóúñç")),
        (0.02, _points("ÉÈÀÄÖÜÁÍÓÚÑÇâãåæêëìîïòôõøùûýÿßœąćčďđęěğıłńňőřśşšťůűźżžăơư")),
        (0.01, range(0x1EA0, 0x1F00)),  # Vietnamese
    ),
    _script((1.0, _points("0123456789abcdef"))),
    _script((1.0, _points("0123456789ABCDEF"))),
)
_CYRILLIC: Final = _cased("оеаинтсрвлкмдп", "уяыьгзбчйхжшюцщэфъёіїєґ")
_GREEK: Final = _cased("αοιετνσρηπκμλς", "υωθγδχφβξζψάέήίόύώ")
_ARMENIAN: Final = _caseless(range(0x0530, 0x0590))
_HEBREW: Final = _caseless(range(0x05D0, 0x05EB))
_ARABIC: Final = _caseless(range(0x0621, 0x0653))
_THAI: Final = _caseless(range(0x0E01, 0x0E5C))
_SCRIPTS: Final = (
    *_LATIN,
    *_CYRILLIC,
    *_GREEK,
    _ARMENIAN,
    _HEBREW,
    _ARABIC,
    _THAI,
    *(_caseless(range(first, first + 0x80)) for first in range(0x0900, 0x0E00, 0x80)),  # the scripts of India
    _caseless(range(0x10A0, 0x1100)),  # Georgian
    _caseless(range(0xAC00, 0xD7A4)),  # Korean
    _caseless(range(0x3000, 0x3100), range(0x4E00, 0xA000)),  # Japanese, Chinese
)
_SINGLE_BYTE: Final = (
    # IBM's two are EBCDIC; they differ in marks alone, as Latin-1 and what Windows made of it do.
    *(
        (script, encoding)
        for script in _LATIN
        for encoding in ("cp1252", "cp037", "cp500", "cp850", "mac_roman")
    ),
    *((script, encoding) for script in _CYRILLIC for encoding in ("cp1251", "koi8_r", "iso8859_5", "cp866")),
    *((script, "iso8859_7") for script in _GREEK),
    (_HEBREW, "iso8859_8"),
    (_ARABIC, "iso8859_6"),
)


@functools.cache
def _single_byte_gains() -> tuple[tuple[float, ...], ...]:
    """What each of the 256 bytes adds, by script and encoding."""
    return tuple(
        tuple(script.gain(ord(bytes([byte]).decode(encoding, "replace")), 1) for byte in range(256))
        for script, encoding in _SINGLE_BYTE
    )


_NO_CHARACTER: Final = (-1, 1)
_FOLLOWING_BITS: Final = 6
_FOLLOWING: Final = range(0b10 << _FOLLOWING_BITS, 0b11 << _FOLLOWING_BITS)
_UTF8: Final = (
    (range(0x80), 0, 0),
    (range(0xC0, 0xE0), 1, 0x80),
    (range(0xE0, 0xF0), 2, 0x800),
    (range(0xF0, 0xF8), 3, 0x10000),
)
"""First bytes, how many follow, and the first character that needs as many (RFC 3629, 3)."""


def _utf8(view: memoryview) -> Iterator[tuple[int, int]]:
    """Its characters as numbers, with their size in bytes. Not through str: that is a copy which nobody overwrites."""
    at = 0
    while at < len(view):
        yield (character := _utf8_character(view, at))
        at += character[1]


def _utf8_character(view: memoryview, at: int) -> tuple[int, int]:
    for leads, following, least in _UTF8:
        tail = view[at + 1 : at + 1 + following]
        if view[at] in leads and len(tail) == following and all(byte in _FOLLOWING for byte in tail):
            point = view[at] - leads.start
            for byte in tail:
                point = (point << _FOLLOWING_BITS) + byte - _FOLLOWING.start
            return (point, 1 + following) if point >= least else _NO_CHARACTER
    return _NO_CHARACTER


def _utf16(view: memoryview, start: int, low: int) -> Iterator[tuple[int, int]]:
    """The same of UTF-16 from a byte on; of two bytes the first (0) or the second (1) is the low one.

    Pairs of surrogates are left as two characters that no script has.
    """
    for at in range(start, len(view) - 1, 2):
        yield view[at + 1 - low] << _BYTE_BITS | view[at + low], 2
