"""Keys wrapped with RSA: RSA-OAEP with SHA-256, and MGF1 with SHA-256 (RFC 8017, 7.1), both ends of it.

Of a ciphertext that can't be unwrapped nobody learns why: too long or short, not for this key, cut off, padded wrongly,
all is one answer, so that no padding oracle comes of it (Manger, CRYPTO 2001). What was unwrapped and isn't the
announced key is another answer: it takes a ciphertext that is sound, which says nothing about any other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from rekeyd.custody.material import MATERIAL_BYTES, Material, held, taken, wipe, wipe_bytes
from rekeyd.custody.private_file import read_private
from rekeyd.custody.weak import weakness
from rekeyd.domain.custody import Errand, ProviderRequest, WrappingKey
from rekeyd.domain.errors import KeyRefusedError, RefusedError
from rekeyd.domain.key import WrappedKey

SETTING = "custody.wrapping.private_key_file"

WRAPPED_FIELD = "key.wrapped_key"
UNWRAPPABLE = (
    "can't be unwrapped: wrap the key anew with our public key of now (`rekeyd key public`), RSA-OAEP with SHA-256 "
    "for OAEP and for MGF1"
)
"""The one thing that is ever said of a ciphertext that can't be unwrapped."""

MODULUS_BITS_MIN = 2048
MODULUS_BITS_MAX = 8192


def public_half(key: RSAPublicKey, requests: tuple[ProviderRequest, ...] = ()) -> WrappingKey:
    """A public key in the one way in which it is written and called."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_bytes(serialization.Encoding.DER, form)
    pem = key.public_bytes(serialization.Encoding.PEM, form).decode()
    return WrappingKey(pem, hashlib.sha256(der).hexdigest(), requests)


class PemUnwrapper:
    """Unwraps with a private key that is in this process's memory."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key
        self._public = public_half(key.public_key())

    @classmethod
    def read(cls, path: Path, credentials: Path | None = None) -> Self:
        """The key of a PEM file; `credentials` is systemd's folder of this service's.

        Raises RefusedError naming the setting: no such file, one that others may use, or one that holds no such key.
        """
        data = read_private(path, SETTING, credentials)
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Never with the error's own words: they may have seen the key.
            raise RefusedError(SETTING, f"{path} holds no PEM private key without a password") from None
        finally:
            wipe(data)
        if not isinstance(key, RSAPrivateKey):
            raise RefusedError(SETTING, f"{path} holds another kind of key: make an RSA one of 4,096 bits")
        if not MODULUS_BITS_MIN <= key.key_size <= MODULUS_BITS_MAX:
            raise RefusedError(SETTING, f"{path} holds an RSA key of {key.key_size} bits: make one of 4,096")
        return cls(key)

    async def public_key(self) -> WrappingKey:
        """See the port."""
        return self._public

    @asynccontextmanager
    async def unwrapped(self, errand: Errand, wrapped: WrappedKey) -> AsyncIterator[Material]:
        """See the port. RSA takes a few milliseconds, and a thread would keep copies of the material on its stack."""
        del errand  # nobody else is asked
        refuse_other_wrapping(wrapped, self._public)
        with held(self._decrypt(wrapped)) as material:
            refuse_unlike(wrapped, material)
            yield material

    def _decrypt(self, wrapped: WrappedKey) -> bytearray:
        try:
            return taken(self._key.decrypt(wrapped.ciphertext, oaep()))
        except ValueError:
            raise KeyRefusedError(WRAPPED_FIELD, UNWRAPPABLE) from None
        finally:
            # The library decrypts into a buffer of its own, which it frees as it is. What it encrypts next, of the
            # same length, lies there: whoever looks through freed memory finds that.
            self._key.public_key().encrypt(bytes(MATERIAL_BYTES), oaep())


def oaep() -> padding.OAEP:
    """RSA-OAEP as KMS names it RSAES_OAEP_SHA_256."""
    return padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def refuse_other_wrapping(wrapped: WrappedKey, ours: WrappingKey) -> None:
    """Raise KeyRefusedError where the message says that another public key was used."""
    if wrapped.wrapping_key is not None and wrapped.wrapping_key != ours.fingerprint:
        raise KeyRefusedError(
            "key.wrapping_key",
            f"is not our public key's fingerprint {ours.fingerprint}: wrap the key anew with `rekeyd key public`",
        )


def refuse_unlike(wrapped: WrappedKey, material: Material) -> None:
    """Raise KeyRefusedError unless the material is what the message announces, and strong enough to be a key.

    The hash comes first: of what isn't the announced key nothing else is told.
    """
    if not material.has_digest(wrapped.digest):
        raise KeyRefusedError(
            "key.sha256",
            "is not the SHA-256 of what was wrapped: hash the very 32 bytes that were wrapped, not their hex or base64",
            material.requests,
        )
    if weak := weakness(material.buffer):
        raise KeyRefusedError(WRAPPED_FIELD, f"holds no usable key: {weak}. {_MAKE_ONE}", material.requests)


_MAKE_ONE = "Make one with `rekeyd key wrap` or `openssl rand 32`"


def wrap(public_pem: bytes, material: Material) -> WrappedKey:
    """The tenant's side: the material, wrapped with a public key, as a message has it.

    Raises RefusedError: not the PEM of an RSA public key of 2,048 bits or more; KeyRefusedError: weak material.
    """
    key = _public_key(public_pem, "--public-key")
    _refuse_weak(material)
    return WrappedKey(
        kind="wrapped",
        wrapped_key=base64.b64encode(encrypted(key, material)).decode(),
        sha256=base64.b64encode(material.digest()).decode(),
        material="aes-256",
        wrapping_key=public_half(key).fingerprint,
    )


def wrap_for_service(public_pem: bytes, material: Material) -> bytes:
    """The tenant's side of an offer: the material, wrapped with the key service's own public key.

    Raises as `wrap` does.
    """
    key = _public_key(public_pem, "--offer")
    _refuse_weak(material)
    return encrypted(key, material)


def _public_key(pem: bytes, name: str) -> RSAPublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RefusedError(name, "is not the PEM of a public key") from error
    if not isinstance(key, RSAPublicKey) or not MODULUS_BITS_MIN <= key.key_size <= MODULUS_BITS_MAX:
        raise RefusedError(name, "is not an RSA key of 2,048 bits or more: fetch it again")
    return key


def _refuse_weak(material: Material) -> None:
    if weak := weakness(material.buffer):
        raise KeyRefusedError("--key-file", f"is no usable key: {weak}. {_MAKE_ONE}")


def encrypted(key: RSAPublicKey, material: Material) -> bytes:
    """The material, encrypted for whoever has the private key. The library takes only bytes: ours are overwritten."""
    plain = bytes(material.buffer)
    try:
        return key.encrypt(plain, oaep())
    finally:
        wipe_bytes(plain)
