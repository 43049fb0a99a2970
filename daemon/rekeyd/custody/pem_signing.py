"""A signing key in a file: Ed25519, PEM (PKCS #8), ours or root's, and readable by its owner alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rekeyd.custody.material import wipe
from rekeyd.custody.private_file import read_private
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.signed import PublicKey

SETTING = "audit.signing_key_file"


class PemSigner:
    """A signer whose key is in this process's memory."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def read(cls, path: Path, credentials: Path | None = None) -> Self:
        """The key of a file; `credentials` is systemd's folder of this service's.

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
        if not isinstance(key, Ed25519PrivateKey):
            raise RefusedError(SETTING, f"{path} holds another kind of key: make an Ed25519 one")
        return cls(key)

    @classmethod
    def read_or_make(cls, path: Path) -> Self:
        """The same, and where there is no file, one with a new key. Whoever else does so at once gets the same key."""
        if not path.exists():
            _make(path)
        return cls.read(path)

    async def public_key(self) -> PublicKey:
        """See the port."""
        return PublicKey.of_pem(
            self._key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    async def sign(self, data: bytes) -> bytes:
        """See the port."""
        return self._key.sign(data)


def _make(path: Path) -> None:
    """Put a new key there, whole or not at all, unless somebody else has by then. Raises RefusedError."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(8).hex()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(
                os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
            ) as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            # A link is made or it isn't, and never over another file: who comes second reads the first one's key.
            os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        raise RefusedError(SETTING, f"{path} can't be made: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """A name is durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
