"""AWS KMS through aiobotocore: customer keys that stay in the tenant's own account.

An alias is looked up by describing it, never by listing: kms:ListAliases doesn't work across accounts,
kms:DescribeKey takes the ARN of another account's key or alias (AWS KMS API Reference, "ListAliases" and
"DescribeKey"). It succeeds in every key state ("Key states of AWS KMS keys").
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from rekeyd.domain.errors import CustodyError, ForeignKeyError, KeyForbiddenError
from rekeyd.domain.key import KeyDescription, KmsKey

if TYPE_CHECKING:
    from types import TracebackType

    from aiobotocore.session import AioSession
    from types_aiobotocore_kms.client import KMSClient

_MISSING_CODES = frozenset({"NotFoundException", "InvalidArnException"})
_FORBIDDEN_CODES = frozenset({"AccessDeniedException", "AccessDenied"})


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


class AwsKms:
    """A custody. It is an asynchronous context manager: describe within it.

    Retries are the caller's: the SDK makes none.
    """

    def __init__(self, session: AioSession, access: KmsAccess) -> None:
        self._session = session
        self._access = access
        self._resources = AsyncExitStack()
        self._usual: KMSClient | None = None

    async def __aenter__(self) -> Self:
        """Open the connections that are kept. Nothing is sent yet."""
        self._usual = await self._resources.enter_async_context(self._open(self._access.region))
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

    async def describe(self, key: KmsKey) -> KeyDescription | None:
        """What KMS says of the key and of its alias, with one DescribeKey for each. See the port."""
        described = await self._describe(key.region, key.arn)
        if described is None:
            return None
        alias = await self._describe(key.alias_region, key.alias)
        try:
            return KeyDescription(
                arn=str(described["Arn"]),
                state=str(described["KeyState"]),
                usage=str(described["KeyUsage"]),
                spec=str(described["KeySpec"]),
                alias_target_arn=None if alias is None else str(alias["Arn"]),
            )
        except KeyError as missing:
            raise CustodyError(f"kms:DescribeKey of {key.arn}: no {missing}") from missing

    async def disable(self, arn: str) -> str:
        """kms:DisableKey. See the port."""
        return await self._switch("DisableKey", arn, lambda kms: kms.disable_key(KeyId=arn))

    async def enable(self, arn: str) -> str:
        """kms:EnableKey. See the port."""
        return await self._switch("EnableKey", arn, lambda kms: kms.enable_key(KeyId=arn))

    async def delete_material(self, arn: str) -> str:
        """kms:DeleteImportedKeyMaterial, of a key whose origin is EXTERNAL. See the port."""
        described = await self._describe(arn.split(":")[3], arn)
        if described is not None and described.get("Origin") != "EXTERNAL":
            raise ForeignKeyError(f"{arn}: its material was not imported, it is the key service's own")
        return await self._switch(
            "DeleteImportedKeyMaterial", arn, lambda kms: kms.delete_imported_key_material(KeyId=arn)
        )

    async def _switch(self, operation: str, arn: str, call: Callable[[KMSClient], Awaitable[Any]]) -> str:
        """One call for a key of our own account, which the endpoint's credentials belong to.

        None of these takes another account's key ("Cross-account use: No", AWS KMS API Reference, "DisableKey",
        "EnableKey", "DeleteImportedKeyMaterial").
        """
        try:
            async with asyncio.timeout(self._access.request_seconds_max):
                async with self._client(arn.split(":")[3]) as kms:
                    answer = await call(kms)
            return str(answer["ResponseMetadata"].get("RequestId", ""))
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            words = f"kms:{operation} of {arn}: {error}"
            if code in _FORBIDDEN_CODES:
                raise KeyForbiddenError(words) from error
            raise CustodyError(words) from error
        except (BotoCoreError, aiohttp.ClientError, OSError, KeyError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise CustodyError(f"kms:{operation} of {arn}: {words}") from error

    async def _describe(self, region: str, name: str) -> Mapping[str, Any] | None:
        try:
            async with asyncio.timeout(self._access.request_seconds_max), self._client(region) as kms:
                answer = await kms.describe_key(KeyId=name)
                return answer["KeyMetadata"]
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _MISSING_CODES:
                return None
            words = f"kms:DescribeKey of {name}: {error}"
            if code in _FORBIDDEN_CODES:
                raise KeyForbiddenError(words) from error
            raise CustodyError(words) from error
        except (BotoCoreError, aiohttp.ClientError, OSError, KeyError, ValueError) as error:
            # TimeoutError is an OSError. KeyError, ValueError: an answer that isn't KMS's.
            words = str(error) or type(error).__name__
            raise CustodyError(f"kms:DescribeKey of {name}: {words}") from error

    @asynccontextmanager
    async def _client(self, region: str) -> AsyncIterator[KMSClient]:
        """Give the client that is kept, or for any other region one for this call alone.

        Regions come out of messages: keeping a client for each would let a sender fill the memory.
        """
        if region == self._access.region:
            assert self._usual is not None, "used outside its context"
            yield self._usual
        else:
            async with self._open(region) as passing:
                yield passing

    @asynccontextmanager
    async def _open(self, region: str) -> AsyncIterator[KMSClient]:
        config = AioConfig(
            connect_timeout=self._access.connect_seconds_max,
            read_timeout=self._access.request_seconds_max,
            max_pool_connections=self._access.connections_max,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        async with self._session.create_client(
            "kms",
            region_name=region,
            endpoint_url=self._access.endpoint_url or None,
            config=config,
        ) as client:
            yield client
