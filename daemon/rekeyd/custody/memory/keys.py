"""The keys of a pretended KMS: states, tags, aliases, imports, with the real one's rules.

Those are cited where aws_kms meets them. Of material only its SHA-256 is kept: nobody ever asks for more.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric import rsa

from rekeyd.custody.material import MATERIAL_BYTES, held, taken
from rekeyd.custody.wrapping import oaep, public_half

TOKEN_SECONDS = 24 * 3600
_PUBLIC_EXPONENT = 65_537
_MODULUS_BITS = 2048
"""Less than KMS's 4,096: making one must be quick."""


@dataclass(slots=True)
class StoredKey:
    """A key as AWS KMS would describe it."""

    state: str = "Enabled"
    usage: str = "ENCRYPT_DECRYPT"
    spec: str = "SYMMETRIC_DEFAULT"
    imported: bool = False
    """Whether its material came from outside, and so can be deleted."""
    tags: dict[str, str] = field(default_factory=dict)
    material_digest: bytes | None = None
    """Of the first import: no other material is taken afterwards, also once it was deleted."""
    tokens: dict[bytes, float] = field(default_factory=dict)
    """Import tokens, and until when each is good."""
    deletes_at: float | None = None
    rotations: int = 0
    """How often the provider has rotated it."""
    tells_material: bool = True
    """Whether its description says what it encrypts with now."""


class ImportRefusedError(Exception):
    """An import is refused, with KMS's word for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Keys:
    """What a KMS holds in one account, its regions told apart by ARNs."""

    def __init__(self, account: str, now: Callable[[], float]) -> None:
        self.account = account
        self.now = now
        self.keys: dict[str, StoredKey] = {}
        self.aliases: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def make(self, region: str, tags: dict[str, str]) -> str:
        """A key of the origin EXTERNAL, which waits for its material."""
        arn = f"arn:aws:kms:{region}:{self.account}:key/brought-{next(self._numbers)}"
        self.keys[arn] = StoredKey(state="PendingImport", imported=True, tags=tags)
        return arn

    def parameters(self, arn: str) -> tuple[str, bytes, float]:
        """A public key as PEM, a token that goes with it and until when both are good."""
        token, expires_at = os.urandom(32), self.now() + TOKEN_SECONDS
        self.keys[arn].tokens[token] = expires_at
        return public_half(self._wrapping_key.public_key()).pem, token, expires_at

    @property
    def wrapping_public_key(self) -> rsa.RSAPublicKey:
        """For whoever wraps here."""
        return self._wrapping_key.public_key()

    def import_material(self, arn: str, token: bytes, wrapped: bytes) -> None:
        """Raises ImportRefusedError."""
        stored = self.keys[arn]
        expires_at = stored.tokens.get(token)
        if expires_at is None:
            raise ImportRefusedError("InvalidImportTokenException")
        if self.now() >= expires_at:
            raise ImportRefusedError("ExpiredImportTokenException")
        try:
            plain = self._wrapping_key.decrypt(wrapped, oaep())
        except ValueError as error:
            raise ImportRefusedError("InvalidCiphertextException") from error
        length = len(plain)
        with held(taken(plain)) as material:
            digest = material.digest()
        if length != MATERIAL_BYTES or stored.material_digest not in (None, digest):
            raise ImportRefusedError("IncorrectKeyMaterialException")
        stored.material_digest = digest
        stored.state = "Enabled"

    def material_id(self, arn: str) -> str:
        """What KMS calls a key's current material: it says nothing about it."""
        stored = self.keys[arn]
        return hashlib.sha256(f"{arn}\n{stored.material_digest!r}\n{stored.rotations}".encode()).hexdigest()

    def current_material_id(self, arn: str) -> str | None:
        """The same, where a description says it: of symmetric keys that have any."""
        stored = self.keys[arn]
        told = (
            stored.tells_material and stored.spec == "SYMMETRIC_DEFAULT" and stored.state != "PendingImport"
        )
        return self.material_id(arn) if told else None

    @cached_property
    def _wrapping_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(_PUBLIC_EXPONENT, _MODULUS_BITS)
