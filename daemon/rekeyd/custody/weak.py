"""What makes a key too weak to take, whoever made it: the rules, one a line, and the words for breaking each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rekeyd.custody.material import MATERIAL_BYTES
from rekeyd.custody.padding import is_padded
from rekeyd.custody.patterns import creeps, is_poor, mirrors, recurs, repeats
from rekeyd.custody.text import is_printable, is_text
from rekeyd.custody.well_known import is_well_known

_SEQUENCE: Final = "it counts, or follows another rule from byte to byte"
_PATTERN: Final = "it is a shorter pattern, repeated, mirrored or inverted"
_TEXT: Final = "it is text: a passphrase, or a key written as hex or base64"
_RULES: Final[tuple[tuple[Callable[[memoryview], bool], str], ...]] = (
    (creeps, _SEQUENCE),
    (repeats, _PATTERN),
    (mirrors, _PATTERN),
    (recurs, _SEQUENCE),
    (is_padded, "it is padded: less than a key was made as long as one"),
    (is_printable, _TEXT),
    (is_text, _TEXT),
    (is_poor, "it has too few different bytes"),
    (is_well_known, "it is published: a test vector, or the hash of a common word"),
)


def weakness(buffer: bytearray) -> str | None:
    """The rule that the material breaks, which a key made at random never does; None where it breaks none.

    A key made at random is refused with a probability below 2^-43, one in eight million million: that is the rule about
    printable text; of the others, the one about text in other encodings is below 2^-48, the rest together below 2^-56.
    The words name the rule, which says something of a key that must not be used and nothing of one that may.
    """
    if len(buffer) != MATERIAL_BYTES:
        return f"it is {len(buffer)} bytes long: a 256-bit key is {MATERIAL_BYTES}"
    # A view, since slices of a buffer are copies, which nobody would overwrite.
    with memoryview(buffer) as view:
        return next((reason for breaks, reason in _RULES if breaks(view)), None)
