"""Where something shorter than a key was made as long as one: the padding, and the length that is written before it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, Literal

_FILLERS: Final = (0x00, 0x20, 0xFF)
_MARK: Final = 0x80
_LENGTH_WIDTHS: Final = (1, 2, 4)
_ORDERS: Final[tuple[Literal["big", "little"], ...]] = ("big", "little")
_PADDING_MIN: Final = 8


def is_padded(view: memoryview) -> bool:
    """Eight bytes or more of it are padding, or the length of the rest: 2^-56.

    Eight such bytes come once in 2^64. There are 6 ways in which all are at the end, one with all at the start, and 132
    in which zeros or a length of 1, 2 or 4 bytes, in any form, begin it, and the rest of the eight end it.
    """
    return any(len(view) - len(body) >= _PADDING_MIN for body in bodies(view))


def bodies(view: memoryview) -> Iterator[memoryview]:
    """The whole, and what is left of it without what may be padding, or its length; never nothing."""
    for stop in _stops(view):
        for start in _starts(view, stop):
            yield view[start:stop]


def _stops(view: memoryview) -> set[int]:
    """Without zeros, spaces or 0xFF at its end; and as PKCS #7, ISO/IEC 7816-4 (0x80, zeros) or ANSI X9.23 pad."""
    size, last = len(view), view[-1]
    run = _run(view[::-1])
    stops = {size}
    if last in _FILLERS:
        stops.add(size - run)
    if 0 < last <= run:
        stops.add(size - last)
    if 1 < last < size and not any(view[size - last : -1]):
        stops.add(size - last)
    zeros = run if last == 0 else 0
    if zeros < size and view[size - zeros - 1] == _MARK:
        stops.add(size - zeros - 1)
    return stops - {0}


def _starts(view: memoryview, stop: int) -> set[int]:
    """Without zeros at its start; or without its length, in bytes or in characters of two, with itself or not."""
    starts = {0}
    if view[0] == 0:
        starts.add(_run(view))
    for width in _LENGTH_WIDTHS:
        body = stop - width
        for order in _ORDERS:
            if int.from_bytes(view[:width], order) in {body, body // 2, stop}:
                starts.add(width)
    return {start for start in starts if start < stop}


def _run(view: memoryview) -> int:
    return sum(1 for _ in itertools.takewhile(lambda byte: byte == view[0], view))
