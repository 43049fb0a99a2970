"""Findings about a key: each by what makes it worse, and nothing passed that wasn't seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rekeyd.domain.errors import RefusedError
from rekeyd.domain.posture import (
    Expected,
    Finding,
    Grant,
    Grants,
    KeyAttributes,
    KeyFacts,
    KeyReference,
    Known,
    Rotation,
    Rotations,
    Severity,
    Unknown,
    judge,
)
from tests.unit.test_posture_holders import (
    AWAY,
    FOREIGN,
    HOME,
    HOME_ROOT,
    KEEPER,
    KEY,
    USER,
    statement,
)

ALIAS = f"arn:aws:kms:us-east-1:{HOME}:alias/acme"
DATA = AWAY
NOW = 1_700_000_000.0
DAY = 86_400.0
THROUGH_S3 = {
    "StringEquals": {
        "kms:ViaService": "s3.us-east-1.amazonaws.com",
        "kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::byok-acme/*",
    }
}
CONTEXT = "kms:EncryptionContext:aws:s3:arn"
NARROWER = {"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::byok-acme/*"}}
USE = ["kms:Decrypt", "kms:GenerateDataKey"]
CONTROL = ["kms:Put*", "kms:Disable*", "kms:ScheduleKeyDeletion", "kms:CreateGrant"]
WINDOW = {"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}}
TIGHT = [
    statement({"AWS": KEEPER}, Action=CONTROL),
    statement({"AWS": FOREIGN}, Action=USE, Condition=THROUGH_S3),
    statement("*", "Deny", Action="kms:ScheduleKeyDeletion", Condition=WINDOW),
]


def document(statements: Sequence[object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


GOOD = KeyFacts(
    reference=KeyReference.parse(KEY, "REF"),
    looked_at=NOW,
    looker=Known(KEEPER),
    description=Known(
        KeyAttributes(
            arn=KEY,
            state="Enabled",
            manager="CUSTOMER",
            usage="ENCRYPT_DECRYPT",
            spec="SYMMETRIC_DEFAULT",
            origin="AWS_KMS",
            multi_region=True,
            replica_regions=("eu-west-1",),
        )
    ),
    policy=Known(document(TIGHT)),
    grants=Known(Grants((), complete=True)),
    rotation=Known(Rotation(automatic=True, period_days=365)),
    rotations=Known(Rotations(0, None, complete=True)),
    tags=Known({"purpose": "backup"}),
    aliases=Known((ALIAS,)),
    alias_target=Known(KEY),
    daemon_account=Known(DATA),
    data_accounts=Known(frozenset({DATA})),
)
EXPECTED = Expected(frozenset({KEEPER}))


def finding(name: str, facts: KeyFacts = GOOD, expected: Expected = EXPECTED) -> Finding:
    (one,) = [each for each in judge(facts, expected) if each.name == name]
    return one


def described(**changes: Any) -> KeyFacts:  # noqa: ANN401 - KeyAttributes' own
    assert isinstance(GOOD.description, Known)
    return replace(GOOD, description=Known(replace(GOOD.description.value, **changes)))


def under(*statements: object) -> KeyFacts:
    return replace(GOOD, policy=Known(document(statements)))


def test_a_key_in_good_order_is_ok_in_everything() -> None:
    assert {each.name: (each.severity, each.mend) for each in judge(GOOD, EXPECTED)} == {
        each.name: ("ok", "") for each in judge(GOOD, EXPECTED)
    }
    assert len(judge(GOOD, EXPECTED)) == 22


@pytest.mark.parametrize(
    ("name", "changes", "severity", "evidence"),
    [
        ("state", {"state": "Disabled"}, "high", "disabled"),
        ("state", {"state": "PendingImport"}, "high", "PendingImport"),
        ("state", {"state": "Updating"}, "low", "Updating"),
        ("state", {"state": "Melted"}, "unknown", "Melted"),
        ("pending_deletion", {"state": "PendingDeletion", "deletion_at": NOW}, "critical", "2023-11-14"),
        ("pending_deletion", {"state": "PendingReplicaDeletion"}, "critical", "wasn't said"),
        ("usage", {"spec": "RSA_2048"}, "critical", "RSA_2048"),
        ("usage", {"usage": "SIGN_VERIFY"}, "critical", "SIGN_VERIFY"),
        ("manager", {"manager": "AWS"}, "critical", "AWS"),
        ("single_region", {"multi_region": False}, "low", "one region"),
        ("single_region", {"replica_regions": ()}, "low", "one region"),
        (
            "expiring_material",
            {"origin": "EXTERNAL", "expiration": "KEY_MATERIAL_EXPIRES", "valid_to": NOW},
            "high",
            "2023-11-14",
        ),
        (
            "expiring_material",
            {"origin": "EXTERNAL", "expiration": "KEY_MATERIAL_DOES_NOT_EXPIRE"},
            "ok",
            "doesn't expire",
        ),
        ("key_store", {"origin": "AWS_CLOUDHSM", "key_store_id": "cks-1"}, "low", "cks-1"),
        ("key_store", {"origin": "EXTERNAL_KEY_STORE", "key_store_id": "cks-2"}, "medium", "cks-2"),
    ],
)
def test_what_a_key_is(name: str, changes: Mapping[str, Any], severity: Severity, evidence: str) -> None:
    one = finding(name, described(**changes))

    assert (one.severity, bool(one.mend)) == (severity, severity != "ok")
    assert evidence in one.evidence


@pytest.mark.parametrize(
    ("rotation", "origin", "last_at", "severity"),
    [
        (Rotation(automatic=True, period_days=90), "AWS_KMS", None, "ok"),
        (Rotation(automatic=True, period_days=730), "AWS_KMS", None, "low"),
        (Rotation(automatic=False), "AWS_KMS", None, "medium"),
        (Rotation(automatic=False), "AWS_KMS", NOW - 10 * DAY, "low"),
        (Rotation(automatic=False), "AWS_KMS", NOW - 1000 * DAY, "medium"),
        (Rotation(automatic=False), "EXTERNAL", None, "medium"),
    ],
)
def test_rotation_off_or_by_hand_is_told(
    rotation: Rotation, origin: str, last_at: float | None, severity: Severity
) -> None:
    history = Rotations(0 if last_at is None else 1, last_at, complete=True)
    facts = replace(described(origin=origin), rotation=Known(rotation), rotations=Known(history))

    assert finding("rotation", facts).severity == severity


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("same_account_as_data", {"data_accounts": Known(frozenset({"1", HOME}))}),
        ("same_account_as_daemon", {"daemon_account": Known(HOME)}),
    ],
)
def test_a_key_in_the_vendors_account_is_in_the_vendors_hands(name: str, changes: Mapping[str, Any]) -> None:
    facts = replace(under(statement({"AWS": HOME_ROOT})), **changes)

    assert finding(name, facts).severity == "high"
    separate = under(statement({"AWS": HOME_ROOT}))
    assert finding("who_can_delete", separate, Expected()).severity == "medium"
    assert finding("who_can_delete", facts, Expected()).severity == "high"


@pytest.mark.parametrize(
    ("principal", "control", "grant"),
    [
        ({"AWS": KEEPER}, "ok", "ok"),
        ({"AWS": USER}, "high", "high"),
        ({"AWS": HOME_ROOT}, "high", "high"),
        ({"AWS": FOREIGN}, "low", "high"),
        ("*", "critical", "critical"),
        ({"Service": "backup.amazonaws.com"}, "high", "high"),
    ],
)
@pytest.mark.parametrize(
    "name", ["who_can_disable", "who_can_delete", "who_can_change_policy", "who_can_grant"]
)
def test_who_decides_over_a_key(name: str, principal: object, control: Severity, grant: Severity) -> None:
    one = finding(name, under(statement(principal)))

    assert one.severity == (grant if name == "who_can_grant" else control)


def test_named_principals_are_to_be_known_where_nobody_said_who_is_expected() -> None:
    assert finding("who_can_delete", expected=Expected()).severity == "low"
    assert KEEPER in finding("who_can_delete", expected=Expected()).evidence


@pytest.mark.parametrize("how", [HOME, HOME_ROOT])
def test_an_account_may_be_expected(how: str) -> None:
    expected = Expected(frozenset({how}))

    assert finding("who_can_delete", under(statement({"AWS": HOME_ROOT})), expected).severity == "ok"


@pytest.mark.parametrize(
    ("statements", "severity"),
    [
        ([statement("*", Action="kms:DescribeKey")], "critical"),
        ([statement(None, NotPrincipal={"AWS": KEEPER})], "critical"),
        ([statement("*", Condition={"StringEquals": {"kms:CallerAccount": HOME}})], "medium"),
        ([statement("*", Condition={"StringLike": {"aws:PrincipalArn": "*"}})], "critical"),
        ([statement("*", Condition={"StringEqualsIfExists": {"kms:CallerAccount": HOME}})], "critical"),
        ([statement("*", Action="kms:ListGrants")], "low"),
        ([statement("*"), statement("*", "Deny")], "low"),
        ([statement("*", "Deny")], "ok"),
    ],
)
def test_wildcard_principals(statements: list[Mapping[str, Any]], severity: Severity) -> None:
    assert finding("wildcard_principals", under(*statements)).severity == severity


@pytest.mark.parametrize(
    ("principal", "condition", "severity"),
    [
        (FOREIGN, THROUGH_S3, "ok"),
        (FOREIGN, {}, "high"),
        (FOREIGN, NARROWER, "high"),
        (FOREIGN, {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}, "medium"),
        (FOREIGN, {"StringEqualsIfExists": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}, "high"),
        (
            FOREIGN,
            {"StringEquals": {"kms:ViaService": ["s3.us-east-1.amazonaws.com", "ec2.x.amazonaws.com"]}},
            "high",
        ),
        (
            FOREIGN,
            {
                "StringLike": {
                    "kms:ViaService": "s3.*.amazonaws.com",
                    "kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::*",
                }
            },
            "medium",
        ),
        *(
            (FOREIGN, {"StringLike": {**THROUGH_S3["StringEquals"], CONTEXT: arn}}, "medium")
            for arn in (
                "arn:aws:s3:::b*",
                "arn:aws:s3:::byok-acm?/*",
                "arn:aws:s3:::*acme/*",
                "arn:aws:s3:::*/a",
                "arn:aws:s3:::${aws:PrincipalTag/bucket}/*",
                "arn:aws:s3*byok-acme/*",
                "arn:aws:s3:::",
                "*",
            )
        ),
        (FOREIGN, {"StringLike": {**THROUGH_S3["StringEquals"], CONTEXT: "arn:aws-cn:s3:::b/a?/*"}}, "ok"),
        (AWAY, {}, "high"),
        (HOME, {}, "unknown"),
        (HOME, THROUGH_S3, "ok"),
        ("*", {}, "critical"),
        (KEEPER, {}, "low"),
        (USER, {}, "high"),
    ],
)
def test_use_is_through_s3_and_for_the_bucket(
    principal: str, condition: Mapping[str, Any], severity: Severity
) -> None:
    facts = under(statement({"AWS": principal}, Action=USE, Condition=condition))

    assert finding("service_condition", facts).severity == severity


def test_a_denial_of_what_does_not_come_through_s3_is_as_good_as_the_condition() -> None:
    via = {"StringNotEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
    bucket = {"StringNotLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::byok-acme/*"}}
    allowed = statement({"AWS": FOREIGN}, Action=USE)
    denied = [statement("*", "Deny", Action=USE, Condition=each) for each in (via, bucket)]

    assert finding("service_condition", under(allowed)).severity == "high"
    assert finding("service_condition", under(allowed, *denied)).severity == "ok"


@pytest.mark.parametrize(
    ("statements", "severity"),
    [
        ([statement({"AWS": KEEPER})], "medium"),
        ([statement({"AWS": KEEPER}, Action=CONTROL), statement({"AWS": USER}, Action=USE)], "ok"),
        ([statement({"AWS": HOME_ROOT})], "unknown"),
        ([statement({"AWS": HOME_ROOT}, Action=CONTROL), statement({"AWS": FOREIGN}, Action=USE)], "ok"),
        ([statement({"AWS": HOME_ROOT}, Action=CONTROL), statement({"AWS": KEEPER}, Action=USE)], "unknown"),
        ([statement({"AWS": KEEPER}, Action=CONTROL), statement({"AWS": HOME_ROOT}, Action=USE)], "unknown"),
        ([statement("*")], "high"),
    ],
)
def test_nobody_both_uses_a_key_and_decides_over_it(
    statements: list[Mapping[str, Any]], severity: Severity
) -> None:
    assert finding("administrators_can_use", under(*statements)).severity == severity


@pytest.mark.parametrize(("days", "severity"), [(None, "medium"), ("7", "low"), ("29", "low"), ("30", "ok")])
def test_a_short_deletion_window(days: str | None, severity: Severity) -> None:
    denied = {"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": days}}
    statements = [statement({"AWS": KEEPER})]
    if days is not None:
        statements.append(statement("*", "Deny", Action="kms:ScheduleKeyDeletion", Condition=denied))

    assert finding("deletion_window", under(*statements)).severity == severity


def test_a_key_for_other_services_too_is_shared_with_production() -> None:
    via = {"StringEquals": {"kms:ViaService": ["s3.us-east-1.amazonaws.com", "rds.us-east-1.amazonaws.com"]}}

    assert (
        finding("shared_with_services", under(statement({"AWS": KEEPER}, Condition=via))).severity == "medium"
    )
    service = under(statement({"Service": "ec2.amazonaws.com"}))
    assert finding("shared_with_services", service).severity == "medium"
    assert finding("tagged_production", replace(GOOD, tags=Known({"env": "prod-eu"}))).severity == "medium"
    assert finding("tagged_production", replace(GOOD, tags=Known({"env": "reproduce"}))).severity == "ok"


@pytest.mark.parametrize(
    ("grantee", "constrained", "severity"),
    [
        (KEEPER, False, "ok"),
        (USER, True, "medium"),
        (USER, False, "high"),
        (FOREIGN, True, "high"),
        ("ec2.us-east-1.amazonaws.com", True, "medium"),
        ("", True, "high"),
    ],
)
def test_grants_that_nobody_expects(grantee: str, constrained: bool, severity: Severity) -> None:
    grants = Grants((Grant("g1", grantee, ("Decrypt",), constrained),), complete=True)

    assert finding("grants", replace(GOOD, grants=Known(grants))).severity == severity


@pytest.mark.parametrize(
    ("facts", "expected", "severity"),
    [
        (replace(GOOD, aliases=Known(())), EXPECTED, "low"),
        (replace(GOOD, alias_target=Known(KEY + "2")), Expected(alias=ALIAS), "high"),
        (GOOD, Expected(alias=ALIAS), "ok"),
        (replace(GOOD, alias_target=Unknown("denied", "no")), Expected(alias=ALIAS), "unknown"),
    ],
)
def test_an_alias_that_points_elsewhere(facts: KeyFacts, expected: Expected, severity: Severity) -> None:
    assert finding("alias", facts, expected).severity == severity


@pytest.mark.parametrize(
    "text", ["", "acme", KEY + "\n", KEY.replace("kms", "s3"), f"arn:aws:kms:x:{HOME}:key/"]
)
def test_a_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="REF"):
        KeyReference.parse(text, "REF")
