"""What AWS KMS and STS tell of a key's protection, through aiobotocore. It only asks.

Every call's failure becomes an unknown fact with its reason: who can't look must not be told that all is well. Which
calls KMS answers across accounts is from the AWS KMS API Reference ("Cross-account use" of each operation): DescribeKey
and ListGrants; GetKeyPolicy, GetKeyRotationStatus, ListKeyRotations and ListResourceTags within the key's account
alone; ListAliases lists those of the caller's own account, so that elsewhere its answer would be a false "none".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from rekeyd.custody import posture_answers as answers
from rekeyd.domain.posture import (
    Fact,
    KeyAttributes,
    KeyFacts,
    KeyReference,
    Known,
    Rotation,
    Unknown,
    UnknownCause,
)

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_kms.client import KMSClient
    from types_aiobotocore_sts.client import STSClient

T = TypeVar("T")

ROLE_SECONDS = 900
"""How long an assumed role lasts: the shortest that STS allows ("AssumeRole", AWS STS API Reference)."""

_CAUSES: Mapping[str, UnknownCause] = {
    "AccessDeniedException": "denied",
    "AccessDenied": "denied",
    "NotFoundException": "missing",
    "UnsupportedOperationException": "unsupported",
    "KMSInvalidStateException": "unsupported",
    "InvalidAction": "unsupported",
    "UnknownOperationException": "unsupported",
}
"""What a refusal means. All others are no answer: credentials that aren't good, throttling, a failing service."""


@dataclass(frozen=True, slots=True)
class PostureAccess:
    """How AWS is asked."""

    endpoint_url: str
    """Of KMS. Empty: AWS, in the key's own region."""
    sts_endpoint_url: str
    """Of STS. Empty: AWS, or what AWS_ENDPOINT_URL_STS says."""
    request_seconds_max: float
    """The longest that one request takes, from asking for credentials to the last byte of the answer."""
    connect_seconds_max: float


@dataclass(frozen=True, slots=True)
class Role:
    """A role that is assumed to look."""

    arn: str
    external_id: str
    """Empty: none is said."""

    @property
    def account(self) -> str:
        """The account that it is in."""
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True)
class _Credentials:
    """Of an assumed role; None: those of the session."""

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Seer:
    """Asks on behalf of somebody."""

    access: PostureAccess
    session: AioSession
    region: str

    async def ask(self, what: str, call: Callable[[], Awaitable[T]]) -> Fact[T]:
        """What a call gives; whatever is in its way makes it unknown."""
        try:
            async with asyncio.timeout(self.access.request_seconds_max):
                return Known(await call())
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            return Unknown(_CAUSES.get(code, "unreachable"), f"{what}: {error}")
        except (
            BotoCoreError,
            aiohttp.ClientError,
            OSError,
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
        ) as error:
            # TimeoutError is an OSError; the last four: an answer that isn't the service's.
            words = str(error) or type(error).__name__
            return Unknown(
                "unreachable", f"{what}: {words}", "is the service's address right, and are the credentials?"
            )

    @asynccontextmanager
    async def sts(self) -> AsyncIterator[STSClient]:
        """Give a client for STS, which every identity may ask who it is."""
        async with self.session.create_client(
            "sts",
            region_name=self.region,
            endpoint_url=self.access.sts_endpoint_url or None,
            config=self._config(),
        ) as client:
            yield client

    @asynccontextmanager
    async def kms(self, credentials: _Credentials) -> AsyncIterator[KMSClient]:
        """Give a client for KMS in the key's region, with these credentials or, where there are none, our own."""
        async with self.session.create_client(
            "kms",
            region_name=self.region,
            endpoint_url=self.access.endpoint_url or None,
            config=self._config(),
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token,
        ) as client:
            yield client

    def _config(self) -> AioConfig:
        return AioConfig(
            connect_timeout=self.access.connect_seconds_max,
            read_timeout=self.access.request_seconds_max,
            # Who asks sees what failed, and asks again.
            retries={"total_max_attempts": 1, "mode": "standard"},
        )


async def gather_facts(
    session: AioSession,
    access: PostureAccess,
    reference: KeyReference,
    *,
    role: Role | None,
    alias: str,
    looked_at: float,
) -> KeyFacts:
    """All that these credentials, or the role that they may assume, can see of a key. Nothing raises.

    `alias`: the alias that is to point at the key; empty where none was named. `looker` is whose credentials they
    are, before any role.
    """
    seer = _Seer(access, session, reference.region)
    facts = KeyFacts(reference, looked_at, looker=await _identity(seer))
    credentials = _Credentials()
    looker_account = _account(facts.looker)
    if role is not None:
        assumed = await _assume(seer, role)
        if isinstance(assumed, Unknown):
            return _unseen(facts, replace(assumed, cause="role"))
        credentials, looker_account = assumed.value, role.account
    try:
        async with seer.kms(credentials) as kms:
            return await _look(_Look(seer, kms, reference, looker_account), facts, alias)
    except (BotoCoreError, ValueError) as error:
        # No client comes of a profile that doesn't exist, or of an address that is none.
        return _unseen(facts, Unknown("unreachable", f"kms: {error}"))


