"""Whether a customer key will do: the table of faults."""

from dataclasses import replace

import pytest

from rekeyd.domain.key import KeyDescription, KeyFault, KmsKey, key_finding

ARN = "arn:aws:kms:us-east-1:111122223333"
KEY = KmsKey(kind="kms", arn=f"{ARN}:key/1", alias=f"{ARN}:alias/acme")
GOOD = KeyDescription(
    arn=KEY.arn,
    state="Enabled",
    usage="ENCRYPT_DECRYPT",
    spec="SYMMETRIC_DEFAULT",
    alias_target_arn=KEY.arn,
)
REGION = "us-east-1"


def test_a_good_key_has_no_fault() -> None:
    assert key_finding(KEY, GOOD, REGION) is None


@pytest.mark.parametrize(
    ("description", "fault", "advice"),
    [
        (replace(GOOD, state="Disabled"), "key_disabled", f"enable {KEY.arn}"),
        (replace(GOOD, state="PendingDeletion"), "key_pending_deletion", "cancel the deletion"),
        (replace(GOOD, state="PendingReplicaDeletion"), "key_pending_deletion", "cancel"),
        (replace(GOOD, state="PendingImport"), "key_unusable", "PendingImport"),
        (replace(GOOD, state="Unavailable"), "key_unusable", "Unavailable"),
        (replace(GOOD, state="Creating"), "key_unusable", "Creating"),
        (replace(GOOD, state="Updating"), "key_unusable", "Updating"),
        (replace(GOOD, state="enabled"), "key_unusable", "enabled"),
        (replace(GOOD, state=""), "key_unusable", "state"),
        (replace(GOOD, usage="SIGN_VERIFY", spec="RSA_4096"), "key_wrong_usage", "RSA_4096"),
        (replace(GOOD, spec="RSA_4096"), "key_wrong_usage", "symmetric"),
        (replace(GOOD, usage="GENERATE_VERIFY_MAC"), "key_wrong_usage", "MAC"),
        (replace(GOOD, alias_target_arn=None), "key_missing", KEY.alias),
        (replace(GOOD, alias_target_arn=f"{ARN}:key/2"), "key_alias_mismatch", "key/2"),
        (replace(GOOD, arn=f"{ARN}:key/2"), "key_missing", "key/2"),
        (replace(GOOD, arn=""), "key_missing", KEY.arn),
    ],
)
def test_a_fault_and_what_to_do(description: KeyDescription, fault: KeyFault, advice: str) -> None:
    finding = key_finding(KEY, description, REGION)

    assert finding is not None
    assert finding.fault == fault
    assert advice in finding.advice


def test_key_and_alias_are_in_the_buckets_region() -> None:
    finding = key_finding(KEY, GOOD, "eu-west-1")
    assert finding is not None
    assert finding.fault == "key_wrong_region"

    elsewhere = KmsKey(kind="kms", arn=KEY.arn, alias=KEY.alias.replace("us-east-1", "eu-west-1"))
    finding = key_finding(elsewhere, GOOD, REGION)
    assert finding is not None
    assert finding.fault == "key_wrong_region"


def test_the_gravest_fault_is_told() -> None:
    hopeless = replace(GOOD, state="PendingDeletion", usage="SIGN_VERIFY", alias_target_arn=None)

    finding = key_finding(KEY, hopeless, "eu-west-1")

    assert finding is not None
    assert finding.fault == "key_pending_deletion"


def test_regions_come_from_the_names() -> None:
    assert (KEY.region, KEY.alias_region) == (REGION, REGION)
