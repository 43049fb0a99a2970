"""The policy of the keys that we make, judged by IAM's rules: every party against every action, in every context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from rekeyd.domain.custody import KeyHome
from rekeyd.domain.key_policy import KeyParties, key_policy
from tests.doubles.iam_parties import Call, Caller, may

ACCOUNT = "111122223333"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/acme"
HOME = KeyHome("us-east-1", "byok-acme")
ROLES = {
    name: f"arn:aws:iam::{ACCOUNT}:role/rekeyd-{name}"
    for name in ("use", "provision", "revoke", "break-glass")
}
PARTIES = KeyParties(
    ACCOUNT,
    provision=ROLES["provision"],
    revoke=ROLES["revoke"],
    break_glass=ROLES["break-glass"],
    use=(ROLES["use"],),
)
EVERYTHING = {"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}

THROUGH_S3 = {
    "kms:ViaService": "s3.us-east-1.amazonaws.com",
    "kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::byok-acme/backups/1",
}
OAEP = {"kms:WrappingAlgorithm": "RSAES_OAEP_SHA_256", "kms:WrappingKeySpec": "RSA_4096"}
FOR_EVER = {"kms:ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
MONTH = {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}

ALLOWED: Mapping[str, tuple[tuple[str, Mapping[str, str]], ...]] = {
    "use": tuple(
        (f"kms:{action}", THROUGH_S3)
        for action in (
            "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
        )
    ),
    "provision": (
        ("kms:GetParametersForImport", OAEP),
        ("kms:ImportKeyMaterial", FOR_EVER),
        ("kms:CreateAlias", {}),
        ("kms:UpdateAlias", {}),
    ),
    "revoke": (("kms:DisableKey", {}), ("kms:EnableKey", {}), ("kms:DeleteImportedKeyMaterial", {})),
    "break-glass": (("kms:PutKeyPolicy", {}), ("kms:CancelKeyDeletion", {}), ("kms:ScheduleKeyDeletion", MONTH)),
}  # fmt: skip
"""The table of what each party needs, written without looking at the policy. Everybody may look: nobody may do more."""

LOOKS = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:ListGrants",
    "kms:ListResourceTags",
    "kms:GetKeyRotationStatus",
)
NOBODYS = (
    "kms:CreateGrant",
    "kms:RotateKeyOnDemand",
    "kms:ReplicateKey",
    "kms:TagResource",
    "kms:DeleteAlias",
    "kms:GenerateMac",
    "kms:UpdatePrimaryRegion",
    "kms:Sign",
)


def asks(caller: Caller, action: str, context: Mapping[str, str], parties: KeyParties = PARTIES) -> bool:
    return may(caller, Call(action, KEY, ACCOUNT, context), key_policy(parties, HOME), "key")


def party(name: str) -> Caller:
    """Somebody whom IAM lets do everything: what is refused, the key's policy refuses."""
    return Caller(ROLES.get(name, f"arn:aws:iam::{ACCOUNT}:role/{name}"), (EVERYTHING,))


def every_ask() -> Iterator[tuple[str, Mapping[str, str]]]:
    for asked in ALLOWED.values():
        yield from asked
    yield from ((action, THROUGH_S3 | OAEP | FOR_EVER | MONTH) for action in NOBODYS)


@pytest.mark.parametrize("name", [*ROLES, "administrator"])
def test_each_party_may_do_its_own_part_and_nothing_else(name: str) -> None:
    for action, context in every_ask():
        allowed = (action, context) in ALLOWED.get(name, ())
        assert asks(party(name), action, context) is allowed, action


@pytest.mark.parametrize("name", [*ROLES, "administrator"])
def test_everybody_whom_the_account_lets_may_look(name: str) -> None:
    for action in LOOKS:
        assert asks(party(name), action, {})
        assert not asks(replace(party(name), policies=()), action, {})


@pytest.mark.parametrize(
    "change",
    [
        {"kms:ViaService": None},
        {"kms:ViaService": "s3.eu-west-1.amazonaws.com"},
        {"kms:ViaService": "ec2.us-east-1.amazonaws.com"},
        {"kms:EncryptionContext:aws:s3:arn": None},
        {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::byok-other/backups/1"},
        {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::byok-acme-2/backups/1"},
        # What S3 gives where a writer asks for an S3 Bucket Key.
        {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::byok-acme"},
    ],
    ids=lambda change: str(next(iter(change.values()))),
)
def test_the_data_is_read_through_s3_and_in_the_tenants_bucket_alone(
    change: Mapping[str, str | None],
) -> None:
    merged: Mapping[str, str | None] = {**THROUGH_S3, **change}
    context = {key: value for key, value in merged.items() if value is not None}
    for action, _ in ALLOWED["use"]:
        assert asks(party("use"), action, THROUGH_S3)
        assert not asks(party("use"), action, context)


@pytest.mark.parametrize(
    ("name", "action", "context"),
    [
        ("provision", "kms:ImportKeyMaterial", {"kms:ExpirationModel": "KEY_MATERIAL_EXPIRES"}),
        ("provision", "kms:ImportKeyMaterial", {}),
        ("provision", "kms:GetParametersForImport", {**OAEP, "kms:WrappingAlgorithm": "RSAES_PKCS1_V1_5"}),
        ("provision", "kms:GetParametersForImport", {**OAEP, "kms:WrappingKeySpec": "RSA_2048"}),
        ("break-glass", "kms:ScheduleKeyDeletion", {"kms:ScheduleKeyDeletionPendingWindowInDays": "7"}),
        ("break-glass", "kms:ScheduleKeyDeletion", {"kms:ScheduleKeyDeletionPendingWindowInDays": "29"}),
    ],
)
def test_what_could_be_done_carelessly_is_refused(name: str, action: str, context: Mapping[str, str]) -> None:
    assert not asks(party(name), action, context)


def test_nobody_of_another_account_may_do_anything() -> None:
    stranger = Caller("arn:aws:iam::999988887777:role/rekeyd-use", (EVERYTHING,))

    for action, context in [*every_ask(), *((action, {}) for action in LOOKS)]:
        assert not asks(stranger, action, context), action


def test_without_roles_the_accounts_policies_decide_under_the_same_conditions() -> None:
    bare = KeyParties(ACCOUNT)

    for action, context in every_ask():
        allowed = action not in NOBODYS
        assert asks(party("administrator"), action, context, bare) is allowed
        assert not asks(Caller(f"arn:aws:iam::{ACCOUNT}:role/nobody"), action, context, bare)
    assert not asks(party("administrator"), "kms:Decrypt", {}, bare)


def test_writers_of_another_account_are_named_one_by_one() -> None:
    writer = "arn:aws:iam::444455556666:role/writer"
    both = replace(PARTIES, use=(ROLES["use"], writer))

    assert asks(Caller(writer, (EVERYTHING,)), "kms:GenerateDataKey", THROUGH_S3, both)
    assert not asks(Caller(writer, (EVERYTHING,)), "kms:DisableKey", {}, both)


def test_a_policy_is_small_enough_for_kms() -> None:
    """32 kilobytes: "Resource quotas", AWS KMS Developer Guide."""
    many = replace(PARTIES, use=tuple(f"arn:aws:iam::{ACCOUNT}:role/writer-{n}" for n in range(100)))

    assert len(str(key_policy(many, KeyHome("us-east-1", "b" * 63)))) < 32_768