async def _identity(seer: _Seer) -> Fact[str]:
    async def call() -> str:
        async with seer.sts() as sts:
            return str((await sts.get_caller_identity())["Arn"])

    return await seer.ask("sts:GetCallerIdentity", call)


async def _assume(seer: _Seer, role: Role) -> Fact[_Credentials]:
    async def call() -> _Credentials:
        external: dict[str, Any] = {"ExternalId": role.external_id} if role.external_id else {}
        async with seer.sts() as sts:
            answer = await sts.assume_role(
                RoleArn=role.arn,
                RoleSessionName="rekeyd-posture",
                DurationSeconds=ROLE_SECONDS,
                **external,
            )
        given = answer["Credentials"]
        return _Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])

    return await seer.ask(f"sts:AssumeRole of {role.arn}", call)


def _account(looker: Fact[str]) -> str:
    """The account of an ARN, empty where it isn't known."""
    return looker.value.split(":")[4] if isinstance(looker, Known) and looker.value.count(":") > 4 else ""  # noqa: PLR2004 - arn:partition:service:region:account:


def _unseen(facts: KeyFacts, why: Unknown) -> KeyFacts:
    """The facts where the key itself couldn't be looked at."""
    return replace(
        facts,
        description=why,
        policy=why,
        grants=why,
        rotation=why,
        rotations=why,
        tags=why,
        aliases=why,
        alias_target=why,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at one key."""

    seer: _Seer
    kms: KMSClient
    reference: KeyReference
    looker_account: str

    async def ask_at_home(self, what: str, call: Callable[[], Awaitable[T]]) -> Fact[T]:
        """Ask what KMS tells within the key's own account alone."""
        if self.looker_account and self.looker_account != self.reference.account:
            reason = (
                f"{what}: KMS answers it in account {self.reference.account} alone, "
                f"these credentials are of {self.looker_account}"
            )
            return Unknown("cross_account", reason)
        return await self.seer.ask(what, call)


async def _look(look: _Look, facts: KeyFacts, alias: str) -> KeyFacts:
    reference = look.reference
    description = await _description(look, reference.arn)
    if isinstance(description, Known):
        key_arn = description.value.arn
    elif reference.is_alias:
        # Without the key that it points at there is nothing to ask about.
        return _unseen(facts, description)
    else:
        key_arn = reference.arn
    kms = look.kms
    async with asyncio.TaskGroup() as asking:
        policy = asking.create_task(
            look.ask_at_home("kms:GetKeyPolicy", lambda: answers.policy(kms, key_arn))
        )
        grants = asking.create_task(look.seer.ask("kms:ListGrants", lambda: answers.grants(kms, key_arn)))
        rotation = asking.create_task(
            look.ask_at_home("kms:GetKeyRotationStatus", lambda: answers.rotation(kms, key_arn))
        )
        rotations = asking.create_task(
            look.ask_at_home("kms:ListKeyRotations", lambda: answers.rotations(kms, key_arn))
        )
        tags = asking.create_task(
            look.ask_at_home("kms:ListResourceTags", lambda: answers.tags(kms, key_arn))
        )
        aliases = asking.create_task(_aliases(look, key_arn))
        alias_target = asking.create_task(_alias_target(look, alias or reference.arn))
    return replace(
        facts,
        description=description,
        policy=policy.result(),
        grants=grants.result(),
        rotation=_settled(rotation.result()),
        rotations=rotations.result(),
        tags=tags.result(),
        aliases=aliases.result(),
        alias_target=alias_target.result(),
    )


def _settled(rotation: Fact[Rotation]) -> Fact[Rotation]:
    """KMS says of keys that can't be rotated by themselves that they don't have such a thing: they aren't, then."""
    if (
        isinstance(rotation, Unknown)
        and rotation.cause == "unsupported"
        and "UnsupportedOperation" in rotation.reason
    ):
        return Known(Rotation(automatic=False))
    return rotation


async def _description(look: _Look, name: str) -> Fact[KeyAttributes]:
    return await look.seer.ask(f"kms:DescribeKey of {name}", lambda: answers.description(look.kms, name))


async def _aliases(look: _Look, key_arn: str) -> Fact[tuple[str, ...]]:
    if not look.looker_account:
        return Unknown("unreachable", "kms:ListAliases: whose aliases it would list isn't known")
    return await look.ask_at_home("kms:ListAliases", lambda: answers.aliases(look.kms, key_arn))


async def _alias_target(look: _Look, name: str) -> Fact[str]:
    described = await _description(look, name)
    return Known(described.value.arn) if isinstance(described, Known) else described
