"""Who signs: a key in a file, or one in AWS KMS, as the settings say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from rekeyd.custody.pem_signing import SETTING, PemSigner
from rekeyd.custody.signing import Signer
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.signed import PublicKey
from rekeyd.settings import Settings

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd has a service's credentials (systemd.exec(5), "LoadCredential=")."""

_PEM_BYTES_MAX = 16 * 1024


def key_beside_ledger(settings: Settings) -> Path:
    """Where the signing key is, where no other is named."""
    ledger = settings.ledger.path
    return ledger.with_name(f"{ledger.name}.signing-key.pem")


async def former_signers(settings: Settings) -> tuple[PublicKey, ...]:
    """The public halves of the signing keys of before. Raises RefusedError for a file that has none."""
    return tuple(
        [await asyncio.to_thread(_public_key, Path(path)) for path in settings.audit.former_public_key_files]
    )


def _public_key(path: Path) -> PublicKey:
    name = "audit.former_public_key_files"
    try:
        with path.open("rb") as opened:
            return PublicKey.of_pem(opened.read(_PEM_BYTES_MAX))
    except OSError as error:
        raise RefusedError(name, f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise RefusedError(name, f"{path} {error}") from error


async def open_signer(
    settings: Settings, *, make: bool = False, environ: Mapping[str, str] = os.environ
) -> Signer:
    """The signer of the settings. Only with `make` is a key made beside the ledger where there is none.

    A key in KMS isn't asked for anything yet. Raises RefusedError naming the setting.
    """
    audit = settings.audit
    if audit.signing_key_arn is not None:
        # It brings an SDK with it, which whoever has a file does without.
        from rekeyd.service.kms_signer import kms_signer  # noqa: PLC0415

        return kms_signer(settings, audit.signing_key_arn)
    if audit.signing_credential is not None:
        folder = environ.get(CREDENTIALS_VARIABLE)
        if not folder:
            raise RefusedError(
                SETTING, f"{audit.signing_credential} is a systemd credential, and there are none here"
            )
        credentials = Path(folder)
        return await asyncio.to_thread(PemSigner.read, credentials / audit.signing_credential, credentials)
    if audit.signing_key_file:
        folder = environ.get(CREDENTIALS_VARIABLE)
        return await asyncio.to_thread(
            PemSigner.read, Path(audit.signing_key_file), Path(folder) if folder else None
        )
    path = key_beside_ledger(settings)
    if make:
        return await asyncio.to_thread(PemSigner.read_or_make, path)
    if not await asyncio.to_thread(path.exists):
        raise RefusedError(SETTING, f"there is no {path} yet: `rekeyd serve` makes it")
    return await asyncio.to_thread(PemSigner.read, path)
