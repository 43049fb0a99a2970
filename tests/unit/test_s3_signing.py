"""Signatures: AWS's published examples, and botocore as an oracle over odd requests."""

from __future__ import annotations

import datetime as dt
import re
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.stores.s3.signing import (
    UNSIGNED_PAYLOAD,
    Credentials,
    SigningScope,
    authorize,
    canonical_request,
    encode_path,
    encode_query,
    string_to_sign,
)

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
SCOPE = SigningScope("20130524T000000Z", "us-east-1")
HOST = "examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "payload", "signature"),
    [
        (
            "GET",
            "/test.txt",
            "",
            {"range": "bytes=0-9"},
            EMPTY_SHA256,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            encode_path("test$file.text"),
            "",
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            encode_query([("lifecycle", "")]),
            {},
            EMPTY_SHA256,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/",
            encode_query([("prefix", "J"), ("max-keys", "2")]),
            {},
            EMPTY_SHA256,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get-object", "put-object", "get-bucket-lifecycle", "list-objects"],
)
def test_the_published_examples(
    method: str, path: str, query: str, headers: dict[str, str], payload: str, signature: str
) -> None:
    """From "Signature Calculations for the Authorization Header" (Amazon S3 API Reference)."""
    signed = authorize(method, path, query, {"host": HOST, **headers}, SCOPE, EXAMPLE, payload)

    assert signed["authorization"].endswith(f"Signature={signature}")


def test_the_published_intermediate_values() -> None:
    headers = [("host", HOST), ("x-amz-content-sha256", EMPTY_SHA256), ("x-amz-date", SCOPE.stamp)]
    canonical = canonical_request("GET", "/", "lifecycle=", headers, EMPTY_SHA256)

    assert string_to_sign(canonical, SCOPE) == (
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
        "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca"
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
KEYS = st.one_of(TEXT, st.sampled_from(["/lead", "a//b", "a/", "./x", "../y", "%2F", "+ %", "é", "e\u0301"]))
HEADER_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\xa0"), max_size=20
)
HEADERS = st.dictionaries(
    st.from_regex(r"x-amz-meta-[a-z0-9-]{1,8}", fullmatch=True), HEADER_TEXT, max_size=4
)


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
    key=KEYS,
    query=st.dictionaries(TEXT, st.one_of(TEXT, st.just("")), max_size=4),
    headers=HEADERS,
    token=st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9+/=]{8,40}", fullmatch=True)),
    epoch_seconds=st.integers(1_000_000_000, 4_000_000_000),
    region=st.sampled_from(["us-east-1", "eu-central-2"]),
)
def test_botocore_signs_the_same(
    method: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    token: str | None,
    epoch_seconds: int,
    region: str,
) -> None:
    path, encoded = encode_path("bucket", key), encode_query(query.items())
    ours = authorize(
        method,
        path,
        encoded,
        {"host": "127.0.0.1:8333", **headers},
        SigningScope.at(epoch_seconds, region),
        Credentials("AKID", "secret", token),
    )

    request = AWSRequest(method, f"http://127.0.0.1:8333{path}?{encoded}".rstrip("?"), headers=headers)
    request.context["payload_signing_enabled"] = False
    request.headers["X-Amz-Content-SHA256"] = UNSIGNED_PAYLOAD
    moment = dt.datetime.fromtimestamp(epoch_seconds, dt.UTC)
    auth = S3SigV4Auth(BotoCredentials("AKID", "secret", token), "s3", region)
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=moment.replace(tzinfo=None)),
        mock.patch.object(SigV4Auth, "payload", return_value=UNSIGNED_PAYLOAD),
    ):
        auth.add_auth(request)

    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.context["timestamp"]


@given(key=TEXT)
def test_a_path_is_the_keys_bytes(key: str) -> None:
    path = encode_path("b", key)

    assert re.fullmatch(r"(?:[A-Za-z0-9/_.~-]|%[0-9A-F]{2})+", path)
    decoded = re.sub(rb"%([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), path.encode())
    assert decoded == b"/b/" + key.encode()


def test_secrets_do_not_show() -> None:
    assert "secret" not in repr(Credentials("AKID", "secret", "token-secret"))


def test_a_key_without_utf_8_has_no_path() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_path("\udcff")
