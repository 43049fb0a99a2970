"""Who may do what by a key policy: never fewer than IAM lets, as another reading of its guide says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from rekeyd.domain.posture.holders import Holder, holders_of
from rekeyd.domain.posture.key_policy import ANYONE, KeyPolicy, Principal, read_policy, read_principal
from tests.doubles.iam_parties import Call, Caller, may

HOME, AWAY = "111122223333", "444455556666"
KEY = f"arn:aws:kms:us-east-1:{HOME}:key/acme"
KEEPER = f"arn:aws:iam::{HOME}:role/keeper"
USER = f"arn:aws:iam::{HOME}:user/ann"
FOREIGN = f"arn:aws:iam::{AWAY}:role/rekeyd"
HOME_ROOT, AWAY_ROOT = (f"arn:aws:iam::{account}:root" for account in (HOME, AWAY))
DELETE = "kms:ScheduleKeyDeletion"


def policy(*statements: dict[str, Any]) -> KeyPolicy:
    return read_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def statement(principal: object, effect: str = "Allow", **changes: object) -> dict[str, Any]:
    whole = {"Effect": effect, "Principal": principal, "Action": "kms:*", "Resource": "*", **changes}
    return {name: value for name, value in whole.items() if value is not None}


def names(holders: Iterable[Holder]) -> list[str]:
    return [holder.principal.name for holder in holders]


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], []),
        ([statement({"AWS": KEEPER})], [KEEPER]),
        ([statement({"AWS": HOME_ROOT})], [HOME]),
        ([statement({"AWS": [HOME, FOREIGN]})], [HOME, FOREIGN]),
        ([statement("*")], ["*"]),
        ([statement({"AWS": "*"})], ["*"]),
        ([statement({"Service": "ec2.amazonaws.com"})], ["ec2.amazonaws.com"]),
        ([statement(None, NotPrincipal={"AWS": KEEPER})], ["*"]),
        ([statement({"AWS": KEEPER}, Action="KMS:schedule*")], [KEEPER]),
        ([statement({"AWS": KEEPER}, Action=["kms:Decrypt", "kms:ScheduleKeyDeletio?"])], [KEEPER]),
        ([statement({"AWS": KEEPER}, Action="kms:Decrypt")], []),
        ([statement({"AWS": KEEPER}, Action=None, NotAction="kms:Decrypt")], [KEEPER]),
        ([statement({"AWS": KEEPER}, Action=None, NotAction="kms:*")], []),
        ([statement({"AWS": KEEPER}), statement("*", "Deny", Action=DELETE)], []),
        ([statement({"AWS": KEEPER}), statement({"AWS": FOREIGN}, "Deny")], [KEEPER]),
        ([statement({"AWS": KEEPER}), statement({"AWS": KEEPER}, "Deny")], []),
        ([statement({"AWS": KEEPER}), statement("*", "Deny", Action="kms:Decrypt")], [KEEPER]),
        ([statement({"AWS": KEEPER}), statement("*", "Deny", Resource=KEY)], []),
        ([statement({"AWS": KEEPER}), statement("*", "Deny", Resource=KEY + "2")], [KEEPER]),
        # A Deny to one role takes nothing from an account as a whole.
        ([statement({"AWS": HOME_ROOT}), statement({"AWS": KEEPER}, "Deny")], [HOME]),
        # Deny to everybody but some.
        (
            [
                statement({"AWS": HOME_ROOT}),
                statement(None, "Deny", NotPrincipal={"AWS": [KEEPER, FOREIGN]}),
            ],
            [KEEPER],
        ),
        (
            [
                statement({"AWS": HOME_ROOT}),
                statement("*", "Deny", Condition={"ArnNotEquals": {"aws:PrincipalArn": KEEPER}}),
            ],
            [KEEPER],
        ),
        (
            [
                statement({"AWS": HOME_ROOT}),
                statement(
                    "*", "Deny", Condition={"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/k*"}}
                ),
            ],
            [HOME],
        ),
        ([statement("*", Condition={"StringEquals": {"aws:PrincipalArn": KEEPER}})], [KEEPER]),
        ([statement("*", Condition={"StringEqualsIfExists": {"aws:PrincipalArn": KEEPER}})], ["*"]),
        # A Deny that isn't certain to bite takes nothing.
        (
            [
                statement({"AWS": KEEPER}),
                statement("*", "Deny", Condition={"Bool": {"aws:MultiFactorAuthPresent": "false"}}),
            ],
            [KEEPER],
        ),
    ],
)
def test_who_may_delete(statements: list[dict[str, Any]], expected: list[str]) -> None:
    assert names(holders_of(policy(*statements), DELETE, KEY)) == expected


def test_what_a_deny_leaves_is_a_condition_of_those_who_are_left() -> None:
    denied = policy(
        statement({"AWS": FOREIGN}),
        statement(
            "*", "Deny", Condition={"StringNotEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
        ),
        statement(
            "*",
            "Deny",
            Condition={"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}},
        ),
    )

    (holder,) = holders_of(denied, DELETE, KEY)

    assert holder.demanded("kms:viaservice") == ("s3.us-east-1.amazonaws.com",)
    assert holder.at_least("kms:ScheduleKeyDeletionPendingWindowInDays") == 30
    assert holder.demanded("kms:encryptioncontext:aws:s3:arn") == ()


@pytest.mark.parametrize(
    "operator", ["StringEqualsIfExists", "ForAllValues:StringEquals", "StringNotEquals", "Null"]
)
def test_a_condition_that_is_true_of_an_absent_key_demands_nothing(operator: str) -> None:
    (holder,) = holders_of(
        policy(statement({"AWS": KEEPER}, Condition={operator: {"kms:ViaService": "true"}})), DELETE, KEY
    )

    assert holder.demanded("kms:ViaService") == ()


def test_an_account_decides_by_its_iam_policies() -> None:
    assert [each.by_iam for each in holders_of(policy(statement({"AWS": [HOME, KEEPER]})), DELETE)] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"Statement": [1]}', "statement 1"),
        (json.dumps({"Statement": statement("*", "deny")}), "effect"),
        (json.dumps({"Statement": statement("*", Conditions={})}), "Conditions"),
        (json.dumps({"Statement": statement(None)}), "Principal"),
        (json.dumps({"Statement": statement({"AWS": "arn:aws:iam::111122223333:role/*"})}), "wildcard"),
        (json.dumps({"Statement": statement({"AWS": "somebody"})}), "no kind"),
        (json.dumps({"Statement": statement({"Group": "x"})}), "Group"),
        (json.dumps({"Statement": statement("*", Action=[])}), "neither"),
        (json.dumps({"Statement": statement("*", Condition=["x"])}), "condition"),
        (json.dumps({"Statement": statement("*", Condition={"StringEquals": "x"})}), "StringEquals"),
        (json.dumps({"Statement": statement("*", NotAction="kms:*")}), "NotAction"),
    ],
)
def test_what_is_not_understood_is_named(raw: str, reason: str) -> None:
    read = read_policy(raw)

    assert read.statements == ()
    assert len(read.unread) == 1
    assert reason in read.unread[0]


@pytest.mark.parametrize(
    ("text", "principal"),
    [
        ("*", ANYONE),
        (HOME, Principal("account", HOME)),
        (AWAY_ROOT, Principal("account", AWAY)),
        (f"arn:aws-cn:iam::{HOME}:root", Principal("account", HOME)),
        (KEEPER, Principal("identity", KEEPER)),
        (
            f"arn:aws:sts::{HOME}:assumed-role/k/s",
            Principal("identity", f"arn:aws:sts::{HOME}:assumed-role/k/s"),
        ),
        ("AIDAIOSFODNN7EXAMPLE", Principal("other", "AIDAIOSFODNN7EXAMPLE")),
    ],
)
def test_a_principal_is_read(text: str, principal: Principal) -> None:
    assert read_principal(text) == principal


@given(
    some.text(max_size=200)
    | some.recursive(
        some.none() | some.booleans() | some.integers() | some.text(max_size=8),
        lambda inner: (
            some.lists(inner, max_size=3)
            | some.dictionaries(
                some.sampled_from(["Statement", "Effect", "Principal", "Action", "Condition", "AWS", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(json.dumps)
)
def test_nothing_that_may_be_read_raises(raw: str) -> None:
    read = read_policy(raw)

    assert isinstance(holders_of(read, DELETE, KEY), tuple)


# --- nobody is overlooked ---

CALLERS = (*(KEEPER, USER, FOREIGN, f"arn:aws:iam::{HOME}:role/other", f"arn:aws:iam::{AWAY}:user/eve"),)
ALLOW_ALL = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
CONDITIONS = some.sampled_from(
    [
        {},
        {"StringEquals": {"aws:PrincipalArn": KEEPER}},
        {"ArnNotEquals": {"aws:PrincipalArn": [KEEPER, FOREIGN]}},
        {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{HOME}:role/*"}},
        {"StringNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{HOME}:*"}},
        {"StringNotEquals": {"kms:CallerAccount": HOME}},
        {"StringEquals": {"kms:CallerAccount": HOME}},
        {"StringNotEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}},
        {"StringNotEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com", "kms:CallerAccount": HOME}},
        {"StringNotEqualsIfExists": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}},
        {"Null": {"kms:ViaService": "true"}},
        {"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}},
        {"StringEqualsIfExists": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}},
    ]
)
PRINCIPALS = some.sampled_from(["*", {"AWS": "*"}]) | some.lists(
    some.sampled_from([HOME, AWAY_ROOT, HOME_ROOT, *CALLERS]), min_size=1, max_size=3
).map(lambda listed: {"AWS": listed})
ACTIONS = some.sampled_from(["kms:*", "*", DELETE, "kms:Schedule*", "kms:Decrypt", ["kms:Decrypt", DELETE]])


@some.composite
def a_statement(draw: some.DrawFn) -> dict[str, Any]:
    effect = draw(some.sampled_from(["Allow", "Allow", "Deny"]))
    # IAM no longer supports NotPrincipal with Allow; how we read it is told above.
    who = "NotPrincipal" if effect == "Deny" and draw(some.booleans()) else "Principal"
    what = draw(some.sampled_from(["Action", "Action", "NotAction"]))
    return {
        "Effect": effect,
        who: draw(PRINCIPALS),
        what: draw(ACTIONS),
        "Resource": draw(some.sampled_from(["*", "*", KEY, KEY + "2"])),
        "Condition": draw(CONDITIONS),
    }


def is_among(caller: str, holders: Iterable[Holder]) -> bool:
    account = caller.split(":")[4]
    return any(
        holder.principal in (ANYONE, Principal("account", account), Principal("identity", caller))
        for holder in holders
    )


@settings(max_examples=600, deadline=None)
@given(
    some.lists(a_statement(), max_size=5),
    some.sampled_from(CALLERS),
    some.sampled_from([DELETE, "kms:Decrypt"]),
    some.fixed_dictionaries(
        {},
        optional={
            "kms:ViaService": some.sampled_from(
                ["s3.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com"]
            ),
            "kms:ScheduleKeyDeletionPendingWindowInDays": some.sampled_from(["7", "30"]),
        },
    ),
)
def test_whoever_iam_lets_is_among_the_holders(
    statements: list[dict[str, Any]], caller: str, action: str, context: dict[str, str]
) -> None:
    document = {"Version": "2012-10-17", "Statement": statements}
    call = Call(action, KEY, HOME, {"kms:ScheduleKeyDeletionPendingWindowInDays": "30", **context})

    if may(Caller(caller, (ALLOW_ALL,)), call, document, "key"):
        holders = holders_of(read_policy(json.dumps(document)), action, KEY)
        assert is_among(caller, holders)
        # And what is said to be demanded of somebody is demanded of this call, by one of those whom it may be.
        through = context.get("kms:ViaService")
        demands = [h.demanded("kms:ViaService") for h in holders if is_among(caller, [h])]
        assert any(not demand or through in demand for demand in demands)
