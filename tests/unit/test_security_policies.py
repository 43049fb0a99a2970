"""docs/security.md: its policies parse, allow what must work, deny what must not, and name all that rekeyd asks for."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from rekeyd.domain.custody import KeyHome
from rekeyd.domain.key_policy import KeyParties, key_policy
from rekeyd.domain.posture import Expected, Grants, Known, judge
from tests.doubles.iam_parties import Call, Caller, may
from tests.unit.test_posture import GOOD

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
BLOCKS: dict[str, dict[str, Any]] = {
    name: json.loads(text) for name, text in re.findall(r"```json (\S+)\n(.*?)```", PAGE, re.DOTALL)
}
TENANT, VENDOR = "111122223333", "444455556666"
SDK = botocore.session.get_session()
ANYTHING = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}

USE = Caller(f"arn:aws:iam::{VENDOR}:role/rekeyd-use", (BLOCKS["use-role"], BLOCKS["own-keys"]))
PROVISION = Caller(f"arn:aws:iam::{VENDOR}:role/rekeyd-provision", (BLOCKS["provision-role"],))
REVOKE = Caller(f"arn:aws:iam::{VENDOR}:role/rekeyd-revoke", (BLOCKS["revoke-role"],))
BREAK_GLASS = Caller(f"arn:aws:iam::{VENDOR}:role/rekeyd-break-glass", (BLOCKS["break-glass-role"],))
BACKUP = Caller(f"arn:aws:iam::{VENDOR}:role/backup-service", (ANYTHING,))
ROGUE = Caller(f"arn:aws:iam::{VENDOR}:role/administrator", (ANYTHING,))
OTHER_TENANT = Caller("arn:aws:iam::777788889999:role/eve", (ANYTHING,))
OWNER = Caller(f"arn:aws:iam::{TENANT}:role/backup-key-owner")
SWITCH = Caller(f"arn:aws:iam::{TENANT}:role/backup-key-switch")
AUDITOR = Caller(f"arn:aws:iam::{TENANT}:role/rekeyd-posture", (BLOCKS["posture-role"],))
PRODUCTION = Caller(f"arn:aws:iam::{TENANT}:role/production-admin", (ANYTHING,))
ROOT_USER = Caller(f"arn:aws:iam::{TENANT}:root")

OBJECT, SHARED = "arn:aws:s3:::byok-acme/a/key", "arn:aws:s3:::shared/tenants/acme/a"
BUCKET = "arn:aws:s3:::byok-acme"
CONTEXT = "kms:EncryptionContext:aws:s3:arn"
THROUGH_S3 = {"kms:ViaService": "s3.us-east-1.amazonaws.com", CONTEXT: OBJECT}
REENCRYPTING = ("Encrypt", "ReEncryptFrom", "ReEncryptTo")
WINDOW = "kms:ScheduleKeyDeletionPendingWindowInDays"
MFA = {"aws:MultiFactorAuthPresent": "true"}
OAEP = {"kms:WrappingAlgorithm": "RSAES_OAEP_SHA_256", "kms:WrappingKeySpec": "RSA_4096"}
FOREVER = {"kms:ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}


def on_key(action: str, account: str, **context: str) -> Call:
    key = f"arn:aws:kms:us-east-1:{account}:key/acme"
    return Call(f"kms:{action}", key, account, {"kms:KeyOrigin": "EXTERNAL", **context})


def on_s3(action: str, resource: str) -> Call:
    return Call(f"s3:{action}", resource, VENDOR)


# --- the tenant's own key ---


@pytest.mark.parametrize(
    ("caller", "action", "context"),
    [
        (USE, "Decrypt", THROUGH_S3),
        (USE, "GenerateDataKey", THROUGH_S3),
        (BACKUP, "Decrypt", THROUGH_S3),
        (USE, "DescribeKey", {}),
        (OWNER, "PutKeyPolicy", {}),
        (OWNER, "EnableKeyRotation", {}),
        (OWNER, "ScheduleKeyDeletion", {WINDOW: "30"}),
        (OWNER, "UpdateAlias", {}),
        (SWITCH, "DisableKey", {}),
        (SWITCH, "EnableKey", {}),
        (AUDITOR, "GetKeyPolicy", {}),
        (AUDITOR, "ListGrants", {}),
        (AUDITOR, "ListKeyRotations", {}),
        (AUDITOR, "ListResourceTags", {}),
        (AUDITOR, "GetKeyRotationStatus", {}),
        (AUDITOR, "DescribeKey", {}),
        (ROOT_USER, "PutKeyPolicy", {}),
    ],
)
def test_the_tenants_key_policy_allows_what_must_work(
    caller: Caller, action: str, context: dict[str, str]
) -> None:
    assert may(caller, on_key(action, TENANT, **context), BLOCKS["tenant-key-policy"], "key")


@pytest.mark.parametrize(
    ("caller", "action", "context"),
    [
        # Not through S3, through another service, another region's S3, for another bucket, with Bucket Keys on.
        (USE, "Decrypt", {}),
        (USE, "Decrypt", {CONTEXT: OBJECT}),
        (USE, "Decrypt", {**THROUGH_S3, "kms:ViaService": "ec2.us-east-1.amazonaws.com"}),
        (USE, "Decrypt", {**THROUGH_S3, "kms:ViaService": "s3.eu-west-1.amazonaws.com"}),
        (BACKUP, "Decrypt", {**THROUGH_S3, CONTEXT: "arn:aws:s3:::byok-other/a"}),
        (BACKUP, "Decrypt", {**THROUGH_S3, CONTEXT: BUCKET}),
        (BACKUP, "Decrypt", {"kms:ViaService": THROUGH_S3["kms:ViaService"]}),
        # The vendor neither decides over it nor hands it on.
        *(
            (caller, action, {})
            for caller in (USE, REVOKE, BREAK_GLASS, ROGUE)
            for action in ("DisableKey", "PutKeyPolicy")
        ),
        (USE, "CreateGrant", THROUGH_S3),
        (BACKUP, "CreateGrant", {}),
        (ROGUE, "Decrypt", THROUGH_S3),
        (ROGUE, "DescribeKey", {}),
        (OTHER_TENANT, "Decrypt", THROUGH_S3),
        # Nor does whoever runs the tenant's production, by any IAM policy.
        *(
            (PRODUCTION, action, {})
            for action in ("PutKeyPolicy", "DisableKey", "ScheduleKeyDeletion", "CreateGrant")
        ),
        (PRODUCTION, "Decrypt", THROUGH_S3),
        # Each role does its own, and nothing in haste.
        (OWNER, "Decrypt", THROUGH_S3),
        (OWNER, "DisableKey", {}),
        (OWNER, "ScheduleKeyDeletion", {WINDOW: "7"}),
        (OWNER, "ReplicateKey", {}),
        (OWNER, "CreateGrant", {}),
        (SWITCH, "ScheduleKeyDeletion", {WINDOW: "30"}),
        (SWITCH, "PutKeyPolicy", {}),
        # Who points the alias decides where the data go.
        *((caller, "UpdateAlias", {}) for caller in (SWITCH, PRODUCTION, USE, ROGUE, AUDITOR)),
        (AUDITOR, "Decrypt", THROUGH_S3),
        (AUDITOR, "PutKeyPolicy", {}),
        (ROOT_USER, "Decrypt", THROUGH_S3),
    ],
)
def test_the_tenants_key_policy_denies_the_abuses(
    caller: Caller, action: str, context: dict[str, str]
) -> None:
    assert not may(caller, on_key(action, TENANT, **context), BLOCKS["tenant-key-policy"], "key")


def test_posture_finds_the_tenants_key_policy_in_good_order() -> None:
    facts = replace(
        GOOD, policy=Known(json.dumps(BLOCKS["tenant-key-policy"])), grants=Known(Grants((), complete=True))
    )
    expected = Expected(frozenset({OWNER.arn, SWITCH.arn, TENANT}))

    assert [each for each in judge(facts, expected) if each.severity != "ok"] == []


# --- an imported key ---


@pytest.mark.parametrize(
    ("caller", "action", "context"),
    [
        (USE, "Decrypt", THROUGH_S3),
        (USE, "GenerateDataKey", THROUGH_S3),
        *((USE, action, THROUGH_S3) for action in REENCRYPTING),
        (BACKUP, "Decrypt", THROUGH_S3),
        (USE, "DescribeKey", {}),
        *((BACKUP, action, THROUGH_S3) for action in REENCRYPTING),
        *((caller, "DescribeKey", {}) for caller in (PROVISION, REVOKE, BREAK_GLASS)),
        (PROVISION, "ListResourceTags", {}),
        (PROVISION, "GetParametersForImport", OAEP),
        (PROVISION, "ImportKeyMaterial", FOREVER),
        (PROVISION, "CreateAlias", {}),
        (REVOKE, "DisableKey", {}),
        (REVOKE, "EnableKey", {}),
        (REVOKE, "DeleteImportedKeyMaterial", {}),
        (BREAK_GLASS, "PutKeyPolicy", {}),
        (BREAK_GLASS, "ScheduleKeyDeletion", {WINDOW: "30"}),
    ],
)
def test_an_imported_keys_policy_allows_each_role_its_own(
    caller: Caller, action: str, context: dict[str, str]
) -> None:
    call = on_key(action, VENDOR, **context)

    assert may(caller, call, BLOCKS["imported-key-policy"], "key")
    assert caller is BACKUP or allowed_by_its_own(caller, call)


@pytest.mark.parametrize(
    ("caller", "action", "context"),
    [
        (USE, "Decrypt", {}),
        (USE, "Decrypt", {**THROUGH_S3, CONTEXT: "arn:aws:s3:::shared/tenants/acme/a"}),
        *((USE, action, {}) for action in REENCRYPTING),
        *((USE, action, {**THROUGH_S3, CONTEXT: "arn:aws:s3:::byok-other/a"}) for action in REENCRYPTING),
        *((REVOKE, action, THROUGH_S3) for action in REENCRYPTING),
        *((USE, action, {}) for action in ("DisableKey", "PutKeyPolicy", "CreateGrant", "ImportKeyMaterial")),
        *((REVOKE, action, {}) for action in ("PutKeyPolicy", "ImportKeyMaterial", "CreateGrant")),
        (REVOKE, "Decrypt", THROUGH_S3),
        (REVOKE, "ScheduleKeyDeletion", {WINDOW: "30"}),
        (PROVISION, "Decrypt", THROUGH_S3),
        (PROVISION, "ImportKeyMaterial", {"kms:ExpirationModel": "KEY_MATERIAL_EXPIRES"}),
        (PROVISION, "ImportKeyMaterial", {}),
        *((PROVISION, action, {}) for action in ("DisableKey", "DeleteImportedKeyMaterial", "PutKeyPolicy")),
        (BREAK_GLASS, "Decrypt", THROUGH_S3),
        (BREAK_GLASS, "ScheduleKeyDeletion", {WINDOW: "7"}),
        (BREAK_GLASS, "CreateGrant", {}),
        *((ROGUE, action, {}) for action in ("PutKeyPolicy", "DisableKey", "CreateGrant", "ReplicateKey")),
        (ROGUE, "Decrypt", THROUGH_S3),
        (OTHER_TENANT, "Decrypt", THROUGH_S3),
    ],
)
def test_an_imported_keys_policy_denies_the_abuses(
    caller: Caller, action: str, context: dict[str, str]
) -> None:
    assert not may(caller, on_key(action, VENDOR, **context), BLOCKS["imported-key-policy"], "key")


def test_the_policy_on_the_page_is_the_one_that_keys_are_made_with() -> None:
    parties = KeyParties(
        VENDOR,
        provision=PROVISION.arn,
        revoke=REVOKE.arn,
        break_glass=BREAK_GLASS.arn,
        use=(USE.arn, BACKUP.arn),
    )
    assert BLOCKS["imported-key-policy"] == key_policy(parties, KeyHome("us-east-1", "byok-acme"))


# --- the roles by themselves ---


def allowed_by_its_own(caller: Caller, call: Call) -> bool:
    """Whether a role's own policies allow it, where the resource leaves it to the account."""
    left_to_the_account = {
        "Statement": {"Effect": "Allow", "Principal": {"AWS": VENDOR}, "Action": "*", "Resource": "*"}
    }
    return may(caller, call, left_to_the_account, "key")


