"""AWS KMS as far as a signing key goes, over HTTP: what neither emulator has.

It imitates the AWS KMS API Reference: "GetPublicKey" (KeySpec, KeyUsage, SigningAlgorithms, PublicKey as DER
SubjectPublicKeyInfo, base64 in JSON 1.1), "Sign" (Message of at most 4,096 bytes, MessageType RAW or DIGEST,
SigningAlgorithm; Signature), and their errors: KMSInvalidStateException for a key that isn't enabled,
InvalidKeyUsageException, NotFoundException, AccessDeniedException, ValidationException. Of Ed25519 keys: spec
ECC_NIST_EDWARDS25519, algorithms ED25519_SHA_512 (with RAW) and ED25519_PH_SHA_512 (with DIGEST), "Asymmetric key
specs", AWS KMS Developer Guide.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.doubles.certificates import public_key_of

ARN = "arn:aws:kms:eu-central-1:111122223333:key/signing"
MESSAGE_BYTES_MAX = 4096


class KmsDouble:
    """One key. Its attributes may be changed at any time."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.spec = "ECC_NIST_EDWARDS25519"
        self.usage = "SIGN_VERIFY"
        self.algorithms = ["ED25519_PH_SHA_512", "ED25519_SHA_512"]
        self.error = ""
        """The code of the error that every call gets."""
        self.signs_with: Ed25519PrivateKey | None = None
        """Where it isn't the key that is asked for."""
        self.asked: list[str] = []
        self.regions: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        operation = request.headers["x-amz-target"].removeprefix("TrentService.")
        self.asked.append(operation)
        self.regions.append(request.headers["authorization"].split("Credential=")[1].split("/")[2])
        asked = json.loads(await request.text())
        if self.error:
            return self._refused(self.error)
        if asked["KeyId"] != ARN:
            return self._refused("NotFoundException")
        if operation == "GetPublicKey":
            return self._json(
                KeyId=ARN,
                KeySpec=self.spec,
                KeyUsage=self.usage,
                SigningAlgorithms=self.algorithms,
                PublicKey=base64.b64encode(public_key_of(self.key).der).decode(),
            )
        message = base64.b64decode(asked["Message"])
        if len(message) > MESSAGE_BYTES_MAX:
            return self._refused("ValidationException")
        if (asked["MessageType"], asked["SigningAlgorithm"]) != ("RAW", "ED25519_SHA_512"):
            return self._refused("InvalidKeyUsageException")
        signature = (self.signs_with or self.key).sign(message)
        return self._json(
            KeyId=ARN, SigningAlgorithm="ED25519_SHA_512", Signature=base64.b64encode(signature).decode()
        )

    def _refused(self, code: str) -> web.Response:
        return web.json_response({"__type": code, "message": "no"}, status=400)

    def _json(self, **fields: object) -> web.Response:
        return web.json_response(fields, content_type="application/x-amz-json-1.1")


@asynccontextmanager
async def serving(kms: KmsDouble) -> AsyncGenerator[str]:
    """Serve it for as long as the context lasts; gives its address."""
    app = web.Application()
    app.router.add_post("/", kms.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
