"""The policy of a key that we make: who may do what with it, each party apart from the others.

A key policy is the only thing that gives access to a key: what it doesn't allow, no IAM policy can ("Key policies in
AWS KMS", AWS KMS Developer Guide). So nothing is denied here; what isn't allowed is refused, grants among it. Where no
role is set apart for a party, the account is named: then its IAM policies decide, for that party's actions alone.

The condition keys are of "AWS KMS condition keys" in the same guide. The context that S3 gives with every call is the
object's ARN, and with S3 Bucket Keys the bucket's ("Encryption context" under "Using server-side encryption with AWS
KMS keys", Amazon S3 User Guide). Only an object's is allowed: with a Bucket Key S3 would go on for a while without
asking KMS, so who asks for one, whatever the bucket's default is, is denied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rekeyd.domain.bucket_policy import Policy, Statement
from rekeyd.domain.custody import DELETION_DAYS, KeyHome

WRAPPING_ALGORITHM: Final = "RSAES_OAEP_SHA_256"
WRAPPING_KEY_SPEC: Final = "RSA_4096"
EXPIRATION_MODEL: Final = "KEY_MATERIAL_DOES_NOT_EXPIRE"

LOOKING = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
)
USING = (
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
REVOKING = ("kms:DisableKey", "kms:EnableKey", "kms:DeleteImportedKeyMaterial")


@dataclass(frozen=True, slots=True)
class KeyParties:
    """Who acts on keys that we make, each by the ARN of a role; empty: whom the account's IAM policies let."""

    account: str
    """The account that the key is in."""
    partition: str = "aws"
    provision: str = ""
    """Imports the material, points aliases."""
    revoke: str = ""
    """Disables, enables, deletes imported material."""
    break_glass: str = ""
    """Changes the policy, has the key deleted. Nobody needs it day by day."""
    use: tuple[str, ...] = ()
    """Those who read and write the data, us among them: through S3, in this bucket, and in no other way."""

    @property
    def root(self) -> str:
        """The account as a principal."""
        return f"arn:{self.partition}:iam::{self.account}:root"


def key_policy(parties: KeyParties, home: KeyHome) -> Policy:
    """The policy that such a key is made with. Pure, and always spelled alike."""
    provision = parties.provision or parties.root
    break_glass = parties.break_glass or parties.root
    return {
        "Version": "2012-10-17",
        "Id": "rekeyd",
        "Statement": [
            # Whether it is in order is no secret within the account: the watch and `key posture` look.
            _allow("Look", parties.root, LOOKING),
            _allow(
                "UseThroughBucket",
                list(parties.use) or parties.root,
                USING,
                {
                    "StringEquals": {"kms:ViaService": _s3_services(parties.partition, home.region)},
                    "StringLike": {"kms:EncryptionContext:aws:s3:arn": _objects(parties.partition, home)},
                },
            ),
            _allow(
                "PrepareImport",
                provision,
                ["kms:GetParametersForImport"],
                {
                    "StringEquals": {
                        "kms:WrappingAlgorithm": WRAPPING_ALGORITHM,
                        "kms:WrappingKeySpec": WRAPPING_KEY_SPEC,
                    }
                },
            ),
            # Material that expires would take the data with it, at a time that nobody chose.
            _allow(
                "Import",
                provision,
                ["kms:ImportKeyMaterial"],
                {"StringEquals": {"kms:ExpirationModel": EXPIRATION_MODEL}},
            ),
            _allow("Name", provision, ["kms:CreateAlias", "kms:UpdateAlias"]),
            _allow("Revoke", parties.revoke or parties.root, REVOKING),
            _allow("BreakGlass", break_glass, ["kms:PutKeyPolicy", "kms:CancelKeyDeletion"]),
            # Only with the longest wait: there must be time to notice.
            _allow(
                "BreakGlassDelete",
                break_glass,
                ["kms:ScheduleKeyDeletion"],
                {
                    "NumericGreaterThanEquals": {
                        "kms:ScheduleKeyDeletionPendingWindowInDays": str(DELETION_DAYS)
                    }
                },
            ),
        ],
    }


def _s3_services(partition: str, region: str) -> list[str]:
    # In China both spellings are met: the guide of that partition has the first, its S3 examples the second.
    spelled = [f"s3.{region}.amazonaws.com"]
    return [*spelled, f"s3.{region}.amazonaws.com.cn"] if partition == "aws-cn" else spelled


def _objects(partition: str, home: KeyHome) -> str:
    return f"arn:{partition}:s3:::{home.bucket}/*"


def _allow(
    name: str,
    principals: str | list[str],
    actions: Sequence[str],
    condition: Mapping[str, object] | None = None,
) -> Statement:
    statement: dict[str, object] = {
        "Sid": f"Rekeyd{name}",
        "Effect": "Allow",
        "Principal": {"AWS": principals},
        "Action": list(actions),
        "Resource": "*",
    }
    return statement if condition is None else {**statement, "Condition": dict(condition)}