@pytest.mark.parametrize(
    ("caller", "call"),
    [
        *(
            (role, on_key(action, VENDOR))
            for role in (USE, PROVISION)
            for action in ("DisableKey", "PutKeyPolicy")
        ),
        *((role, on_key("Decrypt", VENDOR, **THROUGH_S3)) for role in (PROVISION, REVOKE, BREAK_GLASS)),
        (USE, on_key("Decrypt", VENDOR)),
        # In place S3 takes keys of the bucket's account alone: nothing of that is asked of a tenant's.
        *((USE, on_key(action, TENANT, **THROUGH_S3)) for action in REENCRYPTING),
        *((USE, on_key(action, VENDOR)) for action in REENCRYPTING),
        *((role, on_s3("UpdateObjectEncryption", OBJECT)) for role in (PROVISION, REVOKE, BREAK_GLASS)),
        (USE, on_s3("UpdateObjectEncryption", SHARED)),
        (USE, on_key("Decrypt", VENDOR, **{**THROUGH_S3, CONTEXT: "arn:aws:s3:::payroll/a"})),
        (PROVISION, Call("kms:CreateKey", "*", VENDOR, {"kms:KeyOrigin": "AWS_KMS"})),
        (PROVISION, Call("kms:CreateAlias", f"arn:aws:kms:us-east-1:{VENDOR}:alias/payroll", VENDOR)),
        (REVOKE, on_key("DisableKey", VENDOR, **{"kms:KeyOrigin": "AWS_KMS"})),
        (BREAK_GLASS, on_key("ScheduleKeyDeletion", VENDOR, **{WINDOW: "7"})),
        (USE, on_s3("PutBucketPolicy", "arn:aws:s3:::shared")),
        (USE, on_s3("PutEncryptionConfiguration", "arn:aws:s3:::shared")),
        (USE, on_s3("DeleteBucket", BUCKET)),
        (USE, on_s3("PutObject", SHARED)),
        (USE, on_s3("DeleteObject", "arn:aws:s3:::shared/other")),
        (USE, on_s3("GetObject", "arn:aws:s3:::payroll/a")),
        (USE, on_s3("BypassGovernanceRetention", OBJECT)),
        (PROVISION, on_s3("PutBucketPolicy", BUCKET)),
        (PROVISION, on_s3("GetObject", OBJECT)),
        (REVOKE, on_s3("GetObject", OBJECT)),
        (REVOKE, on_s3("PutBucketPolicy", BUCKET)),
    ],
)
def test_a_role_may_do_its_own_and_nothing_else(caller: Caller, call: Call) -> None:
    assert not allowed_by_its_own(caller, call)


