"""Customer keys: how they are named, what a key service says of them, and whether that will do."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

KeyState = Literal[
    "pending",  # named by a job, not yet proven usable
    "active",  # the tenant's data are, or are about to be, written under it
    "archived",  # a former key: older data may still be read with it
    "unavailable",  # it was active and can't be used now: the tenant's jobs are held
    "revoked",  # the tenant has withdrawn it
    "destroyed",  # its material is gone
]

KEY_ARN = r"arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,128}"
_ALIAS_ARN = r"arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:alias/[A-Za-z0-9/_-]{1,250}"


class KmsKey(BaseModel):
    """An AWS KMS key of the tenant's own (BYOKMS), named twice so that a slip in one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["kms"]
    arn: Annotated[str, StringConstraints(pattern=rf"^{KEY_ARN}\z")]
    alias: Annotated[str, StringConstraints(pattern=rf"^{_ALIAS_ARN}\z")]

    @property
    def region(self) -> str:
        """The region that the key's ARN names."""
        return self.arn.split(":")[3]

    @property
    def alias_region(self) -> str:
        """The region that the alias's ARN names."""
        return self.alias.split(":")[3]


WRAPPED_BYTES_MIN = 256
"""An RSA ciphertext is as long as the key's modulus: 2,048 bits at the least."""
WRAPPED_BYTES_MAX = 1024
SHA256_BYTES = 32


def base64_bytes(text: str) -> bytes:
    """What is written in base64, in the one way there is.

    Raises ValueError, which never quotes the text: it may be a key that was sent in the clear.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64, in one line and with its padding") from None
    if base64.b64encode(decoded).decode() != text:
        raise ValueError("is not base64 as it is written: bits are left over")
    return decoded


def _a_ciphertext(text: str) -> str:
    length = len(base64_bytes(text))
    if not WRAPPED_BYTES_MIN <= length <= WRAPPED_BYTES_MAX:
        raise ValueError(
            f"is {length} bytes, which no RSA ciphertext of ours is: wrap the key with `rekeyd key wrap`, and if it "
            "was sent unwrapped, never use it again"
        )
    return text


def _a_sha256(text: str) -> str:
    if len(base64_bytes(text)) != SHA256_BYTES:
        raise ValueError("is not the base64 of a SHA-256, 32 bytes")
    return text


class WrappedKey(BaseModel):
    """A key of the tenant's own making (BYOK): 256 bits, encrypted for us with RSA-OAEP and SHA-256.

    Neither its repr nor an error about it shows the ciphertext: with our private key it is the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    kind: Literal["wrapped"]
    wrapped_key: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_a_ciphertext)] = Field(
        repr=False
    )
    """Base64 of the ciphertext."""
    sha256: Annotated[str, StringConstraints(max_length=64), AfterValidator(_a_sha256)]
    """Base64 of the key's SHA-256. It says nothing about a key that was made at random."""
    material: Literal["aes-256"]
    wrapping_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")] | None = None
    """The fingerprint of the public key that it is wrapped with: SHA-256 of its DER, in hex."""

    @property
    def ciphertext(self) -> bytes:
        """What is to be unwrapped."""
        return base64_bytes(self.wrapped_key)

    @property
    def digest(self) -> bytes:
        """The SHA-256 that what is unwrapped must have."""
        return base64_bytes(self.sha256)

    @property
    def fingerprint(self) -> str:
        """What the key is called once the ciphertext is forgotten: its SHA-256, in hex."""
        return self.digest.hex()


class AcceptedKey(BaseModel):
    """A key that the tenant imported through `rekeyd key accept`, which nobody but KMS ever held."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["accepted"]
    ref: Annotated[str, StringConstraints(pattern=rf"^{KEY_ARN}\z")]
    """The ARN of the KMS key, as `rekeyd key offer` and `key accept` give it."""

    @property
    def region(self) -> str:
        """The region that the ARN names."""
        return self.ref.split(":")[3]


class KnownKey(BaseModel):
    """What a stored message has in the place of a wrapped key: only what the ledger calls it.

    No intake takes it. With our private key the ciphertext is the key, so that it isn't kept with the message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["known"]
    ref: str


KeyKind = Literal["kms", "wrapped", "accepted", "known"]

CustomerKey: TypeAlias = Annotated[KmsKey | WrappedKey | AcceptedKey | KnownKey, Field(discriminator="kind")]
"""A key as a message names it."""


def key_ref(key: CustomerKey) -> str:
    """What the ledger calls it, one to one: a KMS key by its ARN, a wrapped one by its fingerprint."""
    match key:
        case KmsKey():
            return key.arn
        case WrappedKey():
            return f"sha256:{key.fingerprint}"
        case _:
            return key.ref


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """A key that was made for the tenant of material that it brought. No alias of the tenant's own leads to it."""

    arn: str

    @property
    def alias(self) -> None:
        """Ours points at the key that is in use, for people to see; nothing depends on it."""

    @property
    def region(self) -> str:
        """The region that the ARN names."""
        return self.arn.split(":")[3]

    @property
    def alias_region(self) -> str:
        """The same."""
        return self.region


