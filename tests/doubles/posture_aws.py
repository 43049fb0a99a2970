"""KMS and STS as a look at a key asks them: what the emulator lacks, refusals and strange answers, is scripted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

REGION = "us-east-1"
ACCOUNT = "111122223333"
VENDOR = "444455556666"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/acme"
ALIAS = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/acme"


@dataclass
class ScriptedAws:
    """KMS and STS at one address; what isn't scripted is answered as of an enabled key in good order.

    Refusals are as documented: AccessDeniedException of KMS with status 400 ("Common errors", AWS KMS API Reference),
    AccessDenied of STS with status 403 ("Common errors", AWS STS API Reference).
    """

    caller: str = f"arn:aws:iam::{ACCOUNT}:role/keeper"
    refusals: dict[str, str] = field(default_factory=dict)
    """By operation: the code with which it is refused."""
    said: dict[str, Any] = field(default_factory=dict)
    """By operation: what it answers instead."""
    asked: list[str] = field(default_factory=list)
    signed_by: dict[str, str] = field(default_factory=dict)
    """By operation: the credentials that asked last."""
    external_id: str = ""
    endpoint_url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        target = request.headers.get("X-Amz-Target", "")
        form = {} if target else parse_qs(await request.text())
        operation = target.removeprefix("TrentService.") or form["Action"][0]
        self.asked.append(operation)
        credential = request.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
        self.signed_by[operation] = credential
        if target:
            return self._kms(operation)
        return self._sts(operation, {name: values[0] for name, values in form.items()})

    def _kms(self, operation: str) -> web.Response:
        if code := self.refusals.get(operation):
            return web.json_response({"__type": code, "message": "so it is"}, status=400)
        return web.json_response(self.said.get(operation, GOOD[operation]))

    def _sts(self, operation: str, form: Mapping[str, str]) -> web.Response:
        if code := self.refusals.get(operation):
            body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
            return web.Response(text=body, status=403, content_type="text/xml")
        self.external_id = form.get("ExternalId", self.external_id)
        result = (
            f"<Arn>{self.caller}</Arn><Account>{self.caller.split(':')[4]}</Account><UserId>x</UserId>"
            if operation == "GetCallerIdentity"
            else "<Credentials><AccessKeyId>AKIDROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            "<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
        )
        body = f"<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>"
        return web.Response(text=body, content_type="text/xml")


GOOD: Mapping[str, Any] = {
    "DescribeKey": {
        "KeyMetadata": {
            "Arn": KEY,
            "KeyId": "acme",
            "AWSAccountId": ACCOUNT,
            "KeyState": "Enabled",
            "KeyManager": "CUSTOMER",
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "Origin": "AWS_KMS",
            "MultiRegion": False,
        }
    },
    "GetKeyPolicy": {"Policy": json.dumps({"Statement": []}), "PolicyName": "default"},
    "ListGrants": {"Grants": [], "Truncated": False},
    "GetKeyRotationStatus": {"KeyRotationEnabled": True, "RotationPeriodInDays": 365},
    "ListKeyRotations": {"Rotations": [], "Truncated": False},
    "ListResourceTags": {"Tags": [], "Truncated": False},
    "ListAliases": {"Aliases": [{"AliasName": "alias/acme", "AliasArn": ALIAS}], "Truncated": False},
}
FACT_OF = {
    "DescribeKey": "description",
    "GetKeyPolicy": "policy",
    "ListGrants": "grants",
    "GetKeyRotationStatus": "rotation",
    "ListKeyRotations": "rotations",
    "ListResourceTags": "tags",
    "ListAliases": "aliases",
}


@asynccontextmanager
async def served(aws: ScriptedAws) -> AsyncIterator[ScriptedAws]:
    app = web.Application()
    app.router.add_post("/", aws.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    aws.endpoint_url = f"http://{host}:{port}"
    yield aws
    await runner.cleanup()
