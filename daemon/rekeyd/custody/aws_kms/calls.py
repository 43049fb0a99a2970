"""Calls of AWS KMS, as ourselves or in a role that is assumed for one errand; each is noted with its request id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypedDict

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from rekeyd.domain.custody import Errand, ProviderRequest, account_of
from rekeyd.domain.errors import CustodyError, KeyForbiddenError

if TYPE_CHECKING:
    from types import TracebackType

    from aiobotocore.session import AioSession
    from types_aiobotocore_kms.client import KMSClient
    from types_aiobotocore_sts.client import STSClient

MISSING_CODES = frozenset({"NotFoundException", "InvalidArnException"})
STATE_CODE = "KMSInvalidStateException"
_FORBIDDEN_CODES = frozenset({"AccessDeniedException", "AccessDenied"})

SESSION_SECONDS = 900
"""How long an assumed role lasts: the shortest that STS allows ("AssumeRole", AWS STS API Reference)."""


@dataclass(frozen=True, slots=True)
class KmsAccess:
    """How AWS KMS is reached."""

    region: str
    """Where most keys are: connections to it are kept."""
    endpoint_url: str
    """Empty: AWS, each key in its own region."""
    request_seconds_max: float
    """The longest that one request takes, from asking for credentials to the last byte of the answer."""
    connect_seconds_max: float
    connections_max: int
    sts_endpoint_url: str = ""
    """Of STS. Empty: AWS, or what AWS_ENDPOINT_URL_STS says."""


@dataclass(frozen=True, slots=True)
class KmsRoles:
    """Whom we act as, by the ARNs of roles; empty: as ourselves."""

    provision: str = ""
    """Makes keys, imports material, points aliases."""
    revoke: str = ""
    """Disables, enables, deletes imported material."""
    break_glass: str = ""
    """Has keys deleted."""
    use: tuple[str, ...] = ()
    """Named in the policies of the keys that we make as those who read and write the data; never assumed."""


class KmsRefusedError(CustodyError):
    """KMS said no, and why: `code` is its word for it."""

    def __init__(self, words: str, code: str, requests: tuple[ProviderRequest, ...]) -> None:
        super().__init__(words, requests)
        self.code = code


class _Credentials(TypedDict):
    """Of an assumed role, as the SDK takes them."""

    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose credentials these are."""

    account: str
    partition: str


@dataclass(slots=True)
class KmsCalls:
    """Calls on one errand, and the trail of them."""

    kms: KMSClient
    seconds_max: float
    requests: list[ProviderRequest] = field(default_factory=list)

    @property
    def trail(self) -> tuple[ProviderRequest, ...]:
        """What was asked until now."""
        return tuple(self.requests)

    async def ask(
        self, operation: str, about: str, call: Callable[[KMSClient], Awaitable[Any]], *, noted: bool = True
    ) -> Mapping[str, Any]:
        """The answer to one request.

        Raises KmsRefusedError, KeyForbiddenError, CustodyError, never with what was sent.
        """
        name = f"kms:{operation}"
        try:
            async with asyncio.timeout(self.seconds_max):
                answer: Mapping[str, Any] = await call(self.kms)
        except ClientError as error:
            code, words = _code(error), f"{name} of {about}: {error}"
            self.requests.append(ProviderRequest(name, _request_id(error.response), code))
            if code in _FORBIDDEN_CODES:
                raise KeyForbiddenError(words, self.trail) from error
            raise KmsRefusedError(words, code, self.trail) from error
        except (BotoCoreError, aiohttp.ClientError, OSError, KeyError, ValueError) as error:
            # TimeoutError is an OSError. KeyError, ValueError: an answer that isn't KMS's.
            self.requests.append(ProviderRequest(name, "", "unanswered"))
            words = str(error) or type(error).__name__
            raise CustodyError(f"{name} of {about}: {words}", self.trail) from error
        if noted:
            self.requests.append(ProviderRequest(name, _request_id(answer)))
        return answer

    async def describe(self, name: str) -> Mapping[str, Any] | None:
        """kms:DescribeKey of a key or an alias; None where there is none."""
        try:
            answer = await self.ask("DescribeKey", name, lambda kms: kms.describe_key(KeyId=name))
        except KmsRefusedError as refusal:
            if refusal.code in MISSING_CODES:
                return None
            raise
        metadata = answer.get("KeyMetadata")
        if not isinstance(metadata, Mapping) or not {"Arn", "KeyState"} <= metadata.keys():
            raise CustodyError(f"kms:DescribeKey of {name}: no description", self.trail)
        return metadata


