"""Buckets and their configuration, through aiobotocore. Nothing here is on the way of an object's bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)

from rekeyd.domain.bucket_policy import Policy
from rekeyd.domain.errors import (
    AccessDeniedError,
    ClaimLostError,
    NotFoundError,
    StoreError,
    UnavailableError,
)
from rekeyd.domain.objects import Encryption
from rekeyd.stores.buckets import BucketDescription, BucketRules
from rekeyd.stores.port import LiveClaim
from rekeyd.stores.s3.checksums import with_content_md5
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.errors import translate
from rekeyd.stores.s3.rules import NOT_IMPLEMENTED, Owned, read_rules, write_expiry, write_policy
from rekeyd.stores.s3.sdk_answers import header, refusal, versioning

if TYPE_CHECKING:
    from types import TracebackType

    from aiobotocore.session import AioSession
    from types_aiobotocore_s3.client import S3Client as BotoClient
    from types_aiobotocore_s3.type_defs import (
        PublicAccessBlockConfigurationTypeDef,
        ServerSideEncryptionConfigurationTypeDef,
        TagTypeDef,
    )

_Answer = TypeVar("_Answer")

_FIRST_REGION = "us-east-1"
"""The one region that CreateBucket takes no LocationConstraint for ("CreateBucket", Amazon S3 API Reference)."""
_CONNECTIONS_MAX = 8
_EVERY_BLOCK: PublicAccessBlockConfigurationTypeDef = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


class S3BucketControl:
    """The control plane of one S3 store. It is an asynchronous context manager; retries are the caller's."""

    def __init__(self, config: S3Config, session: AioSession) -> None:
        self._config = config
        self._session = session
        self._resources = AsyncExitStack()
        self._usual: BotoClient | None = None

    async def __aenter__(self) -> Self:
        """Open the client of the store's own region. Nothing is sent yet."""
        self._usual = await self._resources.enter_async_context(self._open(self._config.region))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close its connections."""
        self._usual = None
        await self._resources.aclose()

    async def describe(self, bucket: str) -> BucketDescription | None:
        """See the port. It takes six requests: a change made meanwhile may show in part."""
        s3, owned = self._client(), self._owned(bucket)
        try:
            found = await self._ask("HeadBucket", lambda: s3.head_bucket(**owned))
        except NotFoundError:
            return None
        encryption, bucket_key = await self._default_encryption(owned)
        return BucketDescription(
            region=header(found, "x-amz-bucket-region") or self._config.region,
            versioning=versioning(
                await self._ask("GetBucketVersioning", lambda: s3.get_bucket_versioning(**owned))
            ),
            default_encryption=encryption,
            bucket_key=bucket_key,
            tags=await self._tags(owned),
            public_access_blocked=await self._public_access_blocked(owned),
            object_lock=await self._object_lock(owned),
        )

    async def create(
        self,
        bucket: str,
        region: str,
        *,
        versioned: bool = False,
        object_lock: bool = False,
        claim: LiveClaim,
    ) -> None:
        """See the port. ACLs are off: the owner of the bucket owns every object in it."""
        async with self._client_in(region) as s3:
            # Of a bucket that is ours SeaweedFS says so only where the lock is asked for as it was made.
            ours = await self._made(s3, bucket, region, object_lock, claim) or await self._made(
                s3, bucket, region, not object_lock, claim
            )
        if not ours:
            raise AccessDeniedError(
                "CreateBucket", "the name belongs to somebody else", code="BucketAlreadyExists"
            )
        # In us-east-1 AWS says of a bucket that is ours already that it was created ("CreateBucket").
        if versioned or object_lock:
            await self.enable_versioning(bucket, claim=claim)
        if object_lock and not await self._object_lock(self._owned(bucket)):
            await self._enable_object_lock(bucket, claim)

    async def _made(
        self,
        s3: BotoClient,
        bucket: str,
        region: str,
        object_lock: bool,  # noqa: FBT001 - there is no other
        claim: LiveClaim,
    ) -> bool:
        """Make a bucket, unless it's ours already. False where the name is taken."""
        options: dict[str, Any] = {"ObjectLockEnabledForBucket": True} if object_lock else {}
        if region != _FIRST_REGION:
            options["CreateBucketConfiguration"] = {"LocationConstraint": region}
        try:
            await self._ask(
                "CreateBucket",
                lambda: s3.create_bucket(Bucket=bucket, ObjectOwnership="BucketOwnerEnforced", **options),
                claim,
            )
        except StoreError as error:
            if error.code not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
                raise
            return error.code != "BucketAlreadyExists"
        return True

    async def enable_versioning(self, bucket: str, *, claim: LiveClaim) -> None:
        """See the port."""
        s3, owned = self._client(), self._owned(bucket)
        await self._ask(
            "PutBucketVersioning",
            lambda: s3.put_bucket_versioning(**owned, VersioningConfiguration={"Status": "Enabled"}),
            claim,
        )

    async def _enable_object_lock(self, bucket: str, claim: LiveClaim) -> None:
        """Of a bucket that was made without ("Configuring S3 Object Lock", Amazon S3 User Guide)."""
        s3, owned = self._client(), self._owned(bucket)
        await self._ask(
            "PutObjectLockConfiguration",
            lambda: s3.put_object_lock_configuration(
                **owned, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
            ),
            claim,
        )

    async def set_tags(self, bucket: str, tags: Mapping[str, str], *, claim: LiveClaim) -> None:
        """See the port."""
        tag_set: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in tags.items()]
        s3, owned = self._client(), self._owned(bucket)
        if tag_set:
            await self._ask(
                "PutBucketTagging",
                lambda: s3.put_bucket_tagging(**owned, Tagging={"TagSet": tag_set}),
                claim,
            )
        else:
            await self._ask("DeleteBucketTagging", lambda: s3.delete_bucket_tagging(**owned), claim)

    async def set_default_key(self, bucket: str, key_arn: str, *, claim: LiveClaim) -> None:
        """See the port."""
        encryption: ServerSideEncryptionConfigurationTypeDef = {
            "Rules": [
                {
                    "ApplyServerSideEncryptionByDefault": {
                        "SSEAlgorithm": "aws:kms",
                        "KMSMasterKeyID": key_arn,
                    },
                    "BucketKeyEnabled": False,
                }
            ]
        }
        s3, owned = self._client(), self._owned(bucket)
        await self._ask(
            "PutBucketEncryption",
            lambda: s3.put_bucket_encryption(**owned, ServerSideEncryptionConfiguration=encryption),
            claim,
        )

    async def block_public_access(self, bucket: str, *, claim: LiveClaim) -> bool:
        """See the port."""
        s3, owned = self._client(), self._owned(bucket)
        try:
            await self._ask(
                "PutPublicAccessBlock",
                lambda: s3.put_public_access_block(**owned, PublicAccessBlockConfiguration=_EVERY_BLOCK),
                claim,
            )
        except StoreError as error:
            if error.code in NOT_IMPLEMENTED:
                return False
            raise
        return True

    async def describe_rules(self, bucket: str) -> BucketRules:
        """See the port."""
        return await read_rules(self._ask, self._client(), self._owned(bucket))

    async def set_policy(self, bucket: str, policy: Policy, *, claim: LiveClaim) -> bool:
        """See the port."""
        return await write_policy(self._ask, self._client(), self._owned(bucket), policy, claim)

    async def expire_unfinished_uploads(self, bucket: str, days: int, *, claim: LiveClaim) -> bool:
        """See the port."""
        return await write_expiry(self._ask, self._client(), self._owned(bucket), days, claim)

    async def _default_encryption(self, owned: Owned) -> tuple[Encryption, bool]:
        s3 = self._client()
        try:
            answer = await self._ask("GetBucketEncryption", lambda: s3.get_bucket_encryption(**owned))
        except StoreError as error:
            if error.code == "ServerSideEncryptionConfigurationNotFoundError":
                return Encryption(""), False
            raise
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        rule = rules[0] if rules else {}
        default = rule.get("ApplyServerSideEncryptionByDefault", {})
        encryption = Encryption(default.get("SSEAlgorithm", ""), default.get("KMSMasterKeyID", ""))
        return encryption, bool(rule.get("BucketKeyEnabled", False))

    async def _tags(self, owned: Owned) -> dict[str, str]:
        s3 = self._client()
        try:
            answer = await self._ask("GetBucketTagging", lambda: s3.get_bucket_tagging(**owned))
        except StoreError as error:
            if error.code == "NoSuchTagSet":
                return {}
            raise
        return {tag["Key"]: tag.get("Value", "") for tag in answer.get("TagSet", [])}

    async def _object_lock(self, owned: Owned) -> bool:
        s3 = self._client()
        try:
            answer = await self._ask(
                "GetObjectLockConfiguration", lambda: s3.get_object_lock_configuration(**owned)
            )
        except StoreError as error:
            if error.code == "ObjectLockConfigurationNotFoundError" or error.code in NOT_IMPLEMENTED:
                return False
            raise
        return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

    async def _public_access_blocked(self, owned: Owned) -> bool | None:
        s3 = self._client()
        try:
            answer = await self._ask("GetPublicAccessBlock", lambda: s3.get_public_access_block(**owned))
        except StoreError as error:
            if error.code == "NoSuchPublicAccessBlockConfiguration":
                return False
            if error.code in NOT_IMPLEMENTED:
                return None
            raise
        said = answer.get("PublicAccessBlockConfiguration", {})
        return all(said.get(name) is True for name in _EVERY_BLOCK)

    async def _ask(
        self, operation: str, call: Callable[[], Awaitable[_Answer]], claim: LiveClaim | None = None
    ) -> _Answer:
        """Make a call within its time. Raises StoreError, ClaimLostError.

        Where a call under a claim ends without its answer, however that comes about, the claim is told.
        """
        now = asyncio.get_running_loop().time()
        deadline = now + self._config.answer_seconds_max if claim is None else claim.call_deadline()
        if deadline <= now:
            raise ClaimLostError(f"{operation}: its deadline has passed")
        with _unanswered_told(claim, deadline):
            try:
                async with asyncio.timeout_at(deadline):
                    return await call()
            except ClientError as error:
                said = refusal(error)
                refused = translate(operation, said)
                # Somebody between here and the store, which may have it and still be at it.
                refused.outcome_unknown = not said.spoken
                raise refused from error
            except (BotoCoreError, aiohttp.ClientError, OSError) as error:
                silent = UnavailableError(operation, f"no answer: {type(error).__name__} {error}")
                silent.outcome_unknown = not _never_sent(error)
                raise silent from error

    def _owned(self, bucket: str) -> Owned:
        if self._config.account_id:
            return {"Bucket": bucket, "ExpectedBucketOwner": self._config.account_id}
        return {"Bucket": bucket}

    def _client(self) -> BotoClient:
        assert self._usual is not None, "used outside its context"
        return self._usual

    @asynccontextmanager
    async def _client_in(self, region: str) -> AsyncGenerator[BotoClient]:
        if region == self._config.region:
            yield self._client()
        else:
            async with self._open(region) as passing:
                yield passing

    @asynccontextmanager
    async def _open(self, region: str) -> AsyncGenerator[BotoClient]:
        config = self._config
        bounds = AioConfig(
            connect_timeout=config.connect_seconds_max,
            read_timeout=config.answer_seconds_max,
            max_pool_connections=_CONNECTIONS_MAX,
            # One owner of retries, and it isn't the SDK.
            retries={"total_max_attempts": 1},
            # Newer default checksums break compatible stores.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if config.endpoint_url else "virtual"},
        )
        async with self._session.create_client(
            "s3", region_name=region, config=bounds, endpoint_url=config.endpoint_url or None
        ) as client:
            if config.account_id:
                client.meta.events.register("before-parameter-build.s3.HeadBucket", self._name_owner)
            client.meta.events.register("before-call.s3", with_content_md5)
            yield client

    def _name_owner(self, params: dict[str, Any], **_: object) -> None:
        """Have botocore, too, name the owner: after a redirect it asks by itself where a bucket is."""
        params.setdefault("ExpectedBucketOwner", self._config.account_id)


@contextmanager
def _unanswered_told(claim: LiveClaim | None, deadline: float) -> Generator[None]:
    """Tell the claim where the call that is made within ends without its answer, by a cancellation, say."""
    try:
        yield
    except BaseException as error:
        settled = isinstance(error, StoreError) and not error.outcome_unknown
        if claim is not None and not settled:
            claim.unanswered(deadline)
        raise


def _never_sent(error: Exception) -> bool:
    """Whether there was no connection to send a call on.

    aiobotocore calls a connection that broke amid a call by the same name as one that never came to be.
    """
    if isinstance(error, EndpointConnectionError):
        return isinstance(error.kwargs.get("error"), aiohttp.ClientConnectorError)
    return isinstance(error, ConnectTimeoutError | NoCredentialsError | PartialCredentialsError)
