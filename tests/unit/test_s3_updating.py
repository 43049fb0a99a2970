"""UpdateObjectEncryption as S3 documents it: for keys of the buckets' own account, on AWS alone."""

from __future__ import annotations

import pytest

from rekeyd.stores.s3 import xml
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.updating import updates_to

OWNER = "111122223333"
KEY_ARN = f"arn:aws:kms:us-east-1:{OWNER}:key/1"


@pytest.mark.parametrize(
    ("config", "key_arn", "updates"),
    [
        (S3Config("s3", "us-east-1", account_id=OWNER), KEY_ARN, True),
        (S3Config("s3", "us-east-1", account_id="444455556666"), KEY_ARN, False),
        (S3Config("s3", "us-east-1"), KEY_ARN, False),
        (S3Config("s3", "us-east-1", "https://s3.example", account_id=OWNER), KEY_ARN, False),
        (S3Config("s3", "us-east-1", account_id=OWNER), "no ARN", False),
    ],
)
def test_only_aws_updates_and_only_to_a_key_of_the_buckets_account(
    config: S3Config, key_arn: str, updates: bool
) -> None:
    assert updates_to(config, key_arn) is updates


def test_the_body_names_the_whole_arn_and_no_bucket_key() -> None:
    body = xml.encryption_body(KEY_ARN)

    root = xml.parse(body)
    assert root.name == "ObjectEncryption"
    kms = root.find("SSE-KMS")
    assert kms is not None
    assert (kms.get("KMSKeyArn"), kms.get("BucketKeyEnabled")) == (KEY_ARN, "false")
