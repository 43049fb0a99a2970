"""Key material in the clear: a buffer that doesn't outlive its use, and what makes a key too weak to take.

Only here, in wrapping and in what imports it does it exist. Nothing in this module logs, and no error that leaves it
says anything of what the material is, apart from which rule it breaks.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from rekeyd.domain.custody import ProviderRequest

MATERIAL_BYTES = 32
"""256 bits, all that AES-256 and KMS's SYMMETRIC_DEFAULT take."""


class Material:
    """A key in the clear, in a buffer of its own. `held` overwrites it."""

    __slots__ = ("_buffer", "requests")

    def __init__(self, buffer: bytearray, requests: tuple[ProviderRequest, ...] = ()) -> None:
        self._buffer = buffer
        self.requests = requests
        """Those that it took to unwrap it."""

    def __repr__(self) -> str:
        return "Material(…)"

    def __reduce__(self) -> str:
        raise TypeError("key material is never pickled or copied")

    @property
    def buffer(self) -> bytearray:
        """The bytes themselves. Never keep them, nor a copy."""
        return self._buffer

    def digest(self) -> bytes:
        """Its SHA-256."""
        return hashlib.sha256(self._buffer).digest()

    def has_digest(self, expected: bytes) -> bool:
        """Whether it has this SHA-256; takes as long whichever bytes differ."""
        return hmac.compare_digest(self.digest(), expected)


@contextmanager
def held(buffer: bytearray, requests: tuple[ProviderRequest, ...] = ()) -> Iterator[Material]:
    """Lend the material, and overwrite it afterwards, however that ends."""
    try:
        yield Material(buffer, requests)
    finally:
        wipe(buffer)


def wipe(buffer: bytearray) -> None:
    """Overwrite the buffer where it is."""
    # Without a new size: that could move it, and leave the former bytes behind.
    buffer[:] = bytes(len(buffer))


def taken(secret: bytes) -> bytearray:
    """Move a secret, which a library could give only as bytes, into a buffer, and overwrite those bytes.

    Nobody else may have them: bytes are meant never to change, and this changes them. CPython keeps their content at
    the end of the object. It shares those of length 0 and 1, which are left alone.
    """
    buffer = bytearray(secret)
    wipe_bytes(secret)
    return buffer


def wipe_bytes(secret: bytes) -> None:
    """Overwrite bytes that nobody else has: see `taken`."""
    if type(secret) is bytes and len(secret) > 1:
        header = bytes.__basicsize__ - 1  # the type's size counts the closing zero byte
        ctypes.memset(id(secret) + header, 0, len(secret))


_DISTINCT_BYTES_MIN: Final = 12
"""Fewer: 2^-82."""
_SPREAD_MIN: Final = 32
"""All bytes within less: 2^-88. Digits of some small base."""
_RUN_BYTES_MAX: Final = 9
_BYTE_MAX: Final = 0xFF
_ORDERS: Final[tuple[Literal["big", "little"], ...]] = ("big", "little")
_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\n\r")
_PUBLISHED: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        # NIST SP 800-38A, F.1.5: the AES-256 examples of every mode
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        # RFC 8439, A.5: ChaCha20-Poly1305
        "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
        # IEEE 1619: the digits of e and of pi, keys of the XTS examples
        "2718281828459045235360287471352662497757247093699959574966967627",
        "3141592653589793238462643383279502884197169399375105820974944592",
        # RFC 3686, section 6: the three AES-CTR examples with 256 bits
        "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104",
        "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884",
        "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
        # NIST CAVP, gcmEncryptExtIV256: the first AES-GCM example
        "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
    )
)
_HASHED_WORDS: Final = frozenset(
    hashlib.sha256(word.encode()).digest()
    for word in (
        "", "0", "1", "a", "abc", "admin", "aes", "backup", "changeme", "demo", "example", "foo", "foobar",
        "hello", "hello world", "Hello World", "Hello, World!", "key", "letmein", "master", "passphrase",
        "passw0rd", "password", "Password", "Password1", "password123", "qwerty", "rekeyd", "root", "secret",
        "test", "123456", "12345678", "123456789", "1234567890",
    )
)  # fmt: skip


def weakness(buffer: bytearray) -> str | None:
    """The rule that the material breaks, which a key made at random never does; None where it breaks none.

    A key made at random is refused with a probability below 2^-44, one in seventeen million million: that is the rule
    about text; all others together are below 2^-63. The words name the rule, which says something of a key that must
    not be used and nothing of one that may.
    """
    if len(buffer) != MATERIAL_BYTES:
        return f"it is {len(buffer)} bytes long: a 256-bit key is {MATERIAL_BYTES}"
    # A view, since slices of a buffer are copies, which nobody would overwrite.
    with memoryview(buffer) as view:
        if _is_progression(view):
            return "it counts, or is one byte over and over"
        if _repeats(view):
            return "it is a shorter pattern, repeated, mirrored or inverted"
        if _is_padded(view):
            return "much of it is the same byte: it looks padded"
        if len(set(view)) < _DISTINCT_BYTES_MIN or max(view) - min(view) < _SPREAD_MIN:
            return "it has too few different bytes"
        if _is_text(view):
            return "it is text: a passphrase, or a key written as hex or base64"
    if any(hmac.compare_digest(buffer, known) for known in itertools.chain(_PUBLISHED, _HASHED_WORDS)):
        return "it is published: a test vector, or the hash of a common word"
    return None


def _is_progression(view: memoryview) -> bool:
    """Words of 1, 2, 4 or 8 bytes, in either order, each as far from the one before: all one byte among them.

    Of single bytes also second differences, which squares have alike. 2^-126 in all, most of it the longest words'.
    """
    for width in (1, 2, 4, 8):
        for order in _ORDERS:
            words = [int.from_bytes(view[at : at + width], order) for at in range(0, MATERIAL_BYTES, width)]
            steps = _differences(words, 1 << (8 * width))
            if len(set(steps)) == 1 or (width == 1 and len(set(_differences(steps, 256))) == 1):
                return True
    return False


def _differences(words: list[int], modulus: int) -> list[int]:
    return [(later - earlier) % modulus for earlier, later in itertools.pairwise(words)]


def _repeats(view: memoryview) -> bool:
    """A period of up to half of it; or the second half is the first one backwards, or inverted: 2^-126 together."""
    half = MATERIAL_BYTES // 2
    if any(view[period:] == view[:-period] for period in range(1, half + 1)):
        return True
    first, second = view[:half], view[half:]
    return second == first[::-1] or all(
        one ^ other == _BYTE_MAX for one, other in zip(first, second, strict=True)
    )


def _is_padded(view: memoryview) -> bool:
    """Ten of one byte in a row, 2^-67; or every other byte is the same, as in UTF-16, 2^-119."""
    longest = max(sum(1 for _ in same) for _, same in itertools.groupby(view))
    return longest > _RUN_BYTES_MAX or any(len(set(view[start::2])) == 1 for start in (0, 1))


def _is_text(view: memoryview) -> bool:
    """ASCII to be read, hex, base64 or words, with zero bytes around it at the most: (98/256)^32 < 2^-44."""
    held_bytes = [at for at, byte in enumerate(view) if byte]
    return all(byte in _PRINTABLE for byte in view[held_bytes[0] : held_bytes[-1] + 1])
