"""Key material in the clear: a buffer that doesn't outlive its use.

Only here, in wrapping, in what judges it (weak.py) and in what imports it does it exist. Nothing in these modules logs,
and no error that leaves them says anything of what the material is, apart from which rule it breaks.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager

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
