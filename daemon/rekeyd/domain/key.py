"""Customer keys: how they are named, what a key service says of them, and whether that will do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints

KeyState = Literal[
    "pending",  # named by a job, not yet proven usable
    "active",  # the tenant's data are, or are about to be, written under it
    "archived",  # a former key: older data may still be read with it
    "unavailable",  # it was active and can't be used now: the tenant's jobs are held
    "revoked",  # the tenant has withdrawn it
    "destroyed",  # its material is gone
]

_KEY_ARN = r"arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,128}"
_ALIAS_ARN = r"arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:alias/[A-Za-z0-9/_-]{1,250}"


class KmsKey(BaseModel):
    """An AWS KMS key of the tenant's own (BYOKMS), named twice so that a slip in one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["kms"]
    arn: Annotated[str, StringConstraints(pattern=rf"^{_KEY_ARN}\z")]
    alias: Annotated[str, StringConstraints(pattern=rf"^{_ALIAS_ARN}\z")]

    @property
    def region(self) -> str:
        """The region that the key's ARN names."""
        return self.arn.split(":")[3]

    @property
    def alias_region(self) -> str:
        """The region that the alias's ARN names."""
        return self.alias.split(":")[3]


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
    """The key at which the alias points, None where there is no such alias."""


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """A fault of a key with what to tell the person who can mend it."""

    fault: KeyFault
    advice: str


def key_finding(key: KmsKey, description: KeyDescription, bucket_region: str | None) -> KeyFinding | None:
    """Whether the key will do for a bucket in `bucket_region`: None if so, else the gravest fault.

    Without a region, as long as it isn't known, regions aren't compared.

    The states are those of kms:DescribeKey's KeyMetadata.KeyState; S3 takes symmetric encryption keys of
    the bucket's own region only (docs.aws.amazon.com, "Using server-side encryption with AWS KMS keys").
    """
    if re.fullmatch(_KEY_ARN, description.arn) is None or description.arn != key.arn:
        return KeyFinding("key_missing", f"{key.arn} is described as {description.arn}")
    match description.state:
        case "Enabled":
            pass
        case "Disabled":
            return KeyFinding("key_disabled", f"enable {key.arn}")
        case "PendingDeletion" | "PendingReplicaDeletion":
            return KeyFinding("key_pending_deletion", f"cancel the deletion of {key.arn}, enable it")
        case state:
            return KeyFinding("key_unusable", f"{key.arn} is in the state {state}")
    if description.usage != "ENCRYPT_DECRYPT" or description.spec != "SYMMETRIC_DEFAULT":
        return KeyFinding(
            "key_wrong_usage",
            f"{key.arn} is {description.spec} for {description.usage}: "
            "a symmetric key for encryption is needed",
        )
    if bucket_region is not None and {key.region, key.alias_region} != {bucket_region}:
        return KeyFinding("key_wrong_region", f"the bucket is in {bucket_region}: key and alias must be, too")
    if description.alias_target_arn is None:
        return KeyFinding("key_missing", f"there is no alias {key.alias}")
    if description.alias_target_arn != key.arn:
        return KeyFinding("key_alias_mismatch", f"{key.alias} points at {description.alias_target_arn}")
    return None
