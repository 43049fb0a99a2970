"""Where a bucket's requests go: virtual-hosted on AWS, by path where that can't be; and what is refused."""

from __future__ import annotations

import pytest

from rekeyd.stores.s3.config import Address, S3Config, locate

AWS = S3Config("s3", "us-east-1")
OWN = S3Config("s3", "us-east-1", "https://s3.example:9000/")


@pytest.mark.parametrize(
    ("region", "bucket", "key", "host", "path"),
    [
        ("eu-central-1", "byok-acme", "k", "byok-acme.s3.eu-central-1.amazonaws.com", "/k"),
        ("us-east-1", "byok-acme", "k", "byok-acme.s3.us-east-1.amazonaws.com", "/k"),
        ("eu-central-1", "byok-acme", "a//b %", "byok-acme.s3.eu-central-1.amazonaws.com", "/a//b%20%25"),
        ("eu-central-1", "byok-acme", "/ü+", "byok-acme.s3.eu-central-1.amazonaws.com", "//%C3%BC%2B"),
        ("eu-central-1", "byok-acme", None, "byok-acme.s3.eu-central-1.amazonaws.com", "/"),
        # No wildcard certificate covers a name with a dot.
        ("eu-central-1", "byok.acme", "k", "s3.eu-central-1.amazonaws.com", "/byok.acme/k"),
        ("eu-central-1", "byok.acme", "a//b %", "s3.eu-central-1.amazonaws.com", "/byok.acme/a//b%20%25"),
        ("eu-central-1", "byok.acme", None, "s3.eu-central-1.amazonaws.com", "/byok.acme"),
        # China is a partition with a domain of its own.
        ("cn-north-1", "byok-acme", "k", "byok-acme.s3.cn-north-1.amazonaws.com.cn", "/k"),
        ("cn-north-1", "byok.acme", "k", "s3.cn-north-1.amazonaws.com.cn", "/byok.acme/k"),
        ("us-gov-west-1", "byok-acme", "k", "byok-acme.s3.us-gov-west-1.amazonaws.com", "/k"),
    ],
)
def test_on_aws_the_bucket_is_in_the_host_where_its_name_allows(
    region: str, bucket: str, key: str | None, host: str, path: str
) -> None:
    """In the bucket's own region, whichever the store's is."""
    assert locate(AWS, region, bucket, key) == Address(f"https://{host}", host, path)


@pytest.mark.parametrize("bucket", ["byok-acme", "byok.acme"])
@pytest.mark.parametrize("region", ["us-east-1", "cn-north-1"])
@pytest.mark.parametrize(
    ("key", "path"), [("k", "/{}/k"), ("a//b %", "/{}/a//b%20%25"), ("", "/{}/"), (None, "/{}")]
)
def test_at_an_endpoint_of_ones_own_the_bucket_is_in_the_path(
    bucket: str, region: str, key: str | None, path: str
) -> None:
    assert locate(OWN, region, bucket, key) == Address(
        "https://s3.example:9000", "s3.example:9000", path.format(bucket)
    )


def test_a_key_that_has_no_utf8_has_no_address() -> None:
    with pytest.raises(UnicodeEncodeError):
        locate(AWS, "us-east-1", "byok-acme", "\ud800")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000",
        "http://[::1]:9000",
        "http://localhost",
        "https://s3.example",
        "https://10.0.0.1/",
    ],
)
def test_an_endpoint_is_on_loopback_or_behind_tls(url: str) -> None:
    assert S3Config("s3", "us-east-1", url).endpoint_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://s3.example",
        "http://10.0.0.1:9000",
        "http://localhost.example",
        "ftp://127.0.0.1",
        "s3.example:9000",
        "https://",
        "https://s3.example/path",
        "https://s3.example/?query",
        "https://user:word@s3.example",
    ],
)
def test_any_other_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="endpoint_url"):
        S3Config("s3", "us-east-1", url)
