"""The custodies on which the contract of keys that are brought is tried, and what each lets a test do to it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Protocol

from aiobotocore.session import AioSession, get_session
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rekeyd.custody.aws_kms import AwsKms, KmsAccess, KmsRoles
from rekeyd.custody.material import held
from rekeyd.custody.memory import MemoryCustody
from rekeyd.custody.port import Custody
from rekeyd.custody.wrapping import PemUnwrapper, oaep, public_half, wrap
from rekeyd.domain.custody import BroughtKey, Errand, KeyHome, material_alias
from rekeyd.domain.key import WrappedKey
from rekeyd.sandbox import Sandbox
from tests.doubles.kms import BREAK_GLASS, PROVISION, REVOKE, USE, KmsDouble, served

REGION = "us-east-1"
HOME = KeyHome(REGION, "byok-acme")
ROLES = KmsRoles(provision=PROVISION, revoke=REVOKE, break_glass=BREAK_GLASS, use=(USE,))


@cache
def our_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


def unwrapper() -> PemUnwrapper:
    return PemUnwrapper(our_key())


def new_secret() -> bytes:
    return secrets.token_bytes(32)


def wrapped(secret: bytes) -> WrappedKey:
    """What a tenant sends."""
    with held(bytearray(secret)) as material:
        return wrap(public_half(our_key().public_key()).pem.encode(), material)


def wrapped_unchecked(
    content: bytes, digest_of: bytes | None = None, key: rsa.RSAPrivateKey | None = None
) -> WrappedKey:
    """What a tenant sends that doesn't use our command."""
    digest = hashlib.sha256(content if digest_of is None else digest_of).digest()
    return WrappedKey(
        kind="wrapped",
        wrapped_key=base64.b64encode((key or our_key()).public_key().encrypt(content, oaep())).decode(),
        sha256=base64.b64encode(digest).decode(),
        material="aes-256",
    )


def wrapped_for(public_key: str, secret: bytes) -> bytes:
    """What a tenant makes of an offer, with no command of ours."""
    key = serialization.load_pem_public_key(public_key.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    return key.encrypt(secret, oaep())


def errand(tenant: str, job: str = "job-1") -> Errand:
    return Errand(tenant, job)


def names_of(brought: BroughtKey) -> tuple[str, str]:
    """The aliases that a key has when it was brought: its tenant's, and its material's."""
    return brought.alias_arn, f"{brought.arn.partition(':key/')[0]}:{material_alias(brought.fingerprint)}"


class World(Protocol):
    """Looks behind a custody, and does to it what happens to it."""

    custody: Custody

    async def count_keys(self, tenant: str) -> int: ...

    async def state_of(self, arn: str) -> str: ...

    async def pointed(self, alias_arn: str) -> str | None: ...

    async def own_key(self) -> str:
        """The ARN of a key whose material the service made."""

    async def drop_names(self, brought: BroughtKey) -> None:
        """Leave things as a death between making a key and marking it does."""


class MemoryWorld:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.service = MemoryCustody(unwrapper(), lambda: self.now)
        self.custody: Custody = self.service

    async def count_keys(self, tenant: str) -> int:
        return sum(key.tags.get("rekeyd:tenant") == tenant for key in self.service.keys.values())

    async def state_of(self, arn: str) -> str:
        return self.service.keys[arn].state

    async def pointed(self, alias_arn: str) -> str | None:
        return self.service.aliases.get(alias_arn)

    async def own_key(self) -> str:
        arn = self.service.service.make(REGION, {})
        self.service.keys[arn].state, self.service.keys[arn].imported = "Enabled", False
        return arn

    async def drop_names(self, brought: BroughtKey) -> None:
        for alias_arn in names_of(brought):
            del self.service.aliases[alias_arn]

    def advance(self, seconds: float) -> None:
        self.now += seconds


class DoubleWorld:
    """Our own double of AWS: with roles, key policies and time."""

    def __init__(self, kms: KmsDouble, custody: Custody) -> None:
        self.kms = kms
        self.custody = custody

    async def count_keys(self, tenant: str) -> int:
        tag = {"TagKey": "rekeyd:tenant", "TagValue": tenant}
        return sum(tag in key.tags for key in self.kms.keys.values())

    async def state_of(self, arn: str) -> str:
        return self.kms.keys[arn].state

    async def pointed(self, alias_arn: str) -> str | None:
        return self.kms.aliases.get(alias_arn)

    async def own_key(self) -> str:
        return self.kms.make_key().arn

    async def drop_names(self, brought: BroughtKey) -> None:
        for alias_arn in names_of(brought):
            del self.kms.aliases[alias_arn]

    def advance(self, seconds: float) -> None:
        self.kms.now += seconds


class EmulatorWorld:
    def __init__(self, kms: Any, custody: Custody) -> None:  # noqa: ANN401 - a client is made of its service's model
        self._kms = kms
        self.custody = custody

    async def count_keys(self, tenant: str) -> int:
        count = 0
        for key in (await self._kms.list_keys())["Keys"]:
            tags = (await self._kms.list_resource_tags(KeyId=key["KeyId"]))["Tags"]
            count += {"TagKey": "rekeyd:tenant", "TagValue": tenant} in tags
        return count

    async def state_of(self, arn: str) -> str:
        return str((await self._kms.describe_key(KeyId=arn))["KeyMetadata"]["KeyState"])

    async def pointed(self, alias_arn: str) -> str | None:
        try:
            return str((await self._kms.describe_key(KeyId=alias_arn))["KeyMetadata"]["Arn"])
        except self._kms.exceptions.NotFoundException:
            return None

    async def own_key(self) -> str:
        return str((await self._kms.create_key())["KeyMetadata"]["Arn"])

    async def drop_names(self, brought: BroughtKey) -> None:
        for alias_arn in names_of(brought):
            await self._kms.delete_alias(AliasName=alias_arn.rpartition(":")[2])


def session_with(access_key_id: str, secret_access_key: str) -> AioSession:
    session = get_session()
    session.set_credentials(access_key_id, secret_access_key)
    return session


def access(endpoint_url: str) -> KmsAccess:
    return KmsAccess(
        region=REGION,
        endpoint_url=endpoint_url,
        request_seconds_max=30,
        connect_seconds_max=5,
        connections_max=4,
        sts_endpoint_url=endpoint_url,
    )


@asynccontextmanager
async def double_world(
    roles: KmsRoles = ROLES, unwraps_with: str | None = None
) -> AsyncGenerator[DoubleWorld, None]:
    async with served(KmsDouble()) as kms:
        session = session_with("AKIDUSE", "secret")
        custody = AwsKms(session, access(kms.endpoint_url), roles, unwraps_with or unwrapper())
        async with custody:
            yield DoubleWorld(kms, custody)


@asynccontextmanager
async def emulator_world(sandbox: Sandbox) -> AsyncGenerator[EmulatorWorld, None]:
    session = session_with(sandbox.access_key_id, sandbox.secret_access_key)
    async with (
        session.create_client("kms", region_name=REGION, endpoint_url=sandbox.kms_endpoint) as client,
        AwsKms(session, access(sandbox.kms_endpoint), unwrapper=unwrapper()) as custody,
    ):
        yield EmulatorWorld(client, custody)
