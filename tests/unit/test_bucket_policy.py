"""The dedicated bucket's policy, judged by IAM's rules for every combination of what a request can say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import pytest

from rekeyd.domain.bucket_policy import (
    Policy,
    Writing,
    has_ours,
    names_refusal,
    our_statements,
    partition_of,
    policy_drift,
    refusal,
    refuses_everybody,
    with_ours,
    with_refusal,
    without_refusal,
)
from tests.doubles.iam import Request, is_denied

BUCKET = "byok-acme"
KEY = "arn:aws:kms:us-east-1:111122223333:key/acme"
SECOND_KEY = "arn:aws:kms:us-east-1:111122223333:key/acme-next"


def on_aws(*key_arns: str) -> Writing:
    return Writing(
        BUCKET, key_arns, denies_plain_http=True, denies_unnamed_keys=True, updates_encryption=True
    )


ON_AWS = on_aws(KEY, SECOND_KEY)
ELSEWHERE = Writing(
    BUCKET, (KEY, SECOND_KEY), denies_plain_http=False, denies_unnamed_keys=False, updates_encryption=False
)

ALGORITHMS = (None, "AES256", "aws:kms", "aws:kms:dsse", "aws:fsx")
KEYS = {
    "none": None,
    "allowed": KEY,
    "second": SECOND_KEY,
    "alias": "arn:aws:kms:us-east-1:111122223333:alias/acme",
    "bare": "acme",
    "bare alias": "alias/acme",
    "other": "arn:aws:kms:us-east-1:111122223333:key/somebody",
    "longer": KEY + "2",
    "case": KEY.upper(),
    "empty": "",
}

# What may be written: each pair of algorithm and key that a request may name. Everything else is refused.
# S3 itself refuses a key without an algorithm; the policy needn't.
NAMEABLE = {
    (None, "none"),
    (None, "allowed"),
    (None, "second"),
    ("aws:kms", "allowed"),
    ("aws:kms", "second"),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says: the encryption, a customer-provided key, whether it comes over TLS."""

    algorithm: str | None = None
    key: str = "none"
    customer_provided: bool = False
    tls: bool = True

    @property
    def context(self) -> Mapping[str, str]:
        name = "s3:x-amz-server-side-encryption"
        found = {
            name: self.algorithm,
            f"{name}-aws-kms-key-id": KEYS[self.key],
            f"{name}-customer-algorithm": "AES256" if self.customer_provided else None,
            "aws:SecureTransport": "true" if self.tls else "false",
        }
        return {key: value for key, value in found.items() if value is not None}


EVERY = tuple(Said(*each) for each in product(ALGORITHMS, KEYS, (False, True), (True, False)))


def may_write(said: Said, writing: Writing) -> bool:
    """The table of what must be allowed, written without looking at the policy."""
    if said.customer_provided or (not said.tls and writing.denies_plain_http):
        return False
    if not writing.denies_unnamed_keys and (said.algorithm, said.key) == ("aws:kms", "none"):
        return True
    return (said.algorithm, said.key) in NAMEABLE


