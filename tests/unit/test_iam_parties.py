"""The double of IAM with principals says what the IAM and KMS guides say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doubles.iam import MalformedPolicyError, holds
from tests.doubles.iam_parties import Call, Caller, may

HOME, AWAY = "111122223333", "444455556666"
ROLE = f"arn:aws:iam::{HOME}:role/keeper"
FOREIGN = f"arn:aws:iam::{AWAY}:role/rekeyd"
KEY = f"arn:aws:kms:us-east-1:{HOME}:key/acme"
CALL = Call("kms:Decrypt", KEY, HOME, {"kms:ViaService": "s3.us-east-1.amazonaws.com"})
OWN = {"Statement": {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": KEY}}
OWN_DENY = {"Statement": {"Effect": "Deny", "Action": "kms:*", "Resource": "*"}}


def statement(principal: object, effect: str = "Allow", **changes: object) -> dict[str, Any]:
    return {"Effect": effect, "Principal": principal, "Action": "kms:*", "Resource": "*", **changes}


@pytest.mark.parametrize(
    ("arn", "own", "principal", "allowed"),
    [
        (ROLE, (), {"AWS": ROLE}, True),
        (ROLE, (), "*", True),
        (ROLE, (), {"AWS": f"arn:aws:iam::{HOME}:root"}, False),
        (ROLE, (OWN,), {"AWS": f"arn:aws:iam::{HOME}:root"}, True),
        (ROLE, (OWN,), {"AWS": HOME}, True),
        (ROLE, (OWN,), {"AWS": FOREIGN}, False),
        (FOREIGN, (), {"AWS": FOREIGN}, False),
        (FOREIGN, (OWN,), {"AWS": FOREIGN}, True),
        (FOREIGN, (OWN,), {"AWS": AWAY}, True),
        (FOREIGN, (), "*", False),
        (FOREIGN, (OWN,), {"AWS": [ROLE]}, False),
        (ROLE, (OWN_DENY,), {"AWS": ROLE}, False),
        (f"arn:aws:iam::{HOME}:root", (), {"AWS": HOME}, True),
        (f"arn:aws:iam::{HOME}:root", (), {"AWS": ROLE}, False),
    ],
)
def test_a_key_policy_names_the_caller_everybody_or_an_account_that_decides(
    arn: str, own: tuple[dict[str, object], ...], principal: object, allowed: bool
) -> None:
    assert may(Caller(arn, own), CALL, {"Statement": statement(principal)}, "key") is allowed


def test_a_bucket_of_the_account_needs_no_policy_and_a_key_does() -> None:
    own = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    caller = Caller(ROLE, (own,))

    assert may(caller, Call("s3:GetObject", "arn:aws:s3:::b/k", HOME), {}, "bucket")
    assert not may(caller, CALL, {}, "key")


@pytest.mark.parametrize(
    ("deny", "allowed"),
    [
        (statement("*", "Deny"), False),
        (statement({"AWS": ROLE}, "Deny"), False),
        (statement({"AWS": HOME}, "Deny"), False),
        (statement({"AWS": FOREIGN}, "Deny"), True),
        (statement("*", "Deny", Action="kms:Encrypt"), True),
        (statement("*", "Deny", Resource="arn:aws:kms:us-east-1:1:key/other"), True),
        (
            {k: v for k, v in statement("*", "Deny", NotAction="kms:Encrypt").items() if k != "Action"},
            False,
        ),
        (
            {"Effect": "Deny", "NotPrincipal": {"AWS": ROLE}, "Action": "kms:*", "Resource": "*"},
            True,
        ),
        (
            {"Effect": "Deny", "NotPrincipal": {"AWS": FOREIGN}, "Action": "kms:*", "Resource": "*"},
            False,
        ),
        (statement("*", "Deny", Condition={"ArnNotEquals": {"aws:PrincipalArn": ROLE}}), True),
        (statement("*", "Deny", Condition={"ArnNotLike": {"aws:PrincipalArn": FOREIGN}}), False),
        (statement("*", "Deny", Condition={"StringNotEquals": {"kms:CallerAccount": HOME}}), True),
    ],
)
def test_a_denial_about_the_call_decides(deny: dict[str, object], allowed: bool) -> None:
    policy = {"Statement": [statement({"AWS": ROLE}), deny]}

    assert may(Caller(ROLE), CALL, policy, "key") is allowed


@pytest.mark.parametrize(
    ("operator", "values", "found", "true"),
    [
        ("ArnLike", "arn:aws:s3:::b/*", "arn:aws:s3:::b/k/l", True),
        ("ArnLike", "arn:aws:*:b", "arn:aws:s3:::b", False),
        ("ArnEquals", "arn:aws:s3:::b", "arn:aws:s3:::b", True),
        ("ArnNotLike", "arn:aws:s3:::b/*", None, True),
        ("ArnNotEquals", "arn:aws:s3:::b/*", "arn:aws:s3:::b/k", False),
        ("NumericLessThan", "30", "7", True),
        ("NumericLessThan", "30", "30", False),
        ("NumericLessThan", "30", None, False),
        ("NumericGreaterThanEquals", 30, "30", True),
    ],
)
def test_an_operator_is_as_documented(operator: str, values: object, found: str | None, true: bool) -> None:
    assert holds(operator, values, found) is true


@pytest.mark.parametrize(
    "policy",
    [
        {"Statement": {"Effect": "Allow", "Principal": {"Federated": "x"}, "Action": "*", "Resource": "*"}},
        {"Statement": {"Effect": "Allow", "NotPrincipal": {"AWS": ROLE}, "Action": "*", "Resource": "*"}},
        {"Statement": statement("*", Conditions={})},
        {"Version": "2008-10-17", "Statement": statement("*")},
    ],
)
def test_what_is_not_known_is_refused(policy: dict[str, object]) -> None:
    with pytest.raises(MalformedPolicyError):
        may(Caller(ROLE), CALL, policy, "key")
