"""What `key posture` sees of a key: on the emulator, and where KMS and STS refuse, as a double does by their book."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from typer.testing import CliRunner, Result

from rekeyd.cli import commands
from rekeyd.custody import posture_answers
from rekeyd.custody.aws_posture import PostureAccess, Role, gather_facts
from rekeyd.domain.posture import (
    Expected,
    Finding,
    KeyFacts,
    KeyReference,
    Known,
    Rotation,
    Unknown,
    judge,
)
from rekeyd.sandbox import Sandbox
from tests.doubles.posture_aws import ACCOUNT, ALIAS, FACT_OF, KEY, REGION, VENDOR, ScriptedAws, served

if TYPE_CHECKING:
    from types_aiobotocore_kms.client import KMSClient


async def look(
    session: AioSession,
    endpoint_url: str,
    arn: str,
    *,
    role: Role | None = None,
    alias: str = "",
    request_seconds_max: float = 10,
) -> KeyFacts:
    access = PostureAccess(endpoint_url, endpoint_url, request_seconds_max, connect_seconds_max=1)
    reference = KeyReference.parse(arn, "REF")
    return await gather_facts(session, access, reference, role=role, alias=alias, looked_at=1_700_000_000)


def found(facts: KeyFacts, name: str, **expected: Any) -> Finding:  # noqa: ANN401 - Expected's own
    (finding,) = [each for each in judge(facts, Expected(**expected)) if each.name == name]
    return finding


# --- on the emulator -----------------------------------------------------------------------------


@pytest.fixture
def session(sandbox: Sandbox) -> AioSession:
    session = get_session()
    session.set_credentials(sandbox.access_key_id, sandbox.secret_access_key)
    return session


@pytest.fixture
async def kms(sandbox: Sandbox, session: AioSession) -> AsyncIterator[KMSClient]:
    async with session.create_client(
        "kms",
        region_name=REGION,
        endpoint_url=sandbox.kms_endpoint,
        config=AioConfig(retries={"total_max_attempts": 1}),
    ) as client:
        yield client


async def made(kms: KMSClient, **about: Any) -> str:  # noqa: ANN401 - what CreateKey takes
    return str((await kms.create_key(**about))["KeyMetadata"]["Arn"])


async def test_a_key_as_kms_makes_it_by_itself(sandbox: Sandbox, session: AioSession, kms: KMSClient) -> None:
    arn = await made(kms, Tags=[{"TagKey": "environment", "TagValue": "production"}])

    facts = await look(session, sandbox.kms_endpoint, arn)

    assert found(facts, "state").severity == "ok"
    assert found(facts, "manager").severity == "ok"
    assert found(facts, "usage").severity == "ok"
    assert found(facts, "pending_deletion").severity == "ok"
    assert found(facts, "grants").severity == "ok"
    assert found(facts, "single_region").severity == "low"
    assert found(facts, "rotation").severity == "medium"
    assert found(facts, "tagged_production").severity == "medium"
    account = arn.split(":")[4]
    deleters = found(facts, "who_can_delete")
    assert (deleters.severity, f"account {account}" in deleters.evidence) == ("medium", True)
    assert found(facts, "service_condition").severity == "unknown"


async def test_what_is_done_to_a_key_is_seen(sandbox: Sandbox, session: AioSession, kms: KMSClient) -> None:
    arn = await made(kms)
    await kms.enable_key_rotation(KeyId=arn)
    await kms.disable_key(KeyId=arn)
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    await kms.put_key_policy(
        KeyId=arn, PolicyName="default", Policy=json.dumps({"Version": "2012-10-17", "Statement": everybody})
    )

    facts = await look(session, sandbox.kms_endpoint, arn)

    assert found(facts, "state").severity == "high"
    assert found(facts, "rotation").severity == "ok"
    assert found(facts, "wildcard_principals").severity == "critical"
    assert found(facts, "who_can_delete").severity == "critical"


async def test_a_scheduled_deletion_is_critical(
    sandbox: Sandbox, session: AioSession, kms: KMSClient
) -> None:
    arn = await made(kms)
    at = (await kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7))["DeletionDate"]

    finding = found(await look(session, sandbox.kms_endpoint, arn), "pending_deletion")

    assert finding.severity == "critical"
    assert f"{at:%Y-%m-%d}" in finding.evidence


async def test_grants_are_seen_page_by_page(
    sandbox: Sandbox, session: AioSession, kms: KMSClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = await made(kms)
    for number in range(5):
        grantee = f"arn:aws:iam::{VENDOR}:role/grantee-{number}"
        await kms.create_grant(KeyId=arn, GranteePrincipal=grantee, Operations=["Decrypt"])
    monkeypatch.setattr(posture_answers, "PAGE_ENTRIES", 2)

    facts = await look(session, sandbox.kms_endpoint, arn)

    assert isinstance(facts.grants, Known)
    assert facts.grants.value.complete
    assert len(facts.grants.value.listed) == 5
    assert found(facts, "grants").severity == "high"

    monkeypatch.setattr(posture_answers, "PAGES_MAX", 2)
    facts = await look(session, sandbox.kms_endpoint, arn)

    assert isinstance(facts.grants, Known)
    assert (facts.grants.value.complete, len(facts.grants.value.listed)) == (False, 4)


async def test_more_grants_than_are_read_leave_it_unknown_whether_they_are_expected(
    sandbox: Sandbox, session: AioSession, kms: KMSClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = await made(kms)
    grantee = f"arn:aws:iam::{VENDOR}:role/expected"
    for name in ("one", "two", "three"):
        await kms.create_grant(KeyId=arn, GranteePrincipal=grantee, Operations=["Decrypt"], Name=name)
    monkeypatch.setattr(posture_answers, "PAGE_ENTRIES", 1)
    monkeypatch.setattr(posture_answers, "PAGES_MAX", 2)

    facts = await look(session, sandbox.kms_endpoint, arn)

    assert found(facts, "grants", principals=frozenset({grantee})).severity == "unknown"


async def test_aliases_are_listed_and_an_alias_that_points_elsewhere_is_seen(
    sandbox: Sandbox, session: AioSession, kms: KMSClient
) -> None:
    arn, other = await made(kms), await made(kms)
    name = f"alias/posture-{arn[-12:]}"
    assert found(await look(session, sandbox.kms_endpoint, arn), "alias").severity == "low"

    await kms.create_alias(AliasName=name, TargetKeyId=arn)
    alias = f"{arn.partition(':key/')[0]}:{name}"
    facts = await look(session, sandbox.kms_endpoint, arn)
    assert (found(facts, "alias").severity, alias in found(facts, "alias").evidence) == ("ok", True)
    facts = await look(session, sandbox.kms_endpoint, other, alias=alias)
    assert found(facts, "alias", alias=alias).severity == "high"


async def test_a_key_named_by_its_alias_is_looked_at(
    sandbox: Sandbox, session: AioSession, kms: KMSClient
) -> None:
    arn = await made(kms)
    name = f"alias/named-{arn[-12:]}"
    await kms.create_alias(AliasName=name, TargetKeyId=arn)

    facts = await look(session, sandbox.kms_endpoint, f"{arn.partition(':key/')[0]}:{name}")

    assert facts.key_arn == arn
    assert isinstance(facts.policy, Known)
    assert found(facts, "alias").severity == "ok"


async def test_imported_material_is_looked_at(sandbox: Sandbox, session: AioSession, kms: KMSClient) -> None:
    arn = await made(kms, Origin="EXTERNAL")

    facts = await look(session, sandbox.kms_endpoint, arn)

    assert found(facts, "state").severity == "high"
    assert found(facts, "expiring_material").severity == "unknown"
    assert isinstance(facts.description, Known)
    assert facts.description.value.origin == "EXTERNAL"


async def test_a_multi_region_key_without_replicas_is_in_one_region(
    sandbox: Sandbox, session: AioSession, kms: KMSClient
) -> None:
    arn = await made(kms, MultiRegion=True)
    assert found(await look(session, sandbox.kms_endpoint, arn), "single_region").severity == "low"

    await kms.replicate_key(KeyId=arn, ReplicaRegion="eu-west-1")
    finding = found(await look(session, sandbox.kms_endpoint, arn), "single_region")
    assert (finding.severity, "eu-west-1" in finding.evidence) == ("ok", True)


def in_the_sandbox(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """Run the command as its user: with credentials and addresses in the environment, and nothing else."""
    environment = sandbox.environment()
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(commands.app, ["key", "posture", *arguments])


def test_the_command_looks_without_a_ledger_or_settings(
    sandbox: Sandbox, session: AioSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make() -> str:
        async with session.create_client("kms", region_name=REGION, endpoint_url=sandbox.kms_endpoint) as kms:
            return await made(kms)

    arn = asyncio.run(make())

    looked = in_the_sandbox(sandbox, monkeypatch, arn, "--json")

    assert looked.exit_code == 0, looked.stderr
    said = json.loads(looked.stdout)
    assert (said["key"], said["region"], said["worst"]) == (arn, REGION, said["findings"][0]["severity"])
    severities = {each["name"]: each["severity"] for each in said["findings"]}
    assert severities["state"] == "ok"
    assert severities["same_account_as_data"] == "unknown"

    named = ("--data-account", arn.split(":")[4], "--fail-on", "high")
    failed = in_the_sandbox(sandbox, monkeypatch, arn, *named)

    assert failed.exit_code == 1
    assert "same_account_as_data" in failed.stdout


def test_the_command_refuses_a_key_that_does_not_exist(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-4000-8000-000000000000"

    missing = in_the_sandbox(sandbox, monkeypatch, arn, "--json")

    assert missing.exit_code == 2
    assert "there is no" in missing.stderr


# --- where KMS refuses ---------------------------------------------------------------------------


@pytest.fixture
async def aws() -> AsyncIterator[ScriptedAws]:
    async with served(ScriptedAws()) as scripted:
        yield scripted


def own_session() -> AioSession:
    session = get_session()
    session.set_credentials("AKIDOWN", "secret")
    return session


async def test_everything_is_seen_within_the_keys_account(aws: ScriptedAws) -> None:
    facts = await look(own_session(), aws.endpoint_url, KEY)

    assert all(isinstance(getattr(facts, name), Known) for name in FACT_OF.values())
    assert set(aws.asked) == {*FACT_OF, "GetCallerIdentity"}


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "KMSInternalException"])
@pytest.mark.parametrize("operation", FACT_OF)
async def test_a_refused_call_is_an_unknown_fact_and_hides_nothing_else(
    aws: ScriptedAws, operation: str, code: str
) -> None:
    aws.refusals[operation] = code

    facts = await look(own_session(), aws.endpoint_url, KEY)

    unseen = getattr(facts, FACT_OF[operation])
    assert isinstance(unseen, Unknown)
    assert operation in unseen.reason
    assert code in unseen.reason
    assert unseen.cause == ("denied" if code == "AccessDeniedException" else "unreachable")
    others = [name for asked, name in FACT_OF.items() if asked != operation]
    assert all(isinstance(getattr(facts, name), Known) for name in others)
    assert facts.was_reached


async def test_across_accounts_only_what_kms_answers_there_is_asked(aws: ScriptedAws) -> None:
    aws.caller = f"arn:aws:sts::{VENDOR}:assumed-role/rekeyd/i-1"

    facts = await look(own_session(), aws.endpoint_url, KEY)

    assert set(aws.asked) == {"GetCallerIdentity", "DescribeKey", "ListGrants"}
    for name in ("policy", "rotation", "rotations", "tags", "aliases"):
        unseen = getattr(facts, name)
        assert isinstance(unseen, Unknown)
        assert unseen.cause == "cross_account"
        assert ACCOUNT in unseen.reason
    for name in ("who_can_delete", "wildcard_principals", "rotation", "alias", "tagged_production"):
        assert found(facts, name).severity == "unknown"


async def test_a_role_of_the_keys_account_sees_what_we_can_not(aws: ScriptedAws) -> None:
    aws.caller = f"arn:aws:sts::{VENDOR}:assumed-role/rekeyd/i-1"
    role = Role(f"arn:aws:iam::{ACCOUNT}:role/auditor", "the-external-id")

    facts = await look(own_session(), aws.endpoint_url, KEY, role=role)

    assert all(isinstance(getattr(facts, name), Known) for name in FACT_OF.values())
    assert aws.external_id == "the-external-id"
    assert {aws.signed_by[operation] for operation in FACT_OF} == {"AKIDROLE"}
    assert facts.looker == Known(aws.caller)


async def test_a_role_that_may_not_be_assumed_leaves_everything_unknown(aws: ScriptedAws) -> None:
    aws.refusals["AssumeRole"] = "AccessDenied"
    role = Role(f"arn:aws:iam::{ACCOUNT}:role/auditor", "")

    facts = await look(own_session(), aws.endpoint_url, KEY, role=role)

    assert all(getattr(facts, name).cause == "role" for name in FACT_OF.values())
    assert role.arn in getattr(facts.policy, "reason", "")
    assert not facts.was_reached
    assert "DescribeKey" not in aws.asked


async def test_who_we_are_being_unknown_keeps_aliases_unknown(aws: ScriptedAws) -> None:
    aws.refusals["GetCallerIdentity"] = "AccessDenied"

    facts = await look(own_session(), aws.endpoint_url, KEY)

    assert isinstance(facts.aliases, Unknown)
    assert isinstance(facts.policy, Known)


async def test_an_alias_that_may_not_be_described_leaves_everything_unknown(aws: ScriptedAws) -> None:
    aws.refusals["DescribeKey"] = "AccessDeniedException"

    facts = await look(own_session(), aws.endpoint_url, ALIAS)

    assert all(isinstance(getattr(facts, name), Unknown) for name in FACT_OF.values())
    assert facts.was_reached


async def test_a_key_that_can_not_be_rotated_by_itself_is_not(aws: ScriptedAws) -> None:
    # "UnsupportedOperationException" for keys in custom key stores ("GetKeyRotationStatus", AWS KMS API Reference).
    aws.refusals["GetKeyRotationStatus"] = "UnsupportedOperationException"

    facts = await look(own_session(), aws.endpoint_url, KEY)

    assert facts.rotation == Known(Rotation(automatic=False))
    assert found(facts, "rotation").severity == "medium"


@pytest.mark.parametrize("operation", FACT_OF)
@pytest.mark.parametrize("answer", [{}, {"Unasked": True}, []], ids=["empty", "other", "a list"])
async def test_an_answer_without_sense_is_an_unknown_fact(
    aws: ScriptedAws, operation: str, answer: object
) -> None:
    aws.said[operation] = answer

    facts = await look(own_session(), aws.endpoint_url, KEY)

    assert isinstance(getattr(facts, FACT_OF[operation]), Unknown)


async def test_a_rotation_by_hand_is_seen(aws: ScriptedAws) -> None:
    aws.said["GetKeyRotationStatus"] = {"KeyRotationEnabled": False}
    rotated = {"KeyId": "acme", "RotationDate": 1_699_000_000, "RotationType": "ON_DEMAND"}
    aws.said["ListKeyRotations"] = {"Rotations": [rotated], "Truncated": False}

    finding = found(await look(own_session(), aws.endpoint_url, KEY), "rotation")

    assert (finding.severity, "2023-11-03" in finding.evidence) == ("low", True)


async def test_nobody_there_leaves_everything_unknown_and_is_known_as_that() -> None:
    facts = await look(own_session(), "http://127.0.0.1:9", KEY, request_seconds_max=2)

    assert not facts.was_reached
    assert all(finding.severity != "ok" for finding in judge(facts, Expected()))


async def test_without_credentials_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")

    facts = await look(get_session(), "http://127.0.0.1:9", KEY, request_seconds_max=2)

    assert not facts.was_reached