def calls(said: Said) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The calls that write an object with what is said, and the keys that each has in its context.

    All are authorised as s3:PutObject on the target. An upload says how it is encrypted when it is begun; its parts
    repeat only a customer-provided key, and its completion that, too. Whether S3 judges a part by nothing, or by what
    its upload was begun with, isn't documented: neither may make a difference.
    """
    yield "PutObject", said.context
    yield "CopyObject", said.context
    yield "CreateMultipartUpload", said.context
    of_a_part = Said(customer_provided=said.customer_provided, tls=said.tls).context
    yield "UploadPart", of_a_part
    yield "UploadPart as its upload", said.context
    yield "CompleteMultipartUpload", of_a_part


@pytest.mark.parametrize("writing", [ON_AWS, ELSEWHERE], ids=["on AWS", "elsewhere"])
@pytest.mark.parametrize("said", EVERY, ids=str)
def test_what_may_be_written_is_exactly_what_the_table_allows(said: Said, writing: Writing) -> None:
    policy = with_ours({}, our_statements(writing))
    judged = {
        call: not is_denied(policy, Request("s3:PutObject", f"arn:aws:s3:::{BUCKET}/a/key", context))
        for call, context in calls(said)
    }

    allowed = may_write(said, writing)
    for call in ("PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart as its upload"):
        assert judged[call] is allowed, call
    if allowed:
        assert all(judged.values()), "what was begun can be ended"
    if said.customer_provided or (not said.tls and writing.denies_plain_http):
        assert not any(judged.values())


def test_the_table_is_neither_empty_nor_everything() -> None:
    allowed = [said for said in EVERY if may_write(said, ON_AWS)]

    assert {(said.algorithm, said.key) for said in allowed} == NAMEABLE
    assert len(allowed) == len(NAMEABLE)


@pytest.mark.parametrize("sid", [str(each["Sid"]) for each in our_statements(ON_AWS)])
def test_each_statement_is_needed(sid: str) -> None:
    rest: Policy = {"Statement": [each for each in our_statements(ON_AWS) if each["Sid"] != sid]}
    slipped = [
        (action, said)
        for action, may in (("s3:PutObject", may_write), (UPDATE, may_update))
        for said in EVERY
        if not may(said, ON_AWS)
        and not is_denied(rest, Request(action, f"arn:aws:s3:::{BUCKET}/k", said.context))
    ]

    assert slipped


UPDATE = "s3:UpdateObjectEncryption"


def may_update(said: Said, writing: Writing) -> bool:
    """The table for a change of the key of what is there. It has to name one, by its whole ARN."""
    if not writing.updates_encryption:
        return True
    return said.tls and said.key in ("allowed", "second")


@pytest.mark.parametrize("writing", [ON_AWS, ELSEWHERE], ids=["on AWS", "elsewhere"])
def test_what_is_there_can_be_led_to_the_tenants_keys_and_to_no_other(writing: Writing) -> None:
    """UpdateObjectEncryption is authorised by an action of its own as well, which has the key in its context."""
    policy = with_ours({}, our_statements(writing))

    for said in EVERY:
        request = Request(UPDATE, f"arn:aws:s3:::{BUCKET}/a/key", said.context)
        assert is_denied(policy, request) is not may_update(said, writing), said


@pytest.mark.parametrize(
    "action", ["s3:GetObject", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"]
)
def test_nothing_but_writing_is_denied_over_tls(action: str) -> None:
    policy = with_ours({}, our_statements(ON_AWS))

    for resource in (f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/k"):
        assert not is_denied(policy, Request(action, resource, Said("AES256").context))
        assert is_denied(policy, Request(action, resource, Said(tls=False).context))


def test_the_bucket_is_named_in_the_partition_of_its_key() -> None:
    arn = "arn:aws-cn:kms:cn-north-1:111122223333:key/acme"
    statements = our_statements(on_aws(arn))

    bucket = f"arn:aws-cn:s3:::{BUCKET}"
    assert [each["Resource"] for each in statements] == [f"{bucket}/*"] * 5 + [[bucket, f"{bucket}/*"]]


def test_the_same_writing_makes_the_same_document() -> None:
    turned = on_aws(SECOND_KEY, KEY)

    assert json.dumps(our_statements(ON_AWS)) == json.dumps(our_statements(turned))


# --- beside what others have written ---

THEIRS = {
    "Sid": "AllowReaders",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::1:root"},
    "Action": "s3:Get*",
}
OURS = our_statements(ON_AWS)


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"Version": "2008-10-17", "Id": "theirs", "Statement": [THEIRS]},
        {"Version": "2012-10-17", "Statement": THEIRS},
        {"Statement": [{"Sid": "rekeydDenyOtherKeys", "Effect": "Deny"}, THEIRS, {"Sid": "rekeydGone"}]},
    ],
)
def test_others_keep_what_they_have_and_ours_is_there_once(before: Policy) -> None:
    after = with_ours(before, OURS)

    assert policy_drift(before, OURS)
    assert not policy_drift(after, OURS)
    statements = after["Statement"]
    assert isinstance(statements, list)
    assert [each for each in statements if each in OURS] == list(OURS)
    assert [each for each in statements if each not in OURS] == ([THEIRS] if before else [])
    assert {**after, "Statement": None} == {"Version": "2012-10-17", **before, "Statement": None}
    assert with_ours(after, OURS) == after


def respelled(policy: Policy) -> Policy:
    """As AWS gives a policy back: lists of one as their value, and the longer ones in another order."""
    text = json.dumps(policy).replace('"Principal": "*"', '"Principal": {"AWS": "*"}')
    text = text.replace(json.dumps([KEY, SECOND_KEY]), json.dumps([SECOND_KEY, KEY]))
    found: Policy = json.loads(text.replace('"Action": "s3:PutObject"', '"Action": ["s3:PutObject"]'))
    return found


def test_another_spelling_is_no_drift() -> None:
    policy = with_ours({}, OURS)

    assert respelled(policy) != policy
    assert not policy_drift(respelled(policy), OURS)


@pytest.mark.parametrize("sid", [str(each["Sid"]) for each in OURS])
@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Allow"},
        {"Principal": {"AWS": "arn:aws:iam::111122223333:root"}},
        {"Action": "s3:PutObjectAcl"},
        {"Resource": "arn:aws:s3:::byok-acme/elsewhere/*"},
        {"Condition": {"Null": {"s3:x-amz-acl": "false"}}},
        {"Condition": {}},
    ],
    ids=str,
)
def test_a_changed_statement_of_ours_is_drift(sid: str, change: Mapping[str, object]) -> None:
    changed = [{**each, **change} if each["Sid"] == sid else each for each in OURS]

    assert sid in policy_drift({"Statement": changed}, OURS)


@pytest.mark.parametrize("sid", [str(each["Sid"]) for each in OURS])
def test_a_missing_statement_of_ours_is_drift(sid: str) -> None:
    assert sid in policy_drift({"Statement": [each for each in OURS if each["Sid"] != sid]}, OURS)


def test_a_statement_of_ours_beside_the_ones_wanted_is_drift() -> None:
    twice = {"Statement": [*OURS, OURS[0]]}
    former = {"Statement": [*OURS, {**OURS[0], "Sid": "rekeydDenyFormer"}]}

    assert str(OURS[0]["Sid"]) in policy_drift(twice, OURS)
    assert "rekeydDenyFormer" in policy_drift(former, OURS)


def test_statements_of_others_are_no_drift() -> None:
    policy = with_ours({"Statement": [THEIRS, {**THEIRS, "Effect": "Deny", "Sid": "X"}]}, OURS)

    assert not policy_drift(policy, OURS)


@pytest.mark.parametrize("policy", [with_ours({}, our_statements(ON_AWS)), {}], ids=["ours", "none"])
def test_a_bucket_that_refuses_everybody_does_so_whatever_is_asked_and_stays_administrable(
    policy: Policy,
) -> None:
    closed = with_refusal(policy, refusal(BUCKET, "aws"))

    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion", "s3:GetObjectVersion"):
        assert is_denied(
            closed, Request(action, f"arn:aws:s3:::{BUCKET}/any/key", {"aws:SecureTransport": "true"})
        )
    for action in ("s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:ListBucket"):
        assert not is_denied(
            closed, Request(action, f"arn:aws:s3:::{BUCKET}", {"aws:SecureTransport": "true"})
        )
    assert refuses_everybody(closed, refusal(BUCKET, "aws"))
    assert with_refusal(closed, refusal(BUCKET, "aws")) == closed
    assert not refuses_everybody(without_refusal(closed), refusal(BUCKET, "aws"))
    assert policy_drift(without_refusal(closed), our_statements(ON_AWS)) == policy_drift(
        policy, our_statements(ON_AWS)
    )


def test_taking_the_refusal_away_leaves_what_others_have_put_there() -> None:
    others = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [others]}
    assert without_refusal(with_refusal(policy, refusal(BUCKET, "aws"))) == policy


@pytest.mark.parametrize(
    "weaker",
    [
        {"Effect": "Allow"},
        {"Action": "s3:GetObject"},
        {"Resource": f"arn:aws:s3:::{BUCKET}/.rekeyd/*"},
        {"Resource": f"arn:aws-cn:s3:::{BUCKET}/*"},
        {"Principal": {"AWS": "arn:aws:iam::111122223333:role/one"}},
        {"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
    ],
)
def test_a_refusal_that_says_anything_else_refuses_nobody_for_sure_and_is_replaced(
    weaker: Policy,
) -> None:
    wanted = refusal(BUCKET, "aws")
    policy = with_refusal(with_ours({}, OURS), {**wanted, **weaker})
    assert names_refusal(policy)
    assert not refuses_everybody(policy, wanted)
    assert refuses_everybody(with_refusal(policy, wanted), wanted)


def test_stores_may_spell_the_refusal_as_they_like() -> None:
    spelt = {
        **refusal(BUCKET, "aws"),
        "Principal": {"AWS": "*"},
        "Action": ["s3:*"],
        "Resource": [f"arn:aws:s3:::{BUCKET}/*"],
    }
    assert refuses_everybody({"Statement": spelt}, refusal(BUCKET, "aws"))


def test_setting_what_must_be_there_never_takes_the_refusal_away() -> None:
    closed = with_refusal({"Statement": [THEIRS]}, refusal(BUCKET, "aws"))
    assert refuses_everybody(with_ours(closed, OURS), refusal(BUCKET, "aws"))


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_the_refusal_names_the_bucket_as_its_partition_does(partition: str) -> None:
    key_arn = f"arn:{partition}:kms:a-region:111122223333:key/1"
    assert partition_of(key_arn) == partition
    assert refusal(BUCKET, partition)["Resource"] == f"arn:{partition}:s3:::{BUCKET}/*"


def test_a_policy_of_nothing_but_the_refusal_is_empty_without_it() -> None:
    assert without_refusal(with_refusal({}, refusal(BUCKET, "aws"))) == {}
    assert not has_ours({"Statement": [THEIRS]})
    assert has_ours(with_ours({}, OURS))
