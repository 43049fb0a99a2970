"""The double of IAM says what the IAM User Guide says."""

from __future__ import annotations

import pytest

from tests.doubles.iam import MalformedPolicyError, Request, effects, holds, is_denied

REQUEST = Request("s3:PutObject", "arn:aws:s3:::b/k", {"s3:x": "1"})


def statement(**changes: object) -> dict[str, object]:
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::b/*",
        **changes,
    }


@pytest.mark.parametrize(
    ("operator", "values", "found", "true"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "a", None, False),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", "a", "a", False),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringNotEquals", "a", None, True),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("StringNotEqualsIfExists", "a", None, True),
        ("StringNotEqualsIfExists", "a", "a", False),
        ("StringLike", "a*", "abc", True),
        ("StringLike", "a?", "abc", False),
        ("StringLike", "*", None, False),
        ("StringNotLike", "a*", "abc", False),
        ("StringNotLike", "a*", None, True),
        ("Null", "true", None, True),
        ("Null", "true", "a", False),
        ("Null", "false", "a", True),
        ("Null", "false", None, False),
        ("Null", False, "", True),
        ("Bool", "false", "false", True),
        ("Bool", "false", "true", False),
        ("Bool", "false", None, False),
        ("BoolIfExists", "false", None, True),
    ],
)
def test_an_operator_is_as_documented(operator: str, values: object, found: str | None, true: bool) -> None:
    assert holds(operator, values, found) is true


@pytest.mark.parametrize(
    ("changes", "denied"),
    [
        ({}, True),
        ({"Action": "S3:putobject"}, True),
        ({"Action": ["s3:GetObject", "s3:Put*"]}, True),
        ({"Action": "s3:GetObject"}, False),
        ({"Resource": "arn:aws:s3:::b"}, False),
        ({"Resource": "arn:aws:s3:::B/*"}, False),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Effect": "Allow"}, False),
        ({"Condition": {"StringEquals": {"S3:X": "1"}}}, True),
        ({"Condition": {"StringEquals": {"s3:x": "1", "s3:y": "1"}}}, False),
        ({"Condition": {"StringEquals": {"s3:x": "1"}, "Null": {"s3:y": "false"}}}, False),
        ({"Condition": {"StringEquals": {"s3:x": "1"}, "Null": {"s3:y": "true"}}}, True),
    ],
)
def test_a_statement_is_about_what_all_of_it_matches(changes: dict[str, object], denied: bool) -> None:
    assert is_denied({"Statement": statement(**changes)}, REQUEST) is denied


def test_one_denial_is_enough() -> None:
    policy = {"Statement": [statement(Effect="Allow", Action="s3:*"), statement()]}

    assert effects(policy, REQUEST) == {"Allow", "Deny"}
    assert is_denied(policy, REQUEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"Condition": {"StringEqual": {"s3:x": "1"}}},
        {"Condition": {"NullIfExists": {"s3:x": "true"}}},
        {"Condition": {"Null": {"s3:x": "perhaps"}}},
        {"Condition": {"Bool": {"aws:SecureTransport": "no"}}, "Action": "s3:GetObject"},
        {"Condition": ["StringEquals"]},
        {"Principal": {"AWS": "arn:aws:iam::111122223333:root"}},
        {"NotAction": "s3:GetObject"},
        {"Effect": "deny"},
    ],
)
def test_what_is_not_known_is_refused(changes: dict[str, object]) -> None:
    request = Request(REQUEST.action, REQUEST.resource, {"s3:x": "1", "aws:SecureTransport": "true"})

    with pytest.raises(MalformedPolicyError):
        is_denied({"Statement": [statement(**changes)]}, request)
