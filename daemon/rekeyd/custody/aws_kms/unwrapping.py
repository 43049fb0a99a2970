"""The private key that never leaves AWS KMS: an asymmetric key of ours, to which tenants wrap theirs.

kms:Decrypt with RSAES_OAEP_SHA_256 ("Asymmetric key specs", AWS KMS Developer Guide); kms:GetPublicKey gives the public
half as DER ("GetPublicKey", AWS KMS API Reference). The plaintext comes in an HTTP answer over TLS: of the copies that
the SDK makes of that, only the last one can be overwritten here. A key in a file leaves fewer; one in KMS can't be
stolen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from rekeyd.custody.aws_kms.calls import Gate, KmsCalls, KmsRefusedError
from rekeyd.custody.material import Material, held, taken
from rekeyd.custody.wrapping import (
    UNWRAPPABLE,
    WRAPPED_FIELD,
    public_half,
    refuse_other_wrapping,
    refuse_unlike,
)
from rekeyd.domain.custody import Errand, WrappingKey, region_of
from rekeyd.domain.errors import CustodyError, KeyRefusedError, UnfitKeyError
from rekeyd.domain.key import WrappedKey

ALGORITHM: Final = "RSAES_OAEP_SHA_256"
KEY_SPEC = "RSA_4096"
USAGE = "ENCRYPT_DECRYPT"

_UNWRAPPABLE_CODES = frozenset({"InvalidCiphertextException", "IncorrectKeyException", "ValidationException"})
"""Whatever is wrong with the ciphertext: what we say beside it is always the same, and right."""


class KmsUnwrapper:
    """See the port. The public half is asked for as ourselves, Decrypt in the role that provisions."""

    def __init__(self, gate: Gate, key_arn: str, role_arn: str) -> None:
        self._gate = gate
        self._key_arn = key_arn
        self._role_arn = role_arn
        self._public: WrappingKey | None = None

    async def public_key(self) -> WrappingKey:
        """See the port. Asked for once: asymmetric keys don't rotate ("Rotate AWS KMS keys", Developer Guide).

        Raises UnfitKeyError where the key is of another kind.
        """
        if self._public is None:
            async with self._gate.as_ourselves(region_of(self._key_arn)) as calls:
                self._public = await self._ask_public_key(calls)
        return self._public

    async def _ask_public_key(self, calls: KmsCalls) -> WrappingKey:
        answer = await calls.ask(
            "GetPublicKey", self._key_arn, lambda kms: kms.get_public_key(KeyId=self._key_arn)
        )
        spec, usage = str(answer.get("KeySpec")), answer.get("KeyUsage")
        if (spec, usage) != (KEY_SPEC, USAGE):
            # Tenants' keys travel under it, and are on record wherever they did: RSA_2048 and RSA_3072 are for less.
            words = (
                f"{self._key_arn} is {spec} for {usage}: a key of the spec {KEY_SPEC} for {USAGE} is needed"
            )
            raise UnfitKeyError(words, calls.trail)
        try:
            key = serialization.load_der_public_key(answer["PublicKey"])
        except (KeyError, TypeError, ValueError, UnsupportedAlgorithm) as error:
            words = f"kms:GetPublicKey of {self._key_arn}: no public key"
            raise CustodyError(words, calls.trail) from error
        if not isinstance(key, RSAPublicKey):
            raise CustodyError(f"kms:GetPublicKey of {self._key_arn}: not an RSA key", calls.trail)
        return public_half(key, calls.trail)

    @asynccontextmanager
    async def unwrapped(self, errand: Errand, wrapped: WrappedKey) -> AsyncIterator[Material]:
        """See the port."""
        refuse_other_wrapping(wrapped, await self.public_key())
        async with self._gate.acting(self._role_arn, errand, region_of(self._key_arn)) as calls:
            buffer = await self._decrypt(calls, wrapped)
        with held(buffer, calls.trail) as material:
            refuse_unlike(wrapped, material)
            yield material

    async def _decrypt(self, calls: KmsCalls, wrapped: WrappedKey) -> bytearray:
        try:
            answer = await calls.ask(
                "Decrypt",
                self._key_arn,
                lambda kms: kms.decrypt(
                    KeyId=self._key_arn, CiphertextBlob=wrapped.ciphertext, EncryptionAlgorithm=ALGORITHM
                ),
            )
        except KmsRefusedError as refusal:
            if refusal.code in _UNWRAPPABLE_CODES:
                raise KeyRefusedError(WRAPPED_FIELD, UNWRAPPABLE, calls.trail) from None
            raise
        plain = answer.get("Plaintext")
        if not isinstance(plain, bytes):
            raise CustodyError(f"kms:Decrypt with {self._key_arn}: no plaintext", calls.trail)
        return taken(plain)
