"""Keys whose bytes follow from one another, or are hardly any: what no generator of keys gives.

Each judgement says how often it is wrong: the probability that 32 bytes, each drawn at random, are refused by it. None
leaves a copy of the whole: of a view, slices are views.
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

_BYTE_BITS: Final = 8
_BYTES: Final = 1 << _BYTE_BITS
_NIBBLE_BITS: Final = 4
_ORDERS: Final[tuple[Literal["big", "little"], ...]] = ("big", "little")


# --- one after the other -----------------------------------------------------------------------

_SMALL_STEP_BITS: Final = {1: 5, 2: 11, 4: 22, 8: 40}
"""By the width of a word in bytes: a step below two to this is a small one."""


def creeps(view: memoryview) -> bool:
    """Words of 1, 2, 4 or 8 bytes, in either order, each a little above the one before, or each below: 2^-67.

    Counters, one byte over and over, primes, years, times. Of single bytes also any that are in order: 2^-113.
    """
    return any(_each_step_is_small(words, width) for width, words in _every_words(view)) or _in_order(view)


def _each_step_is_small(words: list[int], width: int) -> bool:
    every, small = 1 << (_BYTE_BITS * width), 1 << _SMALL_STEP_BITS[width]
    pairs = list(itertools.pairwise(words))
    return all((later - earlier) % every < small for earlier, later in pairs) or all(
        (earlier - later) % every < small for earlier, later in pairs
    )


def _in_order(view: memoryview) -> bool:
    return all(map(operator.le, view, view[1:])) or all(map(operator.ge, view, view[1:]))


_RECURRENCE_TERMS: Final = {1: 8, 2: 3, 4: 2, 8: 1}
"""By the width of a word in bytes: how many of those before it a word may follow from."""


def recurs(view: memoryview) -> bool:
    """Each word is a sum of fixed multiples of the few before it, and of a constant: 2^-63.

    So do Fibonacci's, powers of a number, squares, cubes and every polynomial below the eighth degree, short patterns,
    and what a linear congruential generator gives. A word of 1, 2, 4 or 8 bytes follows from up to 8, 3, 2 or 1.
    Words and multipliers are taken modulo all values of a word; where multipliers exist that explain a key, there are
    at most as many such keys as there are first words and multipliers, which the probability counts.
    """
    for width, words in _every_words(view):
        terms = _RECURRENCE_TERMS[width]
        equations = [[*words[at - terms : at], 1, words[at]] for at in range(terms, len(words))]
        if _solvable(equations, _BYTE_BITS * width):
            return True
    return False


def _solvable(rows: list[list[int]], bits: int) -> bool:
    """Whether some numbers modulo 2^bits satisfy all equations; the last of each row is what the others add up to.

    Gauss's elimination. The pivot is the coefficient with the fewest factors of two, which all others are thus
    multiples of: no division is needed but by it, and at the end only its own row says whether it can be divided.
    """
    mask = (1 << bits) - 1
    columns = range(len(rows[0]) - 1)
    while True:
        found = [
            (row[at] & -row[at], number, at) for number, row in enumerate(rows) for at in columns if row[at]
        ]
        if not found:
            return not any(row[-1] for row in rows)
        twos, number, at = min(found)
        pivot = rows.pop(number)
        if pivot[-1] % twos:
            return False
        inverse = pow(pivot[at] // twos, -1, 1 << bits)
        for row in rows:
            times = row[at] // twos * inverse
            row[:] = [(mine - times * its) & mask for mine, its in zip(row, pivot, strict=True)]


def _every_words(view: memoryview) -> Iterator[tuple[int, list[int]]]:
    """Its words of each width, in either order of their bytes, with the width."""
    for width in _SMALL_STEP_BITS:
        for order in _ORDERS[:width]:  # a single byte has but one
            yield width, _words(view, width, order)


def _words(view: memoryview, width: int, order: Literal["big", "little"] = "big") -> list[int]:
    return [int.from_bytes(view[at : at + width], order) for at in range(0, len(view), width)]


# --- the same again ----------------------------------------------------------------------------

_PERIOD_MAX: Final = 24
"""A key of 192 bits, begun anew."""
_EQUAL_MIN: Final = 12
_ALIKE_MIN: Final = 13


def repeats(view: memoryview) -> bool:
    """A shorter pattern over and over, with a few other bytes or a counter in it: 2^-63.

    At some distance, up to 24, 12 bytes or more (all, where fewer are left) equal those that far before: 2^-63.8. Or at
    a distance up to 16 they differ, 13 or more, in the same bits or by the same amount, as inverted halves do, or add
    up to the same: 2^-65.
    """
    for distance in range(1, _PERIOD_MAX + 1):
        later, earlier = view[distance:], view[:-distance]
        if sum(map(operator.eq, later, earlier)) >= min(_EQUAL_MIN, len(later)):
            return True
        if any(_most_alike(how, later, earlier) >= _ALIKE_MIN for how in _ALIKE):
            return True
    return False


def mirrors(view: memoryview) -> bool:
    """The second half, or each half's own, is the first one backwards, or that inverted or shifted: 2^-82.

    12 of the 16 bytes are equal, or 13 alike as above. Also with the digits of its hex backwards.
    """
    half, quarter = len(view) // 2, len(view) // 4
    halves = (view[half:], view[half - 1 :: -1])
    of_halves = (
        itertools.chain(view[quarter:half], view[half + quarter :]),
        itertools.chain(view[quarter - 1 :: -1], view[half + quarter - 1 : half - 1 : -1]),
    )
    for later, earlier in (halves, of_halves):
        second, first = list(later), list(earlier)
        for backwards in (first, list(map(_digits_swapped, first))):
            if sum(map(operator.eq, second, backwards)) >= _EQUAL_MIN:
                return True
            if any(_most_alike(how, second, backwards) >= _ALIKE_MIN for how in _ALIKE):
                return True
    return False


def _most_alike(how: Callable[[int, int], int], later: Iterable[int], earlier: Iterable[int]) -> int:
    return max(Counter(map(how, later, earlier)).values())


def _minus(later: int, earlier: int) -> int:
    return (later - earlier) % _BYTES


def _plus(later: int, earlier: int) -> int:
    return (later + earlier) % _BYTES


_ALIKE: Final = (operator.xor, _minus, _plus)


def _digits_swapped(byte: int) -> int:
    return (byte << _NIBBLE_BITS | byte >> _NIBBLE_BITS) % _BYTES


# --- hardly any different ones -----------------------------------------------------------------

_DISTINCT_MIN: Final = {1: 14, 2: 11, 4: 6, 8: 4}
"""By the width of a word in bytes: 2^-68, 2^-68, 2^-86, 2^-61."""
_DIGITS_MIN: Final = 8
"""Of 64 hex digits: 2^-62."""
_SPREAD_MIN: Final = 48
"""All bytes within less, as digits of a small base are: 2^-70."""
_SAME_MAX: Final = 12
"""More of one byte: 2^-67."""
_RUN_MAX: Final = 9
"""More of one byte in a row: 2^-67."""


def is_poor(view: memoryview) -> bool:
    """It has too few different bytes, words or hex digits, all near one another, or much too many of one: 2^-60."""
    digits = {byte >> _NIBBLE_BITS for byte in view} | {byte % (1 << _NIBBLE_BITS) for byte in view}
    return (
        any(len(set(_words(view, width))) < least for width, least in _DISTINCT_MIN.items())
        or len(digits) < _DIGITS_MIN
        or max(view) - min(view) < _SPREAD_MIN
        or max(Counter(view).values()) > _SAME_MAX
        or max(sum(1 for _ in same) for _, same in itertools.groupby(view)) > _RUN_MAX
    )
