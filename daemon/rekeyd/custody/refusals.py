"""What custodies say of what they don't do: the same words from each, with what to do."""

from __future__ import annotations

from collections.abc import Mapping

from rekeyd.domain.custody import TENANT_TAG, Errand, ProviderRequest
from rekeyd.domain.errors import KeyRefusedError

NO_UNWRAPPER = "wrapped can't be taken here: the operator has to name a private key in custody.wrapping"
NOT_A_KEY = "is not the ARN of a KMS key: write the one that `rekeyd key offer` gave"
OFFER_AGAIN = "run `rekeyd key offer` again, and wrap the key anew with the public key that it gives"

IMPORT_REFUSALS: Mapping[str, tuple[str, str]] = {
    "ExpiredImportTokenException": ("import_token", f"has expired: {OFFER_AGAIN}"),
    "InvalidImportTokenException": (
        "import_token",
        f"isn't one of this key's: send back the token of the very offer that was used, or {OFFER_AGAIN}",
    ),
    "InvalidCiphertextException": (
        "encrypted_material",
        (
            "can't be unwrapped by the key service: wrap the 32 raw bytes with this offer's own public key, RSA-OAEP "
            "with SHA-256 for OAEP and for MGF1"
        ),
    ),
    "IncorrectKeyMaterialException": (
        "encrypted_material",
        (
            "isn't this key's: it is other material than was imported into it before, or not of 256 bits. Wrap the "
            "same 32 bytes again; other material takes another key: `rekeyd key offer`"
        ),
    ),
}
"""What a tenant did wrong, by KMS's word for it ("ImportKeyMaterial", AWS KMS API Reference): field and words."""


def words_about_state(arn: str, state: str) -> str:
    """What is in the way, and what to do."""
    match state:
        case "missing":
            return f"there is no key {arn}: was it deleted?"
        case "PendingImport":
            return f"{arn} has no key material: bring the same material again"
        case "PendingDeletion" | "PendingReplicaDeletion":
            return f"{arn} waits for its deletion: cancel that first"
        case "Disabled":
            return f"{arn} is disabled: enable it first (`reinstate`, where it was revoked)"
        case _:
            return f"{arn} is in the state {state}: wait, or mend it in the key service"


def refuse_others(
    errand: Errand, tags: Mapping[str, str], field: str, trail: tuple[ProviderRequest, ...]
) -> None:
    """Raise KeyRefusedError unless the key is the tenant's own. Whose it is nobody is told."""
    if tags.get(TENANT_TAG) != errand.tenant:
        words = "belongs to another tenant, or to nobody whom we know: make a key of your own"
        raise KeyRefusedError(field, words, trail)