PlacedKey: TypeAlias = KmsKey | ImportedKey
"""Where the key service has a key."""


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A customer key as a job has it: what it is called, and where it is, once it is anywhere."""

    ref: str
    kind: str
    """As messages say: `kms`, `wrapped`, `accepted`."""
    arn: str | None
    """None as long as what was wrapped isn't imported."""
    alias: str | None
    fingerprint: str | None
    """SHA-256 of the material in hex; `kms:` and the key service's own id of material that nobody but it has seen;
    None for a key of the tenant's own."""

    @property
    def placed(self) -> PlacedKey | None:
        """Where it is; None while it is still to be imported."""
        return placed_key(self.kind, self.arn, self.alias)


def placed_key(kind: str, arn: str | None, alias: str | None) -> PlacedKey | None:
    """Where a key is; None while it is still to be imported."""
    if arn is None:
        return None
    if kind == "kms" and alias is not None:
        return KmsKey(kind="kms", arn=arn, alias=alias)
    return ImportedKey(arn)


KeyFault = Literal[
    "key_missing",  # no such key, or no such alias
    "key_disabled",  # switched off; switching it on mends it
    "key_pending_deletion",  # will be gone: the tenant must cancel the deletion
    "key_unusable",  # pending import, unavailable, or in a state that we don't know
    "key_wrong_usage",  # not a symmetric key for encryption
    "key_wrong_region",  # not in the target bucket's region
    "key_alias_mismatch",  # the alias points at another key
    "key_access_denied",  # we may not describe or use it
]
"""Why a key can't be used. Each is a reason for which a job is held."""
KEY_FAULTS: frozenset[str] = frozenset(get_args(KeyFault))


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """What the key service says about a key, in its own words (kms:DescribeKey)."""

    arn: str
    state: str
    usage: str
    spec: str
    alias_target_arn: str | None
    """The key at which the alias points; None where there is no such alias, or none was asked about."""
    material_id: str | None = None
    """What it encrypts with now; another one after the provider has rotated it under the same ARN. None where the
    service doesn't say: KMS says it of symmetric keys whose material is its own or imported (KeyMetadata's
    CurrentKeyMaterialId, AWS KMS API Reference)."""


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """A fault of a key with what to tell the person who can mend it."""

    fault: KeyFault
    advice: str


def state_fault(state: str) -> KeyFault:
    """What it means that a key isn't `Enabled`: by the key service's own word, or `missing`."""
    match state:
        case "Disabled":
            return "key_disabled"
        case "PendingDeletion" | "PendingReplicaDeletion":
            return "key_pending_deletion"
        case "missing":
            return "key_missing"
        case _:
            return "key_unusable"


def key_finding(key: PlacedKey, description: KeyDescription, bucket_region: str | None) -> KeyFinding | None:
    """Whether the key will do for a bucket in `bucket_region`: None if so, else the gravest fault.

    Without a region, as long as it isn't known, regions aren't compared.

    The states are those of kms:DescribeKey's KeyMetadata.KeyState; S3 takes symmetric encryption keys of
    the bucket's own region only (docs.aws.amazon.com, "Using server-side encryption with AWS KMS keys").
    """
    if re.fullmatch(KEY_ARN, description.arn) is None or description.arn != key.arn:
        return KeyFinding("key_missing", f"{key.arn} is described as {description.arn}")
    if description.state != "Enabled":
        fault = state_fault(description.state)
        advice = {
            "key_disabled": f"enable {key.arn}",
            "key_pending_deletion": f"cancel the deletion of {key.arn}, enable it",
        }.get(fault, f"{key.arn} is in the state {description.state}")
        return KeyFinding(fault, advice)
    if description.usage != "ENCRYPT_DECRYPT" or description.spec != "SYMMETRIC_DEFAULT":
        return KeyFinding(
            "key_wrong_usage",
            f"{key.arn} is {description.spec} for {description.usage}: "
            "a symmetric key for encryption is needed",
        )
    if bucket_region is not None and {key.region, key.alias_region} != {bucket_region}:
        return KeyFinding("key_wrong_region", f"the bucket is in {bucket_region}: key and alias must be, too")
    if key.alias is None:
        return None
    if description.alias_target_arn is None:
        return KeyFinding("key_missing", f"there is no alias {key.alias}")
    if description.alias_target_arn != key.arn:
        return KeyFinding("key_alias_mismatch", f"{key.alias} points at {description.alias_target_arn}")
    return None
