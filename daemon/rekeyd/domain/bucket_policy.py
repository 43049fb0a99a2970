"""The policy of a dedicated bucket: whatever is written there lies under the tenant's own key.

S3 evaluates its conditions on what a request says, before the bucket's default encryption is applied: a writer that
names no encryption has none of these keys in its request, and falls to the default ("Condition keys for Amazon S3",
Service Authorization Reference). CopyObject and every call of a multipart upload are authorised as s3:PutObject
("Required permissions for Amazon S3 API operations", Amazon S3 User Guide). UpdateObjectEncryption, which leads what is
there to any key of the account, has an action of its own, with the named key in the same condition key ("Actions,
resources, and condition keys for Amazon S3", Service Authorization Reference).

A negated operator is true of an absent key, with IfExists or without ("IAM JSON policy elements: Condition
operators"), and under Deny that would refuse writers that name nothing. So presence is tested apart, by Null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Statement = Mapping[str, object]
"""One statement of a policy, as JSON has it."""

Policy = Mapping[str, object]
"""A bucket policy, as JSON has it. Empty: there is none."""

OUR_SID_PREFIX = "rekeyd"
"""Statements whose Sid begins with it are ours to write and to take away; all others are somebody else's."""

REFUSAL_SID = OUR_SID_PREFIX + "DenyRevoked"
"""Of the statement that a revocation adds, and its reinstatement takes away."""

_VERSION = "2012-10-17"
_ALGORITHM = "s3:x-amz-server-side-encryption"
_KEY_ID = "s3:x-amz-server-side-encryption-aws-kms-key-id"
_CUSTOMER_ALGORITHM = "s3:x-amz-server-side-encryption-customer-algorithm"
_SECURE = "aws:SecureTransport"


@dataclass(frozen=True, slots=True)
class Writing:
    """How a dedicated bucket may be written."""

    bucket: str
    key_arns: tuple[str, ...]
    """The keys that a writer may name, by their whole ARNs."""
    denies_plain_http: bool
    """Off where requests come over loopback."""
    denies_unnamed_keys: bool
    """Off where the store judges each part of an upload by the algorithm of the whole, without its key.

    SeaweedFS does, also where the algorithm is the bucket's default: the statement would deny every part (observed
    with SeaweedFS 4.48; `injectSSEForMultipart` in its policy engine).
    """
    updates_encryption: bool
    """Whether the store has UpdateObjectEncryption, and an action of that name to be denied."""


def our_statements(writing: Writing) -> tuple[Statement, ...]:
    """The statements that a dedicated bucket's policy must have, always in the same order and spelling."""
    assert writing.key_arns, "a dedicated bucket has a key"
    bucket = f"arn:{partition_of(writing.key_arns[0])}:s3:::{writing.bucket}"
    statements = [
        _deny_put(
            bucket,
            "OtherEncryption",
            {"Null": {_ALGORITHM: "false"}, "StringNotEquals": {_ALGORITHM: "aws:kms"}},
        ),
        _deny_put(
            bucket,
            "OtherKeys",
            {"Null": {_KEY_ID: "false"}, "StringNotEquals": {_KEY_ID: sorted(writing.key_arns)}},
        ),
        _deny_put(bucket, "CustomerProvidedKeys", {"Null": {_CUSTOMER_ALGORITHM: "false"}}),
    ]
    if writing.denies_unnamed_keys:
        statements.append(
            _deny_put(
                bucket,
                "UnnamedKeys",
                {"Null": {_KEY_ID: "true"}, "StringEquals": {_ALGORITHM: "aws:kms"}},
            )
        )
    if writing.updates_encryption:
        # The request has to name a key, and has it in its context: one without is denied, too.
        condition = {"StringNotEquals": {_KEY_ID: sorted(writing.key_arns)}}
        statements.append(_deny("UpdatesToOtherKeys", "s3:UpdateObjectEncryption", f"{bucket}/*", condition))
    if writing.denies_plain_http:
        statements.append(_deny("PlainHttp", "s3:*", [bucket, f"{bucket}/*"], {"Bool": {_SECURE: "false"}}))
    return tuple(statements)


def partition_of(arn: str) -> str:
    """The partition that an ARN names: `aws`, `aws-cn`, `aws-us-gov`. A bucket's ARN has that of its keys."""
    return arn.split(":")[1]


