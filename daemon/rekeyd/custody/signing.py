"""What the rest of rekeyd may ask of whoever signs certificates and checkpoints."""

from __future__ import annotations

from typing import Protocol

from rekeyd.domain.signed import PublicKey


class Signer(Protocol):
    """An Ed25519 key. The private half is never given out."""

    async def public_key(self) -> PublicKey:
        """Its public half: always the same one. Raises CustodyError where it can't be had now."""

    async def sign(self, data: bytes) -> bytes:
        """The signature over these bytes, at most 4,096 of them (RFC 8032, Ed25519 without a prehash; 64 bytes).

        Raises CustodyError where the key can't be used now, KeyForbiddenError where we may not use it.
        """
