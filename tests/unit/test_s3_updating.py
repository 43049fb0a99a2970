"""UpdateObjectEncryption as S3 documents it: for keys of the buckets' own account, on AWS alone."""

from __future__ import annotations

import pytest
from aiobotocore.session import get_session

from rekeyd.stores.s3 import xml
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.store import open_s3_store
from rekeyd.transfer.rekey_plan import can_update

OWNER = "111122223333"
KEY_ARN = f"arn:aws:kms:us-east-1:{OWNER}:key/1"


@pytest.mark.parametrize(
    ("account_id", "key_arn", "updates"),
    [(OWNER, KEY_ARN, True), ("444455556666", KEY_ARN, False), ("", KEY_ARN, False)],
)
def test_a_version_is_updated_only_to_a_key_of_the_buckets_account(
    account_id: str, key_arn: str, updates: bool
) -> None:
    assert can_update(account_id, key_arn) is updates


@pytest.mark.parametrize(("endpoint_url", "account_id"), [("", OWNER), ("https://s3.example", "")])
async def test_only_aws_updates(endpoint_url: str, account_id: str) -> None:
    config = S3Config("s3", "us-east-1", endpoint_url, account_id=OWNER)
    session = get_session()
    session.set_credentials("AKID", "secret")
    credentials = await session.get_credentials()
    assert credentials is not None
    async with open_s3_store(config, credentials, now=lambda: 0.0) as store:
        assert store.updates_keys_of == account_id


def test_the_body_names_the_whole_arn_and_no_bucket_key() -> None:
    body = xml.encryption_body(KEY_ARN)

    root = xml.parse(body)
    assert root.name == "ObjectEncryption"
    kms = root.find("SSE-KMS")
    assert kms is not None
    assert (kms.get("KMSKeyArn"), kms.get("BucketKeyEnabled")) == (KEY_ARN, "false")