def refusal(bucket: str, partition: str) -> Statement:
    """The statement by which a bucket refuses everybody whatever concerns its objects, us included.

    What concerns the bucket itself stays allowed to whom it is: else nobody could take the statement away. An ARN of
    another partition isn't the bucket's ("Amazon Resource Names (ARNs)", IAM User Guide).
    """
    return {
        "Sid": REFUSAL_SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": f"arn:{partition}:s3:::{bucket}/*",
    }


def names_refusal(policy: Policy) -> bool:
    """Whether there is a statement by the refusal's name, whatever it says: a revocation was here."""
    return any(_is_refusal(each) for each in _statements(policy))


def refuses_everybody(policy: Policy, refusing: Statement) -> bool:
    """Whether exactly this refusal is in it. One that says anything else by its name refuses who knows whom."""
    found = [_canonical(each) for each in _statements(policy) if _is_refusal(each)]
    return found == [_canonical(refusing)]


def with_refusal(policy: Policy, refusing: Statement) -> Policy:
    """The policy with exactly this refusal in it; all others' statements stay."""
    return {"Version": _VERSION, **policy, "Statement": [*_statements(without_refusal(policy)), refusing]}


def without_refusal(policy: Policy) -> Policy:
    """The policy without it; empty where nothing else was in it."""
    others = [each for each in _statements(policy) if not _is_refusal(each)]
    return {"Version": _VERSION, **policy, "Statement": others} if others else {}


def has_ours(policy: Policy) -> bool:
    """Whether any statement in it is ours: the bucket was provisioned by us."""
    return any(_is_ours(each) for each in _statements(policy))


def with_ours(policy: Policy, ours: Sequence[Statement]) -> Policy:
    """The policy with exactly these statements of ours in it. Everybody else's stay as they are, and come first.

    A refusal stays, too: only a reinstatement takes that away.
    """
    others = [each for each in _statements(policy) if not _is_ours(each) or _is_refusal(each)]
    return {"Version": _VERSION, **policy, "Statement": [*others, *ours]}


def policy_drift(policy: Policy, ours: Sequence[Statement]) -> str:
    """How our part of a policy isn't what it should be; empty where it is.

    What others have added is no drift: a Deny that they add may keep somebody out, but nothing that they allow takes
    one of our denials back ("Policy evaluation logic", IAM User Guide). Spelling doesn't count: stores give a list of
    one as its one value, and lists in an order of their own.
    """
    wanted = {_sid(each): _canonical(each) for each in ours}
    found: dict[str, list[str]] = {}
    for each in _statements(policy):
        if _is_ours(each):
            found.setdefault(_sid(each), []).append(_canonical(each))
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        return f"the bucket policy lacks {', '.join(missing)}"
    changed = sorted(sid for sid in found if found[sid] != [wanted.get(sid)])
    return f"the bucket policy has another {', '.join(changed)}" if changed else ""


def _deny_put(bucket: str, name: str, condition: Mapping[str, object]) -> Statement:
    return _deny(name, "s3:PutObject", f"{bucket}/*", condition)


def _deny(name: str, action: str, resource: object, condition: Mapping[str, object]) -> Statement:
    return {
        "Sid": f"{OUR_SID_PREFIX}Deny{name}",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resource,
        "Condition": condition,
    }


def _statements(policy: Policy) -> list[Statement]:
    """A policy's statements; a single one may stand without a list."""
    found = policy.get("Statement", [])
    listed: Iterable[object] = (
        [found] if isinstance(found, Mapping) else found if isinstance(found, list) else []
    )
    return [each for each in listed if isinstance(each, Mapping)]


def _sid(statement: Statement) -> str:
    return str(statement.get("Sid", ""))


def _is_refusal(statement: Statement) -> bool:
    return _sid(statement) == REFUSAL_SID


def _is_ours(statement: Statement) -> bool:
    return _sid(statement).startswith(OUR_SID_PREFIX)


def _canonical(statement: Statement) -> str:
    """A statement in the one spelling in which equal ones are equal texts."""
    plain = {name: _plain(value) for name, value in statement.items()}
    if plain.get("Principal") == {"AWS": ["*"]}:
        plain["Principal"] = ["*"]
    return json.dumps(plain, sort_keys=True)


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return {str(name): _plain(each) for name, each in value.items()}
        case list() | tuple():
            return sorted(_text(each) for each in value)
        case _:
            return [_text(value)]


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
