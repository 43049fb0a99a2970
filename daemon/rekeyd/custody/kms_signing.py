"""A signing key that never leaves AWS KMS: an asymmetric key for signing, of the spec ECC_NIST_EDWARDS25519.

Signed with ED25519_SHA_512 and the message type RAW: Ed25519 of RFC 8032 over the very bytes. The other algorithm of
such a key, ED25519_PH_SHA_512, signs a digest, and is another signature ("Asymmetric key specs", AWS KMS Developer
Guide). GetPublicKey gives the public half as a DER SubjectPublicKeyInfo ("GetPublicKey", AWS KMS API Reference).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from rekeyd.domain.errors import CustodyError, KeyForbiddenError
from rekeyd.domain.signed import PublicKey

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_kms.client import KMSClient

KEY_SPEC = "ECC_NIST_EDWARDS25519"
KEY_USAGE = "SIGN_VERIFY"
ALGORITHM = "ED25519_SHA_512"

_FORBIDDEN_CODES = frozenset({"AccessDeniedException", "AccessDenied"})


class KmsSigner:
    """A signer. Every signature is checked before it is given out: what a wrong key signs proves nothing later.

    Connections aren't kept: a signature is asked for once a certificate and once a checkpoint.
    """

    def __init__(
        self,
        session: AioSession,
        key_arn: str,
        *,
        endpoint_url: str,
        request_seconds_max: float,
        connect_seconds_max: float,
    ) -> None:
        """The key's region is the one that its ARN names. An empty `endpoint_url` is AWS."""
        self._session = session
        self._key_arn = key_arn
        self._endpoint_url = endpoint_url
        self._request_seconds_max = request_seconds_max
        self._connect_seconds_max = connect_seconds_max
        self._public_key: PublicKey | None = None

    async def public_key(self) -> PublicKey:
        """See the port. Asked for once; a key's material never changes, since asymmetric keys don't rotate."""
        if self._public_key is None:
            answer = await self._call("get_public_key")
            spec, usage = answer.get("KeySpec"), answer.get("KeyUsage")
            if (spec, usage) != (KEY_SPEC, KEY_USAGE) or ALGORITHM not in answer.get("SigningAlgorithms", ()):
                raise CustodyError(
                    f"{self._key_arn} is {spec} for {usage}: a key of the spec {KEY_SPEC} for {KEY_USAGE} is needed"
                )
            try:
                self._public_key = PublicKey.of_der(answer["PublicKey"])
            except (KeyError, ValueError) as error:
                raise CustodyError(f"kms:GetPublicKey of {self._key_arn}: {error}") from error
        return self._public_key

    async def sign(self, data: bytes) -> bytes:
        """See the port."""
        public_key = await self.public_key()
        answer = await self._call("sign", Message=data, MessageType="RAW", SigningAlgorithm=ALGORITHM)
        signature = answer.get("Signature")
        if not isinstance(signature, bytes) or not public_key.verifies(signature, data):
            raise CustodyError(f"kms:Sign with {self._key_arn}: what came back isn't its signature")
        return signature

    async def _call(self, operation: str, **parameters: object) -> Mapping[str, Any]:
        words = f"kms:{'Sign' if operation == 'sign' else 'GetPublicKey'} with {self._key_arn}"
        try:
            async with asyncio.timeout(self._request_seconds_max), self._client() as kms:
                answer: Mapping[str, Any] = await getattr(kms, operation)(KeyId=self._key_arn, **parameters)
                return answer
        except ClientError as error:
            if error.response.get("Error", {}).get("Code", "") in _FORBIDDEN_CODES:
                raise KeyForbiddenError(f"{words}: {error}") from error
            raise CustodyError(f"{words}: {error}") from error
        except (BotoCoreError, aiohttp.ClientError, OSError, ValueError) as error:
            # TimeoutError is an OSError. ValueError: an answer that isn't KMS's.
            raise CustodyError(f"{words}: {str(error) or type(error).__name__}") from error

    def _client(self) -> AbstractAsyncContextManager[KMSClient]:
        config = AioConfig(
            connect_timeout=self._connect_seconds_max,
            read_timeout=self._request_seconds_max,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        return self._session.create_client(
            "kms",
            region_name=self._key_arn.split(":")[3],
            endpoint_url=self._endpoint_url or None,
            config=config,
        )