class Gate:
    """The connections to KMS, and the roles in which they are used. An asynchronous context manager."""

    def __init__(self, session: AioSession, access: KmsAccess) -> None:
        self.access = access
        self._session = session
        self._resources = AsyncExitStack()
        self._usual: KMSClient | None = None
        self._own: Identity | None = None

    async def __aenter__(self) -> Self:
        """Open the connections that are kept. Nothing is sent yet."""
        self._usual = await self._resources.enter_async_context(self._open(self.access.region))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close them."""
        self._usual = None
        await self._resources.aclose()

    @asynccontextmanager
    async def as_ourselves(self, region: str) -> AsyncIterator[KmsCalls]:
        """Lend the client that is kept, or for any other region one for this errand alone.

        Regions come out of messages: keeping a client for each would let a sender fill the memory.
        """
        if region == self.access.region:
            assert self._usual is not None, "used outside its context"
            yield KmsCalls(self._usual, self.access.request_seconds_max)
        else:
            async with self._open(region) as passing:
                yield KmsCalls(passing, self.access.request_seconds_max)

    @asynccontextmanager
    async def acting(self, role_arn: str, errand: Errand, region: str) -> AsyncIterator[KmsCalls]:
        """Lend a client in a role that is assumed for this errand alone; as ourselves where it's empty."""
        if not role_arn:
            async with self.as_ourselves(region) as calls:
                yield calls
            return
        credentials, request = await self._assumed(role_arn, errand)
        async with self._open(region, credentials) as client:
            yield KmsCalls(client, self.access.request_seconds_max, [request])

    async def identity(self, role_arn: str) -> Identity:
        """In whose account we act. Of ourselves STS is asked once: credentials never change their account."""
        if role_arn:
            return Identity(account_of(role_arn), role_arn.split(":")[1])
        if self._own is None:
            answer = await self._ask_sts(
                "GetCallerIdentity", "ourselves", lambda sts: sts.get_caller_identity()
            )
            self._own = Identity(str(answer["Account"]), str(answer["Arn"]).split(":")[1])
        return self._own

    async def _assumed(self, role_arn: str, errand: Errand) -> tuple[_Credentials, ProviderRequest]:
        answer = await self._ask_sts(
            "AssumeRole",
            role_arn,
            lambda sts: sts.assume_role(
                RoleArn=role_arn, RoleSessionName=errand.session_name, DurationSeconds=SESSION_SECONDS
            ),
        )
        given = answer["Credentials"]
        credentials: _Credentials = {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }
        return credentials, ProviderRequest("sts:AssumeRole", _request_id(answer))

    async def _ask_sts(
        self, operation: str, about: str, call: Callable[[STSClient], Awaitable[Any]]
    ) -> Mapping[str, Any]:
        """Whatever is in the way is trouble of ours, never the key's: CustodyError and none of its kinds."""
        name = f"sts:{operation}"
        try:
            async with (
                asyncio.timeout(self.access.request_seconds_max),
                self._session.create_client(
                    "sts",
                    region_name=self.access.region,
                    endpoint_url=self.access.sts_endpoint_url or None,
                    config=self._config(),
                ) as sts,
            ):
                answer: Mapping[str, Any] = await call(sts)
                return answer
        except ClientError as error:
            request = ProviderRequest(name, _request_id(error.response), _code(error))
            advice = ": do the role's trust policy and our own let us?" if operation == "AssumeRole" else ""
            raise CustodyError(f"{name} of {about}: {error}{advice}", (request,)) from error
        except (BotoCoreError, aiohttp.ClientError, OSError, KeyError, ValueError) as error:
            words = str(error) or type(error).__name__
            request = ProviderRequest(name, "", "unanswered")
            raise CustodyError(f"{name} of {about}: {words}", (request,)) from error

    def _config(self) -> AioConfig:
        return AioConfig(
            connect_timeout=self.access.connect_seconds_max,
            read_timeout=self.access.request_seconds_max,
            max_pool_connections=self.access.connections_max,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )

    @asynccontextmanager
    async def _open(self, region: str, credentials: _Credentials | None = None) -> AsyncIterator[KMSClient]:
        async with self._session.create_client(
            "kms",
            region_name=region,
            endpoint_url=self.access.endpoint_url or None,
            config=self._config(),
            **(credentials or {}),
        ) as client:
            yield client


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _request_id(answer: object) -> str:
    metadata = answer.get("ResponseMetadata") if isinstance(answer, Mapping) else None
    return str(metadata.get("RequestId", "")) if isinstance(metadata, Mapping) else ""