@pytest.mark.parametrize(
    ("caller", "action", "key", "context", "allowed"),
    [
        (PROVISION, "Decrypt", "wrapping", {"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, True),
        (PROVISION, "Decrypt", "wrapping", {"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}, False),
        (PROVISION, "Decrypt", "signing", {"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, False),
        (USE, "Decrypt", "wrapping", {"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, False),
        (USE, "Sign", "signing", {}, True),
        (USE, "Sign", "wrapping", {}, False),
        (USE, "Sign", "acme", {}, False),
        (PROVISION, "Sign", "signing", {}, False),
        (USE, "GetPublicKey", "wrapping", {}, True),
        (USE, "GetPublicKey", "signing", {}, True),
    ],
)
def test_rekeyds_own_keys_do_one_thing_each(
    caller: Caller, action: str, key: str, context: dict[str, str], allowed: bool
) -> None:
    call = Call(f"kms:{action}", f"arn:aws:kms:us-east-1:{VENDOR}:key/{key}", VENDOR, context)

    assert allowed_by_its_own(caller, call) is allowed


def assumes(caller: Caller, role: str, trust: str = "", **context: str) -> bool:
    """Whether a caller may assume a role: by its trust, or where none is given, by the caller's own policy alone."""
    account = role.split(":")[4]
    left = {"Statement": {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "*", "Resource": "*"}}
    policy = (
        {"Statement": [{**each, "Resource": role} for each in BLOCKS[trust]["Statement"]]} if trust else left
    )
    return may(caller, Call("sts:AssumeRole", role, account, context), policy, "key")


def test_the_daemon_becomes_provision_and_revoke_and_never_breaks_the_glass() -> None:
    assert assumes(USE, PROVISION.arn)
    assert assumes(USE, REVOKE.arn)
    assert not assumes(USE, BREAK_GLASS.arn)
    assert not assumes(PROVISION, REVOKE.arn)

    ann = Caller(f"arn:aws:iam::{VENDOR}:user/ann")
    assert assumes(ann, BREAK_GLASS.arn, "break-glass-trust", **MFA)
    assert not assumes(ann, BREAK_GLASS.arn, "break-glass-trust")
    for caller in (ROGUE, USE, REVOKE):
        assert not assumes(caller, BREAK_GLASS.arn, "break-glass-trust", **MFA)


def test_the_vendor_looks_with_the_external_id_alone() -> None:
    operator = Caller(f"arn:aws:iam::{VENDOR}:role/rekeyd-operator", (ANYTHING,))
    external = {"sts:ExternalId": "a-secret-of-both"}

    assert assumes(operator, AUDITOR.arn, "posture-trust", **external)
    assert not assumes(operator, AUDITOR.arn, "posture-trust")
    assert not assumes(operator, AUDITOR.arn, "posture-trust", **{"sts:ExternalId": "guessed"})
    assert not assumes(ROGUE, AUDITOR.arn, "posture-trust", **external)


# --- the page is whole ---

SECTIONS = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
REQUESTS: dict[str, list[str]] = {
    operation: re.findall(r"`(s3:\w+)`", actions)
    for operations, actions in re.findall(r"^\| (\w[\w, ]*) \| (`s3:.*) \|$", PAGE, re.MULTILINE)
    for operation in operations.split(", ")
}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_line_of_a_policy_has_its_reason(name: str) -> None:
    (section,) = [each for each in SECTIONS if f"```json {name}\n" in each]

    for statement in BLOCKS[name]["Statement"]:
        reasons = re.findall(rf"^\| `{statement['Sid']}` \| (.+) \|$", section, re.MULTILINE)
        assert len(reasons) == 1, statement["Sid"]


def test_no_reason_is_without_its_line() -> None:
    for section in SECTIONS:
        blocks = re.findall(r"```json (\S+)\n", section)
        sids = {each["Sid"] for name in blocks for each in BLOCKS[name]["Statement"]}
        if blocks:
            tables = re.findall(r"^\| line \| reason \|\n\|---\|---\|\n((?:\|.*\n)+)", section, re.MULTILINE)
            assert set(re.findall(r"^\| `(\w+)`", "".join(tables), re.MULTILINE)) == sids


def asked_by_rekeyd() -> set[str]:
    """Every S3 operation that the adapter names, as AWS's own model spells it."""
    known = set(SDK.get_service_model("s3").operation_names)
    return {
        node.value
        for path in (ROOT / "daemon/rekeyd/stores/s3").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known
    }


def test_every_request_that_rekeyd_makes_stands_on_the_page_with_what_it_needs() -> None:
    asked = asked_by_rekeyd()

    assert {"PutObject", "ListObjectVersions", "GetBucketPolicy"} < asked
    assert asked == REQUESTS.keys()


ABOUT_BUCKETS = re.compile(
    r"^s3:(?:List|Create|.*Bucket|GetEncryption|PutEncryption|GetLifecycle|PutLifecycle)"
)


@pytest.mark.parametrize("operation", REQUESTS)
def test_what_a_request_needs_is_given_on_the_dedicated_bucket(operation: str) -> None:
    for action in REQUESTS[operation]:
        resource = BUCKET if ABOUT_BUCKETS.match(action) else OBJECT
        assert allowed_by_its_own(USE, Call(action, resource, VENDOR)), action


@pytest.mark.parametrize(
    "operation",
    [
        *("HeadBucket", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads", "GetBucketVersioning"),
        *("GetBucketEncryption", "GetBucketTagging", "GetPublicAccessBlock", "GetObjectLockConfiguration"),
        *("GetObject", "HeadObject", "GetObjectTagging", "DeleteObject", "DeleteObjects"),
    ],
)
def test_what_a_request_needs_is_given_on_the_source(operation: str) -> None:
    for action in REQUESTS[operation]:
        resource = "arn:aws:s3:::shared" if ABOUT_BUCKETS.match(action) else SHARED
        assert allowed_by_its_own(USE, Call(action, resource, VENDOR)), action


def test_nothing_is_given_that_no_request_needs() -> None:
    needed = {action for actions in REQUESTS.values() for action in actions}
    given = {
        action
        for name in ("use-role", "provision-role", "revoke-role")
        for statement in BLOCKS[name]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if action.startswith("s3:")
    }

    assert given == needed


def test_no_policy_on_the_page_allows_by_a_wildcard_action_or_everybody() -> None:
    for name, policy in BLOCKS.items():
        for statement in policy["Statement"]:
            if statement["Effect"] == "Allow":
                assert "*" not in json.dumps(statement["Action"]), name
                assert "*" not in json.dumps(statement.get("Principal", "")), name


def asked_of_kms() -> set[str]:
    """Every KMS operation that custody calls on a client."""
    spelled = {xform_name(each): each for each in SDK.get_service_model("kms").operation_names}
    return {
        spelled[node.attr]
        for path in (ROOT / "daemon/rekeyd/custody").rglob("*.py")
        if path.name != "wrapping.py"  # it encrypts and decrypts by itself, and has no client
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in spelled
    }


ASKED_IN_ROLES: dict[str, tuple[Caller, tuple[Call, ...]]] = {
    "provision": (
        PROVISION,
        (
            Call("kms:CreateKey", "*", VENDOR, {"kms:KeyOrigin": "EXTERNAL"}),
            Call("kms:TagResource", "*", VENDOR, {"kms:KeyOrigin": "EXTERNAL"}),
            Call("kms:ListAliases", "*", VENDOR),
            Call("kms:ListKeys", "*", VENDOR),
            Call(
                "kms:Decrypt",
                f"arn:aws:kms:us-east-1:{VENDOR}:key/wrapping",
                VENDOR,
                {"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_256"},
            ),
            Call("kms:CreateAlias", f"arn:aws:kms:us-east-1:{VENDOR}:alias/rekeyd/acme", VENDOR),
            Call("kms:UpdateAlias", f"arn:aws:kms:us-east-1:{VENDOR}:alias/rekeyd/acme", VENDOR),
            on_key("CreateAlias", VENDOR),
            on_key("UpdateAlias", VENDOR),
            on_key("DescribeKey", VENDOR),
            on_key("ListResourceTags", VENDOR),
            on_key("GetParametersForImport", VENDOR, **OAEP),
            on_key("ImportKeyMaterial", VENDOR, **FOREVER),
        ),
    ),
    "revoke": (
        REVOKE,
        tuple(
            on_key(action, VENDOR)
            for action in ("DisableKey", "EnableKey", "DeleteImportedKeyMaterial", "DescribeKey")
        ),
    ),
    "break_glass": (
        BREAK_GLASS,
        (
            on_key("ScheduleKeyDeletion", VENDOR, **{WINDOW: "30"}),
            on_key("DescribeKey", VENDOR),
        ),
    ),
}
"""What custody asks for in each role that it assumes."""


@pytest.mark.parametrize("role", ASKED_IN_ROLES)
def test_each_role_has_what_is_asked_for_in_it(role: str) -> None:
    caller, calls = ASKED_IN_ROLES[role]
    for call in calls:
        assert allowed_by_its_own(caller, call), call


def test_what_is_asked_for_in_roles_and_as_ourselves_is_all_that_custody_asks_for() -> None:
    in_roles = {call.action for _, calls in ASKED_IN_ROLES.values() for call in calls}
    ourselves = {"kms:GetPublicKey", "kms:Sign", "kms:DescribeKey"}
    posture = {
        f"kms:{action}"
        for action in ("GetKeyPolicy", "ListGrants", "ListKeyRotations", "GetKeyRotationStatus")
    }
    assert {f"kms:{each}" for each in asked_of_kms()} - in_roles - ourselves - posture == set()


def test_every_call_of_the_key_service_is_allowed_to_somebody_on_the_page() -> None:
    allowed = {
        action
        for policy in BLOCKS.values()
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    asked = asked_of_kms()

    assert {"DescribeKey", "GetKeyPolicy"} < asked
    assert {f"kms:{operation}" for operation in asked} - allowed == set()
